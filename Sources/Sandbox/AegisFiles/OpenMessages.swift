internal import LinuxSys

/// What the helper is asked to open. Pure codec; the helper is ours, but both sides check.
struct OpenRequest: Sendable, Equatable {
    static let version: UInt8 = 1
    static let maximum = 16 << 10

    var path: String
    var needsDirectory: Bool
    var writes: Bool
    var user: UInt32
    var group: UInt32
    /// Nil: the helper asks the system's data bases.
    var groups: [UInt32]?

    func encode() -> [UInt8] {
        var out: [UInt8] = [Self.version, (needsDirectory ? 1 : 0) | (writes ? 2 : 0) | (groups == nil ? 4 : 0)]
        let groups = groups ?? []
        for value in [user, group, UInt32(groups.count)] + groups { out.append(big: value) }
        return framed(out + Array(path.utf8))
    }

    /// Nil for anything that `encode` does not make.
    init?(_ bytes: ArraySlice<UInt8>) {
        let bytes = Array(bytes)
        guard bytes.count >= 14, bytes[0] == Self.version, bytes[1] < 8 else { return nil }
        let count = Int(bytes.big(10))
        guard count <= 1024, bytes.count >= 14 + 4 * count,
            let path = String(validating: bytes[(14 + 4 * count)...], as: UTF8.self),
            path.hasPrefix("/"), !path.utf8.contains(0)
        else { return nil }
        needsDirectory = bytes[1] & 1 != 0
        writes = bytes[1] & 2 != 0
        user = bytes.big(2)
        group = bytes.big(6)
        groups = bytes[1] & 4 != 0 ? nil : (0..<count).map { bytes.big(14 + 4 * $0) }
        self.path = path
    }

    init(path: String, needsDirectory: Bool, writes: Bool, user: UInt32, group: UInt32, groups: [UInt32]?) {
        self.path = path
        self.needsDirectory = needsDirectory
        self.writes = writes
        self.user = user
        self.group = group
        self.groups = groups
    }
}

/// What came of it; a success travels with the descriptor.
struct OpenAnswer: Sendable, Equatable {
    /// The step that failed.
    enum Step: UInt8, Sendable { case none = 0, become, open, type, access }

    var step: Step
    var errno: Int32
    /// The deepest directory on the way that exists (for `ENOENT`, `ENOTDIR`, `EACCES`).
    var nearest: String

    func encode() -> [UInt8] {
        var out: [UInt8] = [OpenRequest.version, step.rawValue]
        out.append(big: UInt32(bitPattern: errno))
        return framed(out + Array(nearest.utf8))
    }

    init?(_ bytes: ArraySlice<UInt8>) {
        let bytes = Array(bytes)
        guard bytes.count >= 6, bytes[0] == OpenRequest.version, let step = Step(rawValue: bytes[1]) else { return nil }
        self.step = step
        errno = Int32(bitPattern: bytes.big(2))
        nearest = String(decoding: bytes[6...], as: UTF8.self)
    }

    init(step: Step, errno: Int32 = 0, nearest: String = "") {
        self.step = step
        self.errno = errno
        self.nearest = nearest
    }
}

/// Four bytes of length before a message.
private func framed(_ bytes: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    out.append(big: UInt32(bytes.count))
    return out + bytes
}

extension [UInt8] {
    mutating func append(big value: UInt32) {
        for shift: UInt32 in [24, 16, 8, 0] { append(UInt8(truncatingIfNeeded: value >> shift)) }
    }
    func big(_ at: Int) -> UInt32 {
        UInt32(self[at]) << 24 | UInt32(self[at + 1]) << 16 | UInt32(self[at + 2]) << 8 | UInt32(self[at + 3])
    }
}
