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
    /// What connections take turns with.
    package let pools = ProxyPools()
    /// A monotonic time in nanoseconds that moves on once a tick: good enough for limits, and free.
    package private(set) var now: UInt64
    private var connections: [ObjectIdentifier: ProxyConnection] = [:]
    private let awake = Signal()
    /// Whether connections are closed after the present exchange.
    private(set) var isStopping = false

    /// A relay on a loop; `run` has to run beside it.
    package init(on loop: EventLoop, limits: ProxyLimits = ProxyLimits()) {
        self.loop = loop
        self.limits = limits
        now = SystemTime.monotonic
    }

    /// Connections of clients at present.
    package var connectionCount: Int { connections.count }

    /// Looks at time limits once a tick, while there is something to look at, until the task is cancelled.
    ///
    /// - Parameter also: what else is done each tick; tells whether it has anything left to wait for.
    package func run(_ also: (UInt64) -> Bool = { _ in false }) async {
        while !Task.isCancelled {
            now = SystemTime.monotonic
            for connection in connections.values { connection.check(now) }
            let more = also(now)
            if connections.isEmpty, !more {
                await awake.wait()
            } else {
                try? await loop.clock.sleep(for: limits.tick)
            }
        }
    }

    /// Says that there is something to look at each tick.
    package func wake() {
        now = SystemTime.monotonic
        awake.set()
    }

    /// Serves one client until its connection ends; the stream is closed then.
    ///
    /// - Parameters:
    ///   - stream: of this relay's loop.
    ///   - client: who it is.
    ///   - director: says where requests go.
    package func serve(_ stream: FileStream, client: ProxyClient, director: any ProxyDirector) async {
        // Without connections the clock stands still, and a connection takes its limits from it.
        if connections.isEmpty { wake() }
        let connection = ProxyConnection(stream, client: client, director: director, proxy: self)
        guard !isStopping, connections.count < limits.connections else {
            return await connection.refuseForRoom(limits.connections)
        }
        let key = ObjectIdentifier(connection)
        connections[key] = connection
        await connection.run()
        connections.removeValue(forKey: key)
    }

    /// Closes idle connections now and every other one after its present exchange.
    package func stop() {
        isStopping = true
        for connection in connections.values { connection.finishSoon() }
    }
}
