package import AegisIO
internal import LinuxSys
internal import Synchronization

/// An HTTP/1.1 server on any number of listeners.
///
/// Every connection is a task of its own on the executor of `run`. A handler that throws becomes the error body of the
/// API. A client that closes its connection cancels its handler; one that closes its sending half alone gets its answer
/// (RFC 9112, 9.6). Where the two cannot be told apart, the handler has `endedTime`, and as long again whenever the client
/// takes something. That is noticed as long as the client has not sent more than `readAhead` bytes that nobody reads.
package final class HTTPServer: Sendable {
    /// Answers a request by consuming the writer.
    package typealias Handler = @Sendable (HTTPServerRequest, consuming HTTPResponseWriter) async throws -> Void

    private struct State {
        var connections: [Int: HTTPServerConnection] = [:]
        var next = 0
        var refusing = 0
        var stopping = false
        var listeners: [Listener] = []
    }

    private let limits: HTTPServerLimits
    private let clock: any Clock<Duration>
    private let handler: Handler
    private let keeper: DeadlineKeeper
    private let state = Mutex(State())
    private let emptied = Signal()

    /// A server that does nothing until `run`.
    ///
    /// - Parameters:
    ///   - limits: what clients may do.
    ///   - clock: whose time the limits are in.
    ///   - handler: answers each request.
    package init(limits: HTTPServerLimits = HTTPServerLimits(), clock: any Clock<Duration>, handler: @escaping Handler)
    {
        self.limits = limits
        self.clock = clock
        self.handler = handler
        keeper = DeadlineKeeper(clock: clock)
    }

    /// Number of connections that are being served.
    package var connectionCount: Int { state.withLock { $0.connections.count } }

    /// Serves the listeners until `shutdown`, or until the task is cancelled; then all of it has ended.
    package func run(_ listeners: [Listener]) async {
        let stopped = state.withLock { state in
            state.listeners += listeners
            return state.stopping
        }
        if stopped { for listener in listeners { listener.close() } }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.keeper.run() }
            await withDiscardingTaskGroup { accepting in
                for listener in listeners {
                    accepting.addTask { await self.accept(from: listener) }
                }
            }
            group.cancelAll()
        }
    }

    /// Watches the limits' deadlines for streams that come by `serve`, where there are no listeners; until the task is cancelled.
    package func watch() async { await keeper.run() }

    /// Stops accepting, lets what is in flight end, and cuts what has not ended in time.
    ///
    /// - Parameter deadline: how long exchanges and upgraded streams may go on.
    package func shutdown(within deadline: Duration) async {
        let (listeners, connections) = state.withLock { state in
            state.stopping = true
            return (state.listeners, Array(state.connections.values))
        }
        for listener in listeners { listener.close() }
        for connection in connections { connection.finishSoon() }
        let clock = clock
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.waitUntilEmpty() }
            group.addTask { try? await clock.sleep(for: deadline) }
            await group.next()
            group.cancelAll()
        }
        for connection in state.withLock({ Array($0.connections.values) }) { connection.abort() }
        await waitUntilEmpty()
    }

    private func waitUntilEmpty() async {
        while !Task.isCancelled, state.withLock({ !$0.connections.isEmpty }) { await emptied.wait() }
    }

    private func accept(from listener: Listener) async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                do throws(IOError) {
                    let stream = try await listener.accept()
                    group.addTask { await self.serve(stream, peer: HTTPPeer(of: stream)) }
                } catch {
                    guard error.kind == .system else { break }
                    // Out of descriptors or memory: what is open may end and make room.
                    try? await clock.sleep(for: .milliseconds(50))
                }
            }
            listener.close()
        }
    }

    /// Serves one stream until it ends; the deadlines of its limits are watched while `run` runs.
    package func serve(_ stream: any ByteStream, peer: HTTPPeer) async {
        enum Admission { case serve(Int), refuse, drop }
        let connection = HTTPServerConnection(stream, peer: peer, limits: limits, keeper: keeper)
        let admission = state.withLock { state -> Admission in
            guard !state.stopping else { return .drop }
            guard state.connections.count < limits.connections else {
                guard state.refusing < 64 else { return .drop }
                state.refusing += 1
                return .refuse
            }
            state.next += 1
            state.connections[state.next] = connection
            return .serve(state.next)
        }
        switch admission {
        case .drop:
            stream.close()
        case .refuse:
            await connection.runRefusal(connections: limits.connections)
            state.withLock { $0.refusing -= 1 }
        case .serve(let key):
            await connection.run(handler)
            let last = state.withLock { state in
                state.connections.removeValue(forKey: key)
                return state.connections.isEmpty
            }
            if last { emptied.set() }
        }
    }
}

extension HTTPPeer {
    /// What the kernel knows about the other end of an accepted stream.
    init(of stream: FileStream) {
        let address = try? stream.withDescriptor("asking for the peer") { descriptor throws(Errno) in
            try descriptor.peerAddress()
        }
        if let address {
            self = .tcp(address: address.address, port: address.port)
        } else if let peer = try? stream.peerCredentials() {
            self = .unix(user: peer.user, group: peer.group, process: peer.pid)
        } else {
            self = .unknown
        }
    }
}
