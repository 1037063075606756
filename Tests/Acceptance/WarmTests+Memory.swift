import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What is kept ready on a machine whose memory gets less while no task has to wait for any.
extension WarmTests {
    /// MiB that can be had without swapping.
    private static func available() throws -> Int {
        let text = try kernelText("/proc/meminfo")
        let line = text.split(separator: "\n").first { $0.hasPrefix("MemAvailable:") }
        return try #require(line?.split(separator: " ").dropFirst().first.flatMap { Int($0) }) >> 10
    }

    /// What the record says of the sandbox for an instance's next start.
    private struct Next: Decodable {
        var standby: String?
        var obstacle: String?
        private enum CodingKeys: String, CodingKey {
            case standby
            case obstacle = "standby_obstacle"
        }
    }

    private func next(_ f: DaemonFixture) async throws -> Next {
        let json = try await f.succeed("instance", "info", "web", "--output", "json")
        return try JSONDecoder().decode(Next.self, from: Data(json.stdout))
    }

    @Test(arguments: backends) func aStartThatLeavesLessThanTheReserveEndsThePool(_ backend: String) async throws {
        try await HostMemory.alone {
            let free = try Self.available()
            let kept = free - min(1500, free / 4)
            try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }, warm_reserve: \(kept)Mi")) {
                f in
                try await full(f)
                try await f.succeed(
                    "instance", "start", "--name", "web", "--isolation", backend, "--expose", "80", "--idle-pause",
                    "0s",
                    "--idle-stop", "100ms", "--idle-standby", "--", "sleep", "100000")
                try await f.eventually("a standby is ready") { try await next(f).standby == "ready" }
                let filler = "/dev/shm/aegis-test-\(try Random.hex(bytes: 6))"
                defer { try? Files.removeFile(filler) }
                var size = 0
                try await f.eventually("the pool has gone") {
                    // Others give memory back meanwhile, and take some.
                    size += max(0, try Self.available() - kept + 300)
                    if size > 0 {
                        #expect(try await f.run("/usr/bin/fallocate", ["-l", "\(size)M", filler]).code == 0)
                    }
                    // What is to be fetched anew takes no sandbox from the pool; the base image is never fetched.
                    try await f.succeed("run", "--isolation", backend, "--pull", "always", "--", "true")
                    return try await warm(f).allSatisfy {
                        $0.ready == 0 && $0.claimed == 0 && $0.obstacle?.contains("are kept free") ?? false
                    }
                }
                try await f.eventually("the standby has gone") {
                    let next = try await next(f)
                    return next.standby == "waiting" && next.obstacle?.contains("are kept free") ?? false
                }
            }
        }
    }
}
