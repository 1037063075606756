import AegisAudit
import AegisCapabilities
import AegisCore
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisTools

/// Prints what a call costs beside its tool; compared with nothing here, since a loaded machine says nothing about speed.
struct ToolGateSpeedTests {
    @Test(.enabled(if: CurrentProcess.environment("AEGIS_MEASURE") != nil))
    func aCallThroughTheGate() async throws {
        let directory = try TemporaryDirectory()
        let ledger = try Ledger(path: directory.path("audit"), keyFile: directory.path("key"), node: "00000000")
        var world = try World([EchoTool()], grants: ["tool: echo"] + (0..<99).map { "file_read: /data/d\($0)/**" })
        world.context.audit = ledger
        try await onLoop { [world] _ in
            var times: [UInt64] = []
            for round in 0..<20_000 {
                var context = world.context
                context.callID = "c-\(round)"
                let start = SystemTime.monotonic
                let reply = await world.gate.call("echo", input: ["message": "hello"], context)
                times.append(SystemTime.monotonic - start)
                #expect(!reply.isError)
            }
            times.sort()
            print("gate: p50 \(times[10_000]) ns, p99 \(times[19_800]) ns")
        }
    }
}
