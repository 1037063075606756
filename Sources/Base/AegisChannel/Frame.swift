// The harness channel: the bytes between PID 1 of a sandbox, its keeper and the daemon. Compiled twice, for the host
// and for Embedded Swift, so: typed throws, no existentials, no Foundation, and text as UTF-8 bytes.

/// What a frame carries. Numbers below 64 travel the whole way, numbers from 64 on end at the keeper.
package enum FrameType: UInt8, Sendable {
    /// Bytes for a process; the header's stream is the process number, the payload starts with their offset.
    case stdin = 0
    /// Bytes that a process wrote; the payload starts with their offset.
    case stdout = 1
    /// As `stdout`, for standard error.
    case stderr = 2
    /// Everything below the offset in the payload was consumed; the flags name the stream (0, 1, 2).
    case ack = 3
    /// The harness is up (harness to daemon, first frame).
    case hello = 16
    /// Start a process.
    case start = 17
    /// A process runs.
    case started = 18
    /// A process could not be started.
    case failed = 19
    /// A process ended; sent after its last output byte.
    case exited = 20
    /// Send a signal to a process (or its group, flag 1).
    case signal = 21
    /// The terminal of a process has a new size.
    case resize = 22
    /// Is the harness alive? Answered by `healthy` with the same payload.
    case health = 23
    /// The answer to `health`.
    case healthy = 24
    /// End everything: SIGTERM to all, SIGKILL after the grace, then the harness exits.
    case shutdown = 25
    /// The daemon has recorded the end of a process: its number is free again.
    case forget = 26
    /// First frame of a daemon on a keeper's socket.
    case attach = 64
    /// What the keeper knows, its answer to `attach`; retained frames follow.
    case state = 65
    /// The plan of a sandbox (first frame to a new keeper).
    case boot = 66
    /// The sandbox is up.
    case booted = 67
    /// The sandbox could not be made; the keeper has undone what it did.
    case bootFailed = 68
    /// The sandbox ended; kept until `release`.
    case ended = 69
    /// The final record was saved: the keeper may go.
    case release = 70
    /// Kill the sandbox now.
    case kill = 71
}

/// Why bytes of a peer are not a valid frame or message.
package enum ChannelError: Error, Sendable, Equatable {
    /// A frame type that this protocol version does not know.
    case unknownType(UInt8)
    /// A payload over the limit of its type.
    case tooLong(type: UInt8, length: UInt32)
    /// A payload that does not decode as what its type says.
    case malformed(type: UInt8)
    /// A peer that speaks no version of ours.
    case version(UInt16)
}

/// The limits and versions of the channel.
package enum Channel {
    /// The flag of a `health` that comes before a sandbox is kept ready for somebody.
    package static let keptReadyFlag: UInt8 = 1
    /// The version from which on a harness knows that flag, and `ProcessKind.spare`.
    package static let keptReadyVersion: UInt16 = 3
    /// The version that this build speaks.
    package static let version: UInt16 = 3
    /// The oldest version that this build still speaks.
    package static let oldestVersion: UInt16 = 1
    /// Bytes of a header.
    package static let headerSize = 8
    /// The most bytes of process data in one frame, without the offset.
    package static let dataLimit = 65_536
    /// The most bytes of a control payload (arguments and environment of a process fit).
    package static let controlLimit = 1 << 18
    /// Unacknowledged bytes that one stream may have.
    package static let window: UInt64 = 262_144
    /// The most bytes of the payload of `health` and `healthy`.
    package static let healthLimit = 64
    /// The most bytes of the payload of `started`, `failed` and `exited`.
    package static let reportLimit = 4096
    /// Processes that a keeper remembers until they are forgotten.
    package static let processLimit = 512
    /// Processes that a harness runs at a time.
    package static let liveLimit = 256
    /// The number of the instance's own command.
    package static let taskProcess: UInt16 = 1
    /// The flag of a data frame after which its stream has no more bytes.
    package static let endFlag: UInt8 = 1
}

