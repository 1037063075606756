import AegisChannel
import LinuxSys

/// Ends keepers whose sandbox nobody wants. Blocks; for threads that may.
enum KeeperEnding {
    /// Asks a keeper to kill its sandbox and to go, and kills it if it does not within 2 s.
    ///
    /// Asking comes first because only the keeper knows its children: a runtime in the middle of a start would go on without it.
    static func end(_ keeper: ProcessIdentity, socket path: String) {
        guard keeper.isAlive else { return }
        if let connection = try? connect(path) {
            let ask = frame(.attach, Attach().encoded()) + frame(.kill)
            if (try? connection.send(ask[...])) != nil, asks(connection, keeper, seconds: 2) { return }
        }
        if let process = keeper.open() { try? process.signal(9) }
        let end = SystemTime.monotonic + 1_000_000_000
        while keeper.isAlive, SystemTime.monotonic < end { SystemThread.pause(microseconds: 500) }
    }

    private static func connect(_ path: String) throws(Errno) -> FileDescriptor {
        let (folder, name) = Files.split(path)
        let directory = try FileDescriptor.open(folder, [.pathOnly, .directory])
        guard let address = SocketAddress(unix: "/proc/self/fd/\(directory.raw)/\(name)") else { throw .nameTooLong }
        let socket = try FileDescriptor.streamSocket(for: address)
        try socket.connect(to: address)
        return socket
    }

    /// Reads what the keeper says, and tells it again and again that it may go: it listens to that only when its sandbox has
    /// ended.
    ///
    /// - Returns: whether it went.
    private static func asks(
        _ connection: borrowing FileDescriptor, _ keeper: ProcessIdentity, seconds: UInt64
    ) -> Bool {
        let end = SystemTime.monotonic + seconds * 1_000_000_000
        let release = frame(.release)
        var room = [UInt8](repeating: 0, count: 65_536)
        var pause: UInt32 = 200
        while keeper.isAlive {
            guard SystemTime.monotonic < end else { return false }
            var count = 1
            while count > 0 {
                count = unsafe room.withUnsafeMutableBytes { unsafe (try? connection.receive(into: $0)) ?? 0 }
            }
            _ = try? connection.send(release[...])
            SystemThread.pause(microseconds: pause)
            pause = min(pause * 2, 10_000)
        }
        return true
    }
}
