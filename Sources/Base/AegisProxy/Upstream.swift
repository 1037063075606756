package import AegisIO
import AegisWire

/// One connection to a server, used for one exchange after another.
///
/// It belongs to one exchange or one pool at a time, all on the proxy's loop; that is what makes it `@unchecked Sendable`.
package final class UpstreamConnection: @unchecked Sendable {
    /// The connection.
    package let stream: FileStream
    var buffer = ByteBuffer()
    var index: HTTPResponseIndex
    /// An exchange has used it before: the server may have closed it meanwhile.
    fileprivate(set) var wasUsed = false
    fileprivate var idleUntil: UInt64 = 0
    /// Since when the server's kernel owes a word on a new connection's first request; nil otherwise.
    var askedAt: UInt64?
    /// The server's kernel has dropped the connection: its queue was full, and what was sent has reached nobody.
    private(set) var isUnheard = false

    /// Ends the connection when nothing of the request has been taken within a time, as `now` tells it.
    func dropIfUnheard(_ now: UInt64, after time: UInt64) {
        guard let askedAt, now &- askedAt >= time, !stream.isAcknowledged else { return }
        isUnheard = true
        stream.reset()
    }

    /// A connection that has just been made.
    package init(_ stream: FileStream, limits: ProxyLimits = ProxyLimits()) {
        self.stream = stream
        index = HTTPResponseIndex(limits: limits.message)
    }
}

/// A client that may be kept waiting. On the proxy's loop only.
package protocol ProxyWaiter: AnyObject {
    /// The client has gone: nothing is to be done for it any more.
    var isGone: Bool { get }

    /// Called once when the client goes; whoever sets it takes it back when it has stopped waiting.
    var onGone: (@Sendable () -> Void)? { get set }
}

/// Where requests of one kind go: a server that may have to be woken first.
package protocol ProxyUpstream: AnyObject, Sendable {
    /// A kept connection, where there is one and the server is ready; nil where `connect` has to be asked.
    func takeKept() -> UpstreamConnection?

    /// A connection for one exchange; each is given back with `finished`.
    ///
    /// - Parameters:
    ///   - fresh: make a new one: a kept one has just failed.
    ///   - client: who it is for; whoever lets it wait looks whether it is still there.
    /// - Returns: a connection that nobody else uses.
    /// - Throws: why there is none (an `AegisError`); that becomes the answer.
    func connect(fresh: Bool, for client: any ProxyWaiter) async throws -> UpstreamConnection

    /// The exchange is over.
    ///
    /// - Parameters:
    ///   - connection: the one that `takeKept` or `connect` returned.
    ///   - reusable: whether another may follow on it.
    func finished(_ connection: UpstreamConnection, reusable: Bool)
}

extension ProxyUpstream {
    package func takeKept() -> UpstreamConnection? { nil }
}

/// Unused connections to one server, the last used first. On the proxy's loop only.
package final class UpstreamPool: @unchecked Sendable {
    private var idle: [UpstreamConnection] = []
    private let limit: Int
    private let time: UInt64

    /// An empty pool.
    package init(limits: ProxyLimits) {
        limit = limits.upstreamIdle
        time = limits.upstreamIdleTime.nanoseconds
    }

    deinit { for connection in idle { connection.stream.close() } }

    /// How many connections are kept.
    package var count: Int { idle.count }

    /// A connection that the server has not ended, as far as is known.
    package func take() -> UpstreamConnection? {
        while let connection = idle.popLast() {
            if connection.stream.peer == .open { return connection }
            connection.stream.close()
        }
        return nil
    }

    /// Keeps a connection for later, or closes it when there are enough.
    package func put(_ connection: UpstreamConnection, now: UInt64, used: Bool = true) {
        guard idle.count < limit, connection.stream.peer == .open else { return connection.stream.close() }
        if used { connection.wasUsed = true }
        connection.idleUntil = now &+ time
        idle.append(connection)
    }

    /// Closes what nobody has used for long, or what the server has ended.
    package func sweep(now: UInt64) {
        idle.removeAll { connection in
            guard connection.idleUntil <= now || connection.stream.peer != .open else { return false }
            connection.stream.close()
            return true
        }
    }

    /// Closes all.
    package func removeAll() {
        for connection in idle { connection.stream.close() }
        idle = []
    }
}
