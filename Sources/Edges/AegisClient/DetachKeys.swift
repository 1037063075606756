/// Looks for ctrl-p ctrl-q in typed input, as docker does.
struct DetachKeys: Sendable {
    private static let first: UInt8 = 0x10
    private static let second: UInt8 = 0x11
    private var held = false

    /// The bytes to hand on, or nil when the keys were pressed. A ctrl-p is held until the next key decides.
    mutating func filter(_ bytes: [UInt8]) -> [UInt8]? {
        var out: [UInt8] = []
        for byte in bytes {
            if held {
                if byte == Self.second { return nil }
                out.append(Self.first)
                held = byte == Self.first
                if !held { out.append(byte) }
            } else if byte == Self.first {
                held = true
            } else {
                out.append(byte)
            }
        }
        return out
    }
}
