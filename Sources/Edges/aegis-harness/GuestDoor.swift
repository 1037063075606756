import AegisChannelEmbedded
import CHarness

/// A program's connection to the door.
struct DoorConnection {
    let number: UInt32
    let descriptor: Int32
    /// From an event on, until a call says otherwise.
    var readable = true
    var writable = true
    /// Bytes for the program that it has not taken.
    var queue = ByteQueue()
    /// Bytes that it took and that no credit was given for.
    var taken = 0
    /// The daemon sends no more.
    var ends = false
    /// Both directions are over.
    var isOver = false
}

/// The door of programs inside to the daemon: listens inside, and carries each connection over the streams of a process number.
///
/// Its memory: for each connection what the daemon may send of it and the program does not take (`Door.downWindow`). What programs
/// send goes into the channel as it is read, and is read only while the daemon takes it.
final class GuestDoor {
    let number: UInt16
    var link = DoorLink(.harness)
    /// The port's and the socket's; -1 for one that could not be opened.
    var listeners: [Int32]
    /// Where the socket is, with a NUL at the end.
    let path: [UInt8]
    /// Whether somebody may wait at each.
    var waiting = [true, true]
    var connections: [DoorConnection] = []
    /// Whose turn it is.
    var turn = 0
    /// What came and is not a whole frame yet.
    var incoming = ByteQueue()
    var received: UInt64 = 0
    var acknowledgedInput: UInt64 = 0
    /// Frames without data that wait for the daemon's credit.
    var pending = ByteQueue()
    var sent: UInt64 = 0
    var acknowledged: UInt64 = 0
    /// Bytes of stderr: what could not be opened.
    var told: UInt64 = 0

    /// With more than this waiting for the daemon nobody is let in.
    static let pendingLimit = 4096
    /// Bytes of the daemon's after which it is told that they came: for each answer that would wake keeper and daemon for
    /// nothing, and it has the rest of its window meanwhile.
    static let unacknowledged = UInt64(Channel.window) / 4

    init(number: UInt16, port: Int32, socket: Int32, path: [UInt8]) {
        self.number = number
        self.path = path
        listeners = [port, socket]
    }

    /// Bytes that may be sent now.
    var credit: Int { Int(Channel.window - (sent - acknowledged)) }

    func index(_ number: UInt32) -> Int? {
        for i in connections.indices where connections[i].number == number { return i }
        return nil
    }

    /// Ends a connection here, with a reset for a program that waits for more.
    func drop(_ at: Int) {
        ah_close(connections[at].descriptor)
        connections.remove(at: at)
    }

    func closeAll() {
        if listeners[1] >= 0 { unsafe ah_remove_socket(path) }
        for descriptor in listeners where descriptor >= 0 { ah_close(descriptor) }
        listeners = [-1, -1]
        while !connections.isEmpty { drop(connections.count - 1) }
    }

    func shrink() {
        incoming.shrink()
        pending.shrink()
        for i in connections.indices { connections[i].queue.shrink() }
    }
}
