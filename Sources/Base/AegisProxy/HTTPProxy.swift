package import AegisIO
import AegisWire
internal import LinuxSys

/// An HTTP/1.1 relay: takes connections of clients and passes their requests on to whom a director names.
///
/// Everything of it happens on one loop, whose thread is the only one that touches its state: that is what makes it and
/// its connections `@unchecked Sendable`.
package final class HTTPProxy: @unchecked Sendable {
    /// The loop of all streams.
    package let loop: EventLoop
    /// What clients may do.
    package let limits: ProxyLimits
    /// The two limits that every request sets, in nanoseconds.
    let headTime: UInt64
    let idleTime: UInt64
    /// What connections take turns with.
    package let pools = ProxyPools()
    /// What connections have that serve no request.
    let noRequest: ProxyRequest
    /// What time it is.
    private let time: @Sendable () -> UInt64
    /// A monotonic time in nanoseconds that moves on once a tick: good enough for limits, and free.
    package private(set) var now: UInt64
    private var connections: [ObjectIdentifier: any ProxyClientConnection] = [:]
    /// Bytes of HTTP/2 bodies that wait for slow receivers.
    var heldBytes = 0
    private let awake = Signal()
    /// For the tasks of connections that were parked.
    private let scope: TaskScope
    /// Connections that keep a task while they wait for their next request.
    var waitingTasks = 0
    /// Tasks and connections that have ended since memory was given back, now and a tick ago.
    private var released = 0
    private var releasedBefore = 0
    /// Whether connections are closed after the present exchange.
    private(set) var isStopping = false

    /// A relay on a loop; `run` has to run beside it.
    ///
    /// - Parameters:
    ///   - loop: of all streams.
    ///   - limits: what clients may do.
    ///   - time: monotonic nanoseconds, which the limits are measured by; nil: the machine's.
    package init(
        on loop: EventLoop, limits: ProxyLimits = ProxyLimits(),
        time: (@Sendable () -> UInt64)? = nil
    ) {
        self.loop = loop
        self.time = time ?? { SystemTime.monotonic }
        self.limits = limits
        noRequest = ProxyRequest(client: ProxyClient(address: ""), limits: limits.message)
        headTime = limits.headTime.nanoseconds
        idleTime = limits.idleTime.nanoseconds
        scope = TaskScope(on: loop)
        now = self.time()
    }

    /// Connections of clients at present.
    package var connectionCount: Int { connections.count }

    /// Looks at time limits once a tick, while there is something to look at, until the task is cancelled.
    ///
    /// - Parameter also: what else is done each tick; tells whether it has anything left to wait for.
    package func run(_ also: (UInt64) -> Bool = { _ in false }) async {
        while !Task.isCancelled {
            now = time()
            for connection in connections.values { connection.check(now) }
            trim()
            let more = also(now)
            if connections.isEmpty, released < Self.releasedToTrim, !more {
                await awake.wait()
            } else {
                try? await loop.clock.sleep(for: limits.tick)
            }
        }
    }

    /// Says that there is something to look at each tick.
    package func wake() {
        now = time()
        awake.set()
    }

    /// Serves one client. The stream is closed when its connection ends.
    ///
    /// - Parameters:
    ///   - stream: of this relay's loop.
    ///   - client: who it is.
    ///   - director: says where requests go.
    ///   - owner: whose connection it is, for `cut`.
    ///   - stays: whether the call lasts as long as the connection. Otherwise the connection may outlive it: while it is idle
    ///     it has no task.
    package func serve(
        _ stream: FileStream, client: ProxyClient, director: any ProxyDirector, owner: ObjectIdentifier? = nil,
        stays: Bool = false
    ) async {
        // Without connections the clock stands still, and a connection takes its limits from it.
        if connections.isEmpty { wake() }
        let connection = ProxyConnection(stream, client: client, director: director, proxy: self, owner: owner)
        guard !isStopping, connections.count < limits.connections else {
            return await connection.refuseForRoom(limits.connections)
        }
        await begin(connection, stays: stays)
    }

    /// Serves one client that speaks HTTP/2 from its first byte, until its connection ends; the stream is closed then.
    ///
    /// - Parameters:
    ///   - transport: of this relay's loop.
    ///   - client: who it is.
    ///   - target: where all its requests go.
    ///   - scope: for tasks of the connection to the server.
    ///   - policy: decides about its requests.
    ///   - owner: whose connection it is, for `cut`.
    ///   - arrived: called once the client has sent a request, or has been silent for long, or has gone.
    /// - Returns: whether the client has gone before it said anything.
    @discardableResult
    package func serveHTTP2(
        _ transport: HTTP2Transport, client: ProxyClient, target: any HTTP2Target, scope: TaskScope,
        policy: (any HTTP2Policy)? = nil, owner: ObjectIdentifier? = nil, arrived: @escaping () -> Void = {}
    ) async -> Bool {
        if connections.isEmpty { wake() }
        guard !isStopping, connections.count < limits.connections,
            let relay = HTTP2Relay(
                transport, client: client, target: target, proxy: self, scope: scope, policy: policy, owner: owner,
                arrived: arrived)
        else {
            transport.below.reset()
            arrived()
            return false
        }
        await begin(relay)
        return relay.leftWithoutAWord
    }

    private func begin(_ connection: any ProxyClientConnection, stays: Bool = false) async {
        connections[ObjectIdentifier(connection)] = connection
        while !(await drive(connection)) {
            guard stays else {
                released += 1
                return connection.whenReadable { isReadable in self.unpark(connection, isReadable) }
            }
            let stream = connection.stream
            let isReadable = await withTaskCancellationHandler {
                await withCheckedContinuation { waiting in
                    connection.whenReadable { waiting.resume(returning: $0) }
                }
            } onCancel: {
                stream.close()
            }
            guard isReadable else { break }
        }
        forget(connection)
    }

    private func forget(_ connection: any ProxyClientConnection) {
        connections.removeValue(forKey: ObjectIdentifier(connection))
        released += 1
    }

    /// Runs a connection to its end, or until it needs no task for now.
    ///
    /// - Returns: whether it has ended.
    private func drive(_ connection: any ProxyClientConnection) async -> Bool {
        let stream = connection.stream
        return await withTaskCancellationHandler {
            await connection.run()
        } onCancel: {
            stream.close()
        }
    }

    private func unpark(_ connection: any ProxyClientConnection, _ isReadable: Bool) {
        guard isReadable else { return forget(connection) }
        scope.spawn("serve a client again") { await self.begin(connection) }
    }

    /// Gives memory back to the system once many connections have given theirs up and no more do.
    private func trim() {
        defer { releasedBefore = released }
        guard released >= Self.releasedToTrim, released == releasedBefore else { return }
        released = 0
        CurrentProcess.trimMemory()
    }
    private static var releasedToTrim: Int { 512 }

    /// Ends the connections of an owner, whatever goes on; of all when none is given.
    package func cut(_ owner: ObjectIdentifier? = nil) {
        for connection in connections.values where owner == nil || connection.owner == owner { connection.cut() }
    }

    /// Ends all connections, and waits for them.
    package func end() async {
        isStopping = true
        cut()
        await scope.end()
    }

    /// Closes idle connections now and every other one after its present exchange.
    package func stop() {
        isStopping = true
        for connection in connections.values { connection.finishSoon() }
    }
}

/// A client's connection, whatever it speaks.
protocol ProxyClientConnection: AnyObject, Sendable {
    var stream: FileStream { get }
    var owner: ObjectIdentifier? { get }
    /// Serves the client.
    ///
    /// - Returns: false when the connection needs no task until there is something to read.
    func run() async -> Bool
    /// Calls `body` once: with true when there may be bytes to read, with false when the stream was closed.
    func whenReadable(_ body: @escaping @Sendable (Bool) -> Void)
    /// Looks at time limits; called once a tick.
    func check(_ now: UInt64)
    /// Closes when nothing goes on.
    func finishSoon()
    /// Ends the connection, whatever goes on.
    func cut()
}

extension ProxyClientConnection {
    func whenReadable(_ body: @escaping @Sendable (Bool) -> Void) { stream.whenReadable(body) }
}
