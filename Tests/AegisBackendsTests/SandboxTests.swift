import AegisBackends
import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import LinuxSys
import Testing

/// Real sandboxes, the same tests for every runtime. One after the other: each is a whole boot, and some measure time.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct SandboxTests {
    @Test(arguments: Runtime.allCases)
    func aSandboxBootsRunsAndLeavesNothing(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            #expect(Set(["prepare", "keeper", "save", "boot"]).isSubset(of: sandbox.bootSteps.map(\.name)))
            let talk = try await Conversation(sandbox)
            #expect(talk.state.phase == .running)
            let result = try await talk.run("echo out; echo err >&2; exit 7")
            #expect(result == CommandResult(stdout: "out\n", stderr: "err\n", code: 7))
        }
    }
}