/// The eight bytes before each payload: type, flags, stream (big-endian), length (big-endian).
package struct FrameHeader: Sendable, Equatable {
    /// What the frame carries.
    package var type: FrameType
    /// Bits whose meaning depends on the type.
    package var flags: UInt8
    /// The process number, 0 where none is meant.
    package var stream: UInt16
    /// Bytes of payload that follow.
    package var length: UInt32

    /// Makes a header.
    package init(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, length: Int) {
        self.type = type
        self.flags = flags
        self.stream = stream
        self.length = UInt32(truncatingIfNeeded: length)
    }

    /// Reads a header; limits are checked before a byte of the payload is awaited.
    package init(_ b: (UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8, UInt8)) throws(ChannelError) {
        guard let type = FrameType(rawValue: b.0) else { throw ChannelError.unknownType(b.0) }
        self.type = type
        flags = b.1
        stream = UInt16(b.2) << 8 | UInt16(b.3)
        length = UInt32(b.4) << 24 | UInt32(b.5) << 16 | UInt32(b.6) << 8 | UInt32(b.7)
        let limit = type.isData ? Channel.dataLimit + 8 : Channel.controlLimit
        guard Int(length) <= limit else { throw ChannelError.tooLong(type: b.0, length: length) }
        guard !type.isData || length >= 8 else { throw ChannelError.malformed(type: b.0) }
    }

    /// Appends the eight bytes.
    package func encode(into out: inout [UInt8]) {
        out.append(type.rawValue)
        out.append(flags)
        out.append(UInt8(truncatingIfNeeded: stream >> 8))
        out.append(UInt8(truncatingIfNeeded: stream))
        for shift in [24, 16, 8, 0] as [UInt32] { out.append(UInt8(truncatingIfNeeded: length >> shift)) }
    }
}

extension FrameType {
    /// Whether the payload is an offset and bytes of a process.
    package var isData: Bool { rawValue <= 2 }
}

/// Writes the fields of messages, big-endian, text and lists with their length before them.
package struct FieldWriter: Sendable {
    /// What was written.
    package private(set) var bytes: [UInt8] = []
    /// Makes an empty writer.
    package init() {}
    /// Appends one byte.
    package mutating func u8(_ value: UInt8) { bytes.append(value) }
    /// Appends two bytes.
    package mutating func u16(_ value: UInt16) {
        u8(UInt8(truncatingIfNeeded: value >> 8))
        u8(UInt8(truncatingIfNeeded: value))
    }
    /// Appends four bytes.
    package mutating func u32(_ value: UInt32) {
        u16(UInt16(truncatingIfNeeded: value >> 16))
        u16(UInt16(truncatingIfNeeded: value))
    }
    /// Appends eight bytes.
    package mutating func u64(_ value: UInt64) {
        u32(UInt32(truncatingIfNeeded: value >> 32))
        u32(UInt32(truncatingIfNeeded: value))
    }
    /// Appends a length and the bytes.
    package mutating func text(_ value: [UInt8]) {
        u32(UInt32(truncatingIfNeeded: value.count))
        bytes.append(contentsOf: value)
    }
    /// Appends a count and each text.
    package mutating func texts(_ values: [[UInt8]]) {
        u16(UInt16(truncatingIfNeeded: values.count))
        for value in values { text(value) }
    }
}

/// Reads the fields of messages; every length is checked against what is there.
package struct FieldReader: Sendable {
    private let bytes: [UInt8]
    private var at: Int
    private let type: UInt8

    /// Reads from `offset` of a payload that belongs to a frame of `type`.
    package init(_ bytes: [UInt8], type: FrameType, from offset: Int = 0) {
        self.bytes = bytes
        self.at = offset
        self.type = type.rawValue
    }
    /// Bytes that were not read yet.
    package var remaining: Int { bytes.count - at }

    /// Reads one byte.
    package mutating func u8() throws(ChannelError) -> UInt8 {
        guard at < bytes.count else { throw ChannelError.malformed(type: type) }
        at += 1
        return bytes[at - 1]
    }
    /// Reads two bytes.
    package mutating func u16() throws(ChannelError) -> UInt16 {
        let high = try u8()
        return UInt16(high) << 8 | UInt16(try u8())
    }
    /// Reads four bytes.
    package mutating func u32() throws(ChannelError) -> UInt32 {
        let high = try u16()
        return UInt32(high) << 16 | UInt32(try u16())
    }
    /// Reads eight bytes.
    package mutating func u64() throws(ChannelError) -> UInt64 {
        let high = try u32()
        return UInt64(high) << 32 | UInt64(try u32())
    }
    /// Reads a length and the bytes.
    package mutating func text() throws(ChannelError) -> [UInt8] {
        let count = Int(try u32())
        guard count <= remaining else { throw ChannelError.malformed(type: type) }
        at += count
        return Array(bytes[at - count..<at])
    }
    /// Reads a count and each text.
    package mutating func texts() throws(ChannelError) -> [[UInt8]] {
        let count = Int(try u16())
        guard count * 4 <= remaining else { throw ChannelError.malformed(type: type) }
        var values: [[UInt8]] = []
        values.reserveCapacity(count)
        for _ in 0..<count { values.append(try text()) }
        return values
    }
    /// Refuses bytes after the last field, unless a newer peer may have added some.
    package func end(allowingMore: Bool = false) throws(ChannelError) {
        guard allowingMore || remaining == 0 else { throw ChannelError.malformed(type: type) }
    }
}
