import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What sandboxes that are kept ready cost while they wait. (Apart from `WarmTests`, which run one after the other.)
@Suite struct WarmWaitingTests {
    /// Nanoseconds of a processor that each thread of a sandbox has used, and whether it is frozen.
    private func work(_ f: DaemonFixture, of id: String) throws -> (used: [String: String], isFrozen: Bool) {
        var used: [String: String] = [:]
        for pid in try f.processes(of: id) {
            for thread in (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/task")) ?? [] {
                let text = try? kernelText("/proc/\(pid)/task/\(thread)/schedstat")
                used[thread] = text?.split(separator: " ").first.map(String.init)
            }
        }
        let group = "aegis-\(try f.node)/\(id)"
        let first = try? kernelText("/sys/fs/cgroup/freezer/\(group)/freezer.state")
        let second = try? kernelText("/sys/fs/cgroup/\(group)/cgroup.events")
        return (used, first == "FROZEN\n" || second?.contains("frozen 1\n") == true)
    }

    /// Lets other work be done until there was some during which the sandbox did none: at once where it is frozen.
    private func expectRest(
        _ f: DaemonFixture, of id: String, _ backend: String, _ meanwhile: () async throws -> Void
    ) async throws {
        let isFrozen = backend == "runsc"
        for round in 1... {
            let before = try work(f, of: id)
            #expect(!before.used.isEmpty && before.isFrozen == isFrozen, "\(before)")
            try await meanwhile()
            let after = try work(f, of: id)
            if after.used == before.used { return }
            // Elsewhere the harness may have had something to do still when it was said to be ready.
            try #require(!isFrozen && round < 20, "\(before) \(after)")
        }
    }

    @Test(arguments: backends) func whatWaitsDoesNothing(_ backend: String) async throws {
        // Where memory is scarce for whatever reason, nothing is kept ready.
        try await HostMemory.alone {
            try await DaemonFixture.with(config: WarmTests.config("warm: { base@\(backend): 1 }")) { f in
                func other() async throws {
                    for _ in 0..<3 {
                        try await f.succeed(
                            "run", "--isolation", backend, "--pull", "always", "--", "python3", "-c", "0")
                    }
                }
                try await WarmTests().full(f)
                let pooled = try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/warm")
                    .filter { $0.hasPrefix("i-") }
                try #require(pooled.count == 1)
                try await expectRest(f, of: pooled[0], backend, other)
                // It is that one which is taken.
                let taken = try await f.succeed("run", "--isolation", backend, "--", "hostname")
                #expect(taken.out == "\(pooled[0])\n")
                // The same of one that is made for an instance.
                try await f.succeed(
                    "instance", "start", "--name", "web", "--isolation", backend, "--expose", "80", "--idle-pause",
                    "0s",
                    "--idle-stop", "100ms", "--idle-standby", "--", "sleep", "100000")
                try await f.eventually("a standby is ready") {
                    try await f.succeed("instance", "info", "web").out.contains("Standby:      ready\n")
                }
                try await WarmTests().full(f)
                try await expectRest(f, of: try await f.record("web").id, backend, other)
            }
        }
    }
}
