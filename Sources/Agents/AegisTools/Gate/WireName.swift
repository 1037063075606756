/// Names of tools as models are told them. Providers take 1 to 64 letters, digits, `_` and `-`.
enum WireName {
    private static let longest = 64

    /// The name to tell; `isTaken` says of one whether it stands for something else.
    static func of(_ name: String, isTaken: (String) -> Bool) -> String {
        let isPlain = name.utf8.allSatisfy { isLetter($0) }
        if isPlain, name.utf8.count <= longest { return name }
        var told: [UInt8] = []
        for byte in name.utf8 { told += isLetter(byte) ? [byte] : [0x5f, 0x5f] }
        let plain = String(decoding: told, as: UTF8.self)
        if told.count <= longest, !isTaken(plain) { return plain }
        let mark = Fingerprint.hex(of: Array(name.utf8)).prefix(12)
        return String(decoding: told.prefix(longest - 13), as: UTF8.self) + "_\(mark)"
    }

    private static func isLetter(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5a).contains(byte) || (0x61...0x7a).contains(byte) || byte == 0x5f
            || byte == 0x2d
    }
}
