import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

struct ZDebugTests {
    @Test(arguments: Runtime.allCases)
    func debug(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot()
            let talk = try await Conversation(sandbox)
            let script = CurrentProcess.environment("SCRIPT") ?? "id"
            print(runtime, try await talk.run(script))
            print(
                String(
                    decoding: try Files.read(sandbox.record.runDirectory + "/keep.log", limit: 1 << 20), as: UTF8.self))
            print(sandbox.bootSteps)
        }
    }
}
