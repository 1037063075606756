import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

struct ZDebugTests {
    @Test(arguments: Runtime.allCases)
    func debug(_ runtime: Runtime) async throws {
        guard let script = CurrentProcess.environment("SCRIPT") else { return }
        try await inWorld(runtime) { world in
            let sandbox = try await world.boot(limits: Limits(pids: 2000))
            let talk = try await Conversation(sandbox)
            print(runtime, try await sandbox.usage())
            do { print(runtime, try await talk.run(script)) } catch { print(error) }
            print(runtime, try await sandbox.usage())
            await sandbox.kill(); talk.stream.close()
            print(await sandbox.termination())
            print(
                String(
                    decoding: try Files.read(sandbox.record.runDirectory + "/keep.log", limit: 1 << 20), as: UTF8.self))
            print(sandbox.bootSteps)
        }
    }

    @Test(arguments: Runtime.allCases)
    func measure(_ runtime: Runtime) async throws {
        guard let n = CurrentProcess.environment("ROUNDS").flatMap({ Int($0) }) else { return }
        try await inWorld(runtime) { world in
            var all: [String: [Double]] = [:]
            for _ in 0..<n {
                var t = SystemTime.monotonic
                func lap(_ name: String) {
                    let now = SystemTime.monotonic
                    all[name, default: []].append(Double(now - t) / 1e6)
                    t = now
                }
                let spec = try world.spec()
                t = SystemTime.monotonic
                let sandbox = try await world.boot(spec)
                lap("TOTAL boot")
                for (k, v) in sandbox.bootSteps { all["boot." + k, default: []].append(v) }
                t = SystemTime.monotonic
                let talk = try await Conversation(sandbox)
                lap("attach")
                _ = try await talk.run("true")
                lap("exec sh -c true")
                await sandbox.kill()
                lap("kill")
                var b = ByteBuffer()
                while sandbox.ended.now == nil, (try? await talk.stream.read(into: &b)) ?? 0 > 0 {}
                _ = await sandbox.termination()
                lap("termination")
                await sandbox.release()
                lap("release")
                all["TOTAL kill+release", default: []].append(
                    ["kill", "termination", "release"].reduce(0) { $0 + (all[$1]!.last!) })
            }
            for (k, v) in all.sorted(by: { $0.key < $1.key }) {
                let s = v.sorted()
                func f(_ x: Double) -> String { String(Int(x * 100)).isEmpty ? "" : "\((x * 100).rounded() / 100)" }
                print("MEASURE", runtime, k, "p50", f(s[s.count / 2]), "min", f(s[0]), "max", f(s[s.count - 1]))
            }
        }
    }
}
