import AegisTestSupport
import Foundation
import Testing

/// Instances that are in use as long as they use the processor (`--idle-cpu`).
@Suite struct IdleCPUTests {
    private static let burn = "while [ ! -e /tmp/quiet ]; do :; done; exec sleep 100000"

    @Test(arguments: backends) func whatUsesTheProcessorIsAwakeUntilItIsQuiet(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            func start(_ name: String, _ script: String, _ more: String...) async throws {
                try await f.succeed(
                    words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", "80"]
                        + ["--idle-stop", "0s"] + more + ["--", "sh", "-c", script])
            }
            let (busy, quiet, unwatched) = ("busy-\(backend)", "quiet-\(backend)", "unwatched-\(backend)")
            // It is to get little in much time: it shares the machine with all other tests.
            try await start(busy, Self.burn, "--idle-pause", "3s", "--idle-cpu", "1")
            try await start(quiet, "exec sleep 100000", "--idle-pause", "1s", "--idle-cpu", "5")
            try await start(unwatched, Self.burn, "--idle-pause", "1s")
            // Its neighbours go to sleep again and again meanwhile: the one that is quiet, and the one whose work nobody looks at.
            for round in 1...6 {
                for name in [quiet, unwatched] {
                    try await f.eventually("\(name) is paused, \(round)") {
                        try await f.record(name).state == "paused"
                    }
                    try await f.succeed("instance", "resume", name)
                }
                // Nobody wakes it: what runs now has not been paused.
                #expect(try await f.record(busy).state == "running", "\(round)")
            }
            try await f.succeed("exec", busy, "--", "touch", "/tmp/quiet")
            try await f.eventually("it is paused") { try await f.record(busy).state == "paused" }
            for name in [busy, quiet, unwatched] { try await f.succeed("instance", "delete", name) }
        }
    }
}
