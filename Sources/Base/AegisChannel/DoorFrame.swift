// The door: connections that programs inside make to the daemon, many of them over stdin and stdout of one process of kind
// `door`, which is no process but a part of the harness. Inside of those two streams go frames of its own.

/// The limits of a door.
package enum Door {
    /// The protocol version from which on a harness has one.
    package static let version: UInt16 = 2
    /// The process number that it has.
    package static let process: UInt16 = .max
    /// The number of one that was opened on the usual port before it was known whose sandbox it would be.
    package static let earlyProcess: UInt16 = .max - 1
    /// Bytes of a frame's header.
    package static let headerSize = 8
    /// The most bytes of a connection in one frame.
    package static let dataLimit = 16_384
    /// Connections that are open at a time.
    package static let connectionLimit = 64
    /// Bytes that a program may send before the daemon has granted any.
    package static let firstWindow = 8192
    /// Bytes that a program may send while the daemon serves it.
    package static let servedWindow = 65_536
    /// Bytes that the daemon may send before the harness has granted more.
    package static let downWindow = 32_768
    /// The most that may be granted and not used.
    package static let creditLimit = 1 << 20
}

/// What a frame of a door says.
package enum DoorFrame: UInt8, Sendable {
    /// A daemon begins: what an earlier one served is over (daemon).
    case begin = 0
    /// The answer: what is sent from here on knows of it; the payload is the last connection's number, u32 (harness).
    case begun = 1
    /// A program has connected; the payload is `DoorWay`, u8 (harness).
    case open = 2
    /// Bytes of a connection, at least one (both).
    case data = 3
    /// The sender sends no more (both).
    case finish = 4
    /// The connection is over, at once and in both directions (both).
    case reset = 5
    /// The receiver of this may send so many bytes more, u32; the first one of a daemon says that it knows the connection (both).
    case credit = 6
}

/// By which way a program came.
package enum DoorWay: UInt8, Sendable { case port = 0, socket = 1 }

/// Why a door is shut: the peer broke its rules.
package struct DoorBreach: Error, Sendable, Equatable {
    /// What the peer did.
    package let reason: StaticString
    /// Makes a breach.
    package init(_ reason: StaticString) { self.reason = reason }
    package static func == (a: DoorBreach, b: DoorBreach) -> Bool { a.text == b.text }
    /// The reason as UTF-8.
    package var text: [UInt8] { reason.withUTF8Buffer { unsafe Array($0) } }
}

/// The eight bytes before each payload: type, zero, length (u16), connection (u32), big-endian.
package struct DoorHeader: Sendable, Equatable {
    package var type: DoorFrame
    /// Bytes of payload that follow.
    package var length: Int
    /// The connection's number; they count up from 1 and are never used again. 0 with `begin` and `begun`.
    package var connection: UInt32

    /// Makes a header.
    package init(_ type: DoorFrame, _ connection: UInt32, length: Int) {
        self.type = type
        self.length = length
        self.connection = connection
    }

    /// Whether the payload has the length that its type says.
    var isSound: Bool {
        switch type {
        case .begin, .finish, .reset: length == 0
        case .open: length == 1
        case .begun, .credit: length == 4
        case .data: length > 0 && length <= Door.dataLimit
        }
    }

    /// The eight bytes.
    package var encoded: [UInt8] {
        var fields = FieldWriter()
        fields.u8(type.rawValue)
        fields.u8(0)
        fields.u16(UInt16(truncatingIfNeeded: length))
        fields.u32(connection)
        return fields.bytes
    }
}

extension ByteQueue {
    /// The header of the door's frame at the front if its whole payload is there too. It stays until `consumeDoorFrame`.
    package func doorFrame() throws(DoorBreach) -> DoorHeader? {
        guard count >= Door.headerSize else { return nil }
        guard let type = DoorFrame(rawValue: self[0]), self[1] == 0 else { throw DoorBreach("an unknown frame") }
        let header = DoorHeader(type, doorNumber(at: 4), length: Int(self[2]) << 8 | Int(self[3]))
        guard header.isSound else { throw DoorBreach("a frame of a wrong length") }
        return count >= Door.headerSize + header.length ? header : nil
    }

    /// Four bytes as a number.
    func doorNumber(at index: Int) -> UInt32 {
        var value: UInt32 = 0
        for i in index..<index + 4 { value = value << 8 | UInt32(self[i]) }
        return value
    }

    /// The bytes of the door's `data` frame at the front.
    package func withDoorData<R>(of header: DoorHeader, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        let range = Door.headerSize..<Door.headerSize + header.length
        return unsafe withBytes { unsafe body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// Forgets the door's frame at the front.
    package mutating func consumeDoorFrame(_ header: DoorHeader) { consume(Door.headerSize + header.length) }

    /// Appends a frame of a door that carries no data.
    mutating func appendDoor(_ type: DoorFrame, _ connection: UInt32, _ payload: [UInt8] = []) {
        append(DoorHeader(type, connection, length: payload.count).encoded)
        append(payload)
    }

    /// Bytes of the whole door's frames at the front, at most `limit` of them.
    package func doorFrames(atMost limit: Int) -> Int {
        var total = 0
        while total + Door.headerSize <= count {
            let size = Door.headerSize + (Int(self[total + 2]) << 8 | Int(self[total + 3]))
            guard total + size <= min(limit, count) else { break }
            total += size
        }
        return total
    }
}
