package import LinuxSys

/// Opens connections.
package enum Connect {
    /// Connects to a Unix socket.
    ///
    /// - Parameters:
    ///   - path: may be longer than the kernel's 107 bytes.
    ///   - loop: who watches the connection.
    ///   - deadline: how long it may take, waiting for room in the listener's backlog included.
    /// - Returns: the connected or listening socket.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package static func unix(path: String, on loop: EventLoop, deadline: Duration = .seconds(10)) async throws(IOError)
        -> FileStream
    {
        let what = "connecting to \(path)"
        let end = loop.clock.now.advanced(by: deadline)
        var pause = Duration.milliseconds(1)
        while true {
            if Task.isCancelled { throw .cancelled }
            do throws(Errno) { return try connectedUnix(path, on: loop) } catch {
                // A full backlog: the kernel neither waits nor tells when there is room.
                guard error == .wouldBlock else { throw .system(error, what) }
            }
            if loop.clock.now >= end { throw IOError(.timeout, "\(what): the deadline passed") }
            do { try await loop.clock.sleep(for: pause) } catch { throw .cancelled }
            pause = min(pause * 2, .milliseconds(50))
        }
    }

    private static func connectedUnix(_ path: String, on loop: EventLoop) throws(Errno) -> FileStream {
        try UnixPath.with(path) { address, _ throws(Errno) in
            let socket = try FileDescriptor.streamSocket(for: address)
            try socket.connect(to: address)
            do throws(IOError) { return try FileStream(socket, on: loop) } catch {
                throw error.errno ?? .invalidArgument
            }
        }
    }

    /// Connects to a TCP port.
    ///
    /// - Parameters:
    ///   - host: a numeric address, or `localhost` (127.0.0.1, then ::1). Other names are not looked up here.
    ///   - port: 1 to 65535.
    ///   - loop: who watches the connection.
    ///   - deadline: how long it may take in all.
    /// - Returns: the connected or listening socket.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package static func tcp(host: String, port: UInt16, on loop: EventLoop, deadline: Duration = .seconds(10))
        async throws(IOError) -> FileStream
    {
        let end = loop.clock.now.advanced(by: deadline)
        let candidates = host == "localhost" ? ["127.0.0.1", "::1"] : [host]
        var failure = IOError.system(.invalidArgument, "connecting to \(host) (give a numeric address)")
        for candidate in candidates {
            guard let address = SocketAddress(ip: candidate, port: port) else { throw failure }
            let what = "connecting to \(candidate) port \(port)"
            do throws(IOError) {
                return try await connected(newSocket(for: address, what), to: address, what, on: loop, until: end)
            } catch {
                // Only a refusal makes the next address worth trying.
                guard error.kind == .system else { throw error }
                failure = error
            }
        }
        throw failure
    }

    /// Connects a socket that the caller made, for example inside another network namespace.
    ///
    /// - Parameters:
    ///   - socket: a stream socket of the address's family.
    ///   - address: where to.
    ///   - loop: who watches the connection.
    ///   - deadline: how long it may take.
    /// - Returns: the connected socket as a stream.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package static func socket(
        _ socket: consuming FileDescriptor, to address: SocketAddress, on loop: EventLoop,
        deadline: Duration = .seconds(10)
    ) async throws(IOError) -> FileStream {
        let end = loop.clock.now.advanced(by: deadline)
        return try await connected(socket, to: address, "connecting", on: loop, until: end)
    }

    private static func newSocket(for address: SocketAddress, _ what: String) throws(IOError) -> FileDescriptor {
        do throws(Errno) { return try FileDescriptor.streamSocket(for: address) } catch { throw .system(error, what) }
    }

    private static func connected(
        _ socket: consuming FileDescriptor, to address: SocketAddress, _ what: String, on loop: EventLoop,
        until end: LoopClock.Instant
    ) async throws(IOError) -> FileStream {
        if Task.isCancelled { throw .cancelled }
        do throws(Errno) {
            try socket.setNonblocking(true)
            if address.isIP { try socket.setNoDelay() }
            try socket.connect(to: address)
        } catch { guard error == .inProgress else { throw .system(error, what) } }
        // Watched only now: a socket that is not yet connecting counts as hung up.
        let stream = try FileStream(socket, on: loop)
        while true {
            let established = try stream.withDescriptor(what) { descriptor throws(Errno) -> Bool in
                if let error = descriptor.connectionError() { throw error }
                do throws(Errno) { try descriptor.connect(to: address) } catch {
                    switch error {
                    case .alreadyConnected: return true
                    case .inProgress, .alreadyInProgress: return false
                    default: throw error
                    }
                }
                return true
            }
            if established { return stream }
            switch await stream.watched.wait(.write, until: end.nanoseconds) {
            case .ready: continue
            case .closed: throw .closed
            case .cancelled: throw .cancelled
            case .timedOut: throw IOError(.timeout, "\(what): the deadline passed")
            case .busy: throw .system(.busy, what)
            }
        }
    }
}
