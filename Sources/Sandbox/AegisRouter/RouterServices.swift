import AegisCore
import AegisIO
import AegisProxy
import AegisSandboxTypes
import LinuxSys
import Synchronization

/// What the parts of a router share.
final class RouterServices: Sendable {
    let source: any RouteSource
    let proxy: HTTPProxy
    let limits: RouterLimits
    let scope: TaskScope
    let log: Logger
    /// Connections to tcp ports.
    private let streams = Mutex(0)
    /// What the daemon itself listens on, by port, and the key that sets it.
    private let ownPorts: Mutex<[UInt16: (what: String, key: String)]>

    init(
        _ source: any RouteSource, _ proxy: HTTPProxy, _ limits: RouterLimits, _ log: Logger, apiPort: UInt16? = nil
    ) {
        let api = apiPort.map { [$0: (what: "its HTTP API", key: "network.port")] }
        ownPorts = Mutex(api ?? [:])
        self.source = source
        self.proxy = proxy
        self.limits = limits
        self.log = log
        scope = TaskScope(on: proxy.loop)
    }

    /// Counts a connection to a tcp port, and says whether there is room for it; one that had room is to `leave`.
    func enter() -> Bool {
        streams.withLock { streams in
            guard streams < limits.streams else { return false }
            streams += 1
            return true
        }
    }

    func leave() { streams.withLock { $0 -= 1 } }

    /// The main router's port is had.
    func listens(on port: UInt16) { ownPorts.withLock { $0[port] = ("its router", "network.router_port") } }

    /// Why a public port cannot be had.
    func failure(_ error: IOError, _ exposure: Exposure) -> AegisError {
        let place = "port \(exposure.publicPort) of \(exposure.address)"
        guard error.errno == .addressInUse else {
            return AegisError(.failed, "port-not-usable", "\(place) cannot be listened on: \(error.message)")
        }
        let isLocal = ["127.0.0.1", "0.0.0.0", "::1", "::"].contains(exposure.address)
        if isLocal, let own = ownPorts.withLock({ $0[exposure.publicPort] }) {
            return .conflict(
                "port-in-use", "\(place) is the daemon's own (\(own.what))",
                hint: "expose another public port (0 = any free one), or give the daemon another with \(own.key)")
        }
        return .conflict(
            "port-in-use", "\(place) is taken by another program",
            hint: "free it, or expose another public port (0 = any free one)")
    }
}
