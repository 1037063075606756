package import LinuxSys
internal import Synchronization

/// A listening socket.
package final class Listener: Sendable {
    private let watched: WatchedDescriptor
    private let isTCP: Bool
    /// The socket file to remove on close, and what it was when it was made.
    private let socketFile: Mutex<(path: String, status: FileStatus)?>

    /// How long an accept pauses when the process or the machine has no descriptor left.
    private static var pressurePause: Duration { .milliseconds(50) }

    private init(_ socket: consuming FileDescriptor, isTCP: Bool, path: String?, on loop: EventLoop) throws(IOError) {
        self.isTCP = isTCP
        socketFile = Mutex(path.flatMap { path in (try? Files.status(path, followLinks: false)).map { (path, $0) } })
        do throws(Errno) { watched = try WatchedDescriptor(socket, on: loop) } catch {
            throw .system(error, "watching a listener")
        }
    }

    deinit { close() }

    /// Listens on a Unix socket.
    ///
    /// - Parameters:
    ///   - path: may be longer than the kernel's 107 bytes; its directory must exist. A socket file that nobody listens on
    ///     is replaced; anything else there is an error (`EADDRINUSE`).
    ///   - mode: permissions of the socket file, in force from its first moment.
    ///   - loop: who watches it.
    ///   - backlog: connections that may wait to be accepted.
    /// - Returns: the connected or listening socket.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package static func unix(path: String, mode: UInt32 = 0o600, on loop: EventLoop, backlog: Int32 = 1024)
        throws(IOError) -> Listener
    {
        do throws(Errno) {
            return try UnixPath.with(path) { address, _ throws(Errno) in
                let socket = try FileDescriptor.streamSocket(for: address)
                // The new file gets the socket's own mode, less the umask; then exactly the mode.
                try socket.setPermissions(mode)
                do throws(Errno) { try socket.bind(to: address) } catch {
                    guard error == .addressInUse, isAbandoned(address, path) else { throw error }
                    try Files.removeFile(path)
                    try socket.bind(to: address)
                }
                try Files.setPermissions(path, mode)
                try socket.listen(backlog: backlog)
                do throws(IOError) { return try Listener(socket, isTCP: false, path: path, on: loop) } catch {
                    throw error.errno ?? .invalidArgument
                }
            }
        } catch { throw .system(error, "listening on \(path)") }
    }

    /// A socket file that refuses connections was left behind by a process that has ended.
    private static func isAbandoned(_ address: SocketAddress, _ path: String) -> Bool {
        guard let status = try? Files.status(path, followLinks: false), status.type == .socket,
            let probe = try? FileDescriptor.streamSocket(for: address)
        else { return false }
        do throws(Errno) { try probe.connect(to: address) } catch { return error == .connectionRefused }
        return false
    }

    /// Listens on a TCP port.
    ///
    /// - Parameters:
    ///   - address: a numeric IPv4 or IPv6 address, or `localhost` (127.0.0.1). IPv6 listens for IPv6 only.
    ///   - port: 0 lets the kernel choose; see `localPort`.
    ///   - loop: who watches it.
    ///   - backlog: connections that may wait to be accepted.
    /// - Returns: the connected or listening socket.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package static func tcp(address: String, port: UInt16, on loop: EventLoop, backlog: Int32 = 1024) throws(IOError)
        -> Listener
    {
        let what = "listening on \(address) port \(port)"
        let text = address == "localhost" ? "127.0.0.1" : address
        guard let socketAddress = SocketAddress(ip: text, port: port) else {
            throw .system(.invalidArgument, "\(what) (give a numeric address)")
        }
        do throws(Errno) {
            let socket = try FileDescriptor.streamSocket(for: socketAddress)
            try socket.bind(to: socketAddress)
            try socket.listen(backlog: backlog)
            do throws(IOError) { return try Listener(socket, isTCP: true, path: nil, on: loop) } catch {
                throw error.errno ?? .invalidArgument
            }
        } catch { throw .system(error, what) }
    }

    /// Takes over a socket that listens already (socket activation, or one made inside a namespace).
    package convenience init(adopting socket: consuming FileDescriptor, on loop: EventLoop) throws(IOError) {
        let isTCP = (try? socket.localPort()) != nil
        do throws(Errno) { try socket.setNonblocking(true) } catch { throw .system(error, "adopting a listener") }
        try self.init(socket, isTCP: isTCP, path: nil, on: loop)
    }

    /// Waits for the next connection.
    ///
    /// When descriptors run out (`EMFILE` and its like) it pauses and tries again: the connection waits in the backlog and
    /// is not lost.
    package func accept() async throws(IOError) -> FileStream {
        while true {
            if Task.isCancelled { throw .cancelled }
            if let taken = try acceptNow() {
                if let stream = try await stream(from: taken) { return stream }
                continue
            }
            switch await watched.wait(.read) {
            case .ready: continue
            case .closed: throw .closed
            case .cancelled: throw .cancelled
            case .timedOut: throw .timeout
            case .busy: throw .system(.busy, "accepting from two tasks at once")
            }
        }
    }

    private enum Taken: ~Copyable, Sendable {
        case connection(FileDescriptor)
        case gone
        case exhausted
    }

    private func acceptNow() throws(IOError) -> Taken? {
        do throws(WatchedDescriptor.Failure) {
            return try watched.perform { descriptor throws(Errno) -> Taken in
                do throws(Errno) { return .connection(try descriptor.accept()) } catch {
                    switch error {
                    case .connectionAborted, .interrupted: return .gone
                    case .tooManyOpenFiles, .tooManyOpenFilesInSystem, .noBufferSpace, .outOfMemory: return .exhausted
                    default: throw error
                    }
                }
            }
        } catch { throw error.error("accepting") }
    }

    private func stream(from taken: consuming Taken) async throws(IOError) -> FileStream? {
        switch consume taken {
        case .connection(let descriptor):
            // A peer that is gone already shows in the first read.
            if isTCP { try? descriptor.setNoDelay() }
            return try FileStream(descriptor, on: watched.loop)
        case .gone: return nil
        case .exhausted:
            do { try await watched.loop.clock.sleep(for: Self.pressurePause) } catch { throw .cancelled }
            return nil
        }
    }

    /// The TCP port, also when the kernel chose it.
    package func localPort() throws(IOError) -> UInt16 {
        do throws(WatchedDescriptor.Failure) {
            if let port = try watched.perform({ descriptor throws(Errno) in try descriptor.localPort() }) {
                return port
            }
        } catch { throw error.error("asking for the port") }
        throw .closed
    }

    /// Stops listening and removes the socket file if it is still this listener's; waiting accepts end with `.closed`.
    package func close() {
        watched.close()
        let file = socketFile.withLock { file in
            defer { file = nil }
            return file
        }
        guard let file, let now = try? Files.status(file.path, followLinks: false), now.isSameFile(as: file.status)
        else {
            return
        }
        try? Files.removeFile(file.path)
    }
}
