internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisRouter
internal import AegisSandboxTypes

/// The router's view of the instances.
struct InstanceRouteSource: RouteSource {
    let directory: InstanceDirectory

    func hold(_ instance: String, port: UInt16, why: RouteReason, deadline: Duration) async throws -> any RouteHold {
        let reason: HoldReason =
            switch why {
            case .connection: .connection(port: port)
            case .request: .request(port: port)
            }
        return InstanceRouteHold(try await directory.hold(instance, why: reason, deadline: deadline))
    }

    func exposures() async -> [Exposure] { await directory.exposures() }

    func onChange(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void {
        let changes = directory.routeChanges
        let number = changes.listen(body)
        return { changes.leave(number) }
    }

    func didBind(_ instance: String, guestPort: UInt16, publicPort: UInt16) async {
        await directory.didBind(instance, guestPort: guestPort, publicPort: publicPort)
    }

    func bindFailed(_ instance: String, guestPort: UInt16, _ error: AegisError) async {
        await directory.bindFailed(instance, guestPort: guestPort, error)
    }
}

/// A hold with as many owners as the router needs.
private final class InstanceRouteHold: RouteHold {
    private let hold: Hold

    init(_ hold: consuming Hold) { self.hold = hold }

    var wasRunning: Bool { hold.wasRunning }
    var isAwake: Bool { hold.isAwake }
    var life: UInt64 { hold.life }

    func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream {
        try await hold.dial(port, deadline: deadline)
    }
}
