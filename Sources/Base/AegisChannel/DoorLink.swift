/// What a frame of a door means for who took it.
package enum DoorEvent: Sendable, Equatable {
    /// Nothing: its connection is over here, and the peer did not know yet.
    case none
    /// Another daemon begins (for a harness).
    case begin
    /// A program has connected (for a daemon).
    case opened(UInt32)
    /// The bytes of the frame are the connection's.
    case data(UInt32)
    /// The peer sends no more; what it sent before stands.
    case finished(UInt32)
    /// The connection is over.
    case reset(UInt32)
    /// More may be sent.
    case credit(UInt32)
}

/// What both ends of a door have to know of its connections: who may send how much, and what is over. Pure: frames go in and
/// out through queues, bytes and descriptors are the caller's.
///
/// Either side checks each frame of the other. Numbers are never used again, so a frame that crosses the end of its connection
/// is known as such and ignored.
package struct DoorLink: Sendable {
    /// Which end this is.
    package enum Side: Sendable { case harness, daemon }

    private struct Connection: Sendable {
        let number: UInt32
        /// Bytes that may be sent.
        var credit: Int
        /// Bytes that the peer may send.
        var granted: Int
        var weFinished = false
        var theyFinished = false
        /// A daemon has shown that it knows the connection.
        var isKnown = false
    }

    private let side: Side
    private var connections: [Connection] = []
    /// The highest number that was used.
    private var last: UInt32 = 0
    /// Numbers of connections that an earlier daemon knew come up until the harness has said `begun`.
    package private(set) var isBeginning = false
    /// Whether the harness may say it: as often as daemons began, which a later one does not know.
    private let mayBegin: Bool

    /// An end without connections.
    ///
    /// - Parameters:
    ///   - side: whose end it is.
    ///   - resumes: whether it is that of a daemon at a door which another daemon had opened; `begin` comes first then.
    package init(_ side: Side, resumes: Bool = false) {
        self.side = side
        isBeginning = resumes
        mayBegin = resumes
    }

    /// Connections that are open.
    package var count: Int { connections.count }

    /// Whether anything may still come or go on a connection.
    package func isOpen(_ number: UInt32) -> Bool { index(number) != nil }

    private func index(_ number: UInt32) -> Int? { connections.firstIndex { $0.number == number } }

    // MARK: From the peer

    /// Takes the frame at the front of what came (it is left there).
    ///
    /// - Throws: what the peer may not do.
    package mutating func take(_ header: DoorHeader, in queue: ByteQueue) throws(DoorBreach) -> DoorEvent {
        switch header.type {
        case .begin:
            guard side == .harness, header.connection == 0 else { throw DoorBreach("a frame of the other side") }
            return .begin
        case .begun: return try takeBegun(header, queue.doorNumber(at: Door.headerSize))
        case .open: return try takeOpen(header, queue[Door.headerSize])
        case .data, .finish, .reset, .credit: break
        }
        guard let at = index(header.connection) else {
            guard header.connection > 0, header.connection <= last || isBeginning else {
                throw DoorBreach("a frame of a connection that was never opened")
            }
            return .none
        }
        switch header.type {
        case .data:
            guard !connections[at].theyFinished else { throw DoorBreach("bytes after the last one") }
            guard header.length <= connections[at].granted else {
                throw DoorBreach("more bytes than the window allows")
            }
            connections[at].granted -= header.length
            return .data(header.connection)
        case .finish:
            guard !connections[at].theyFinished else { throw DoorBreach("bytes after the last one") }
            connections[at].theyFinished = true
            if connections[at].weFinished { connections.remove(at: at) }
            return .finished(header.connection)
        case .credit:
            let more = Int(queue.doorNumber(at: Door.headerSize))
            guard more <= Door.creditLimit - connections[at].credit else { throw DoorBreach("too large a window") }
            connections[at].credit += more
            connections[at].isKnown = true
            return .credit(header.connection)
        default:
            connections.remove(at: at)
            return .reset(header.connection)
        }
    }

    private mutating func takeBegun(_ header: DoorHeader, _ number: UInt32) throws(DoorBreach) -> DoorEvent {
        guard side == .daemon, mayBegin, header.connection == 0, number >= last else {
            throw DoorBreach("a beginning that nobody asked for")
        }
        last = number
        isBeginning = false
        return .none
    }

    private mutating func takeOpen(_ header: DoorHeader, _ way: UInt8) throws(DoorBreach) -> DoorEvent {
        guard side == .daemon, DoorWay(rawValue: way) != nil else { throw DoorBreach("a frame of the other side") }
        guard header.connection > last else { throw DoorBreach("a connection's number was used before") }
        guard connections.count < Door.connectionLimit else { throw DoorBreach("too many connections") }
        last = header.connection
        connections.append(Connection(number: last, credit: Door.downWindow, granted: Door.firstWindow))
        return .opened(last)
    }

    // MARK: To the peer

    /// Says that this daemon begins.
    package func begin(into queue: inout ByteQueue) { queue.appendDoor(.begin, 0) }

    /// Another daemon begins: ends what an earlier one knew, and answers.
    ///
    /// - Returns: the connections that are over.
    package mutating func restart(into queue: inout ByteQueue) -> [UInt32] {
        let over = connections.filter { $0.isKnown }.map { $0.number }
        for number in over { reset(number, into: &queue) }
        var fields = FieldWriter()
        fields.u32(last)
        queue.appendDoor(.begun, 0, fields.bytes)
        return over
    }

    /// A program has connected.
    ///
    /// - Returns: the connection's number; nil when there are as many as there may be.
    package mutating func open(_ way: DoorWay, into queue: inout ByteQueue) -> UInt32? {
        guard connections.count < Door.connectionLimit, last < .max else { return nil }
        last += 1
        connections.append(Connection(number: last, credit: Door.firstWindow, granted: Door.downWindow))
        queue.appendDoor(.open, last, [way.rawValue])
        return last
    }

    /// Bytes of a connection that may be sent in one frame now; nil when none may be any more.
    package func room(_ number: UInt32) -> Int? {
        guard let at = index(number), !connections[at].weFinished else { return nil }
        return min(connections[at].credit, Door.dataLimit)
    }

    /// So many bytes are sent, not more than there is room for: their header.
    package mutating func data(_ number: UInt32, count: Int) -> [UInt8] {
        if let at = index(number) { connections[at].credit -= count }
        return DoorHeader(.data, number, length: count).encoded
    }

    /// Nothing more is sent.
    package mutating func finish(_ number: UInt32, into queue: inout ByteQueue) {
        guard let at = index(number), !connections[at].weFinished else { return }
        connections[at].weFinished = true
        if connections[at].theyFinished { connections.remove(at: at) }
        queue.appendDoor(.finish, number)
    }

    /// A connection is over, whatever was on its way.
    package mutating func reset(_ number: UInt32, into queue: inout ByteQueue) {
        guard let at = index(number) else { return }
        connections.remove(at: at)
        queue.appendDoor(.reset, number)
    }

    /// The peer may send more; 0 says only that the connection is known.
    package mutating func grant(_ number: UInt32, _ more: Int, into queue: inout ByteQueue) {
        guard let at = index(number), !connections[at].theyFinished || more == 0 else { return }
        connections[at].granted += more
        var fields = FieldWriter()
        fields.u32(UInt32(truncatingIfNeeded: more))
        queue.appendDoor(.credit, number, fields.bytes)
    }
}
