import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import LinuxSys

/// `aegis-bench --relay PORT`: the router alone, before one server that always runs. Prints the port that it serves.
struct Relay: Sendable {
    let backend: UInt16

    func run(on loop: EventLoop) async throws {
        let source = FixedSource(backend: backend, loop: loop)
        let router = Router(source, on: loop)
        await router.run()
    }
}

/// One instance that always runs and has one port.
private final class FixedSource: RouteSource {
    private let backend: UInt16
    private let loop: EventLoop

    init(backend: UInt16, loop: EventLoop) {
        self.backend = backend
        self.loop = loop
    }

    private final class Held: RouteHold {
        let source: FixedSource
        let wasRunning = true
        init(_ source: FixedSource) { self.source = source }
        func dial(_ port: UInt16, deadline: Duration) async throws -> FileStream {
            try await Connect.tcp(host: "127.0.0.1", port: source.backend, on: source.loop, deadline: deadline)
        }
    }

    func hold(_ instance: String, port: UInt16, why: RouteReason, deadline: Duration) async throws -> any RouteHold {
        Held(self)
    }
    func exposures() async -> [Exposure] {
        guard let spec = try? ExposeSpec(parsing: "0:80:http") else { return [] }
        return [Exposure(instance: "i-0000000000000001", name: "bench", owner: 0, spec: spec)]
    }
    func onChange(_ body: @escaping @Sendable () -> Void) -> @Sendable () -> Void { {} }
    func didBind(_ instance: String, guestPort: UInt16, publicPort: UInt16) async {
        // The one line that whoever started this waits for.
        writeOutput("\(publicPort)\n")
    }
    func bindFailed(_ instance: String, guestPort: UInt16, _ error: AegisError) async { note(error.message) }
}
