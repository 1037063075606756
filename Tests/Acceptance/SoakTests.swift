import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Everyday use for as long as it is told to (`AEGIS_ENDURANCE`, seconds): nothing grows, and nothing is left. Part of tier 3.
@Suite(.serialized) struct SoakTests {
    /// What the daemon holds.
    struct Weight: CustomStringConvertible {
        var resident: Int
        var descriptors: Int
        var threads: Int
        var description: String { "\(resident) KiB resident, \(descriptors) descriptors, \(threads) threads" }
    }

    func weight(_ f: DaemonFixture) async throws -> Weight {
        struct Status: Decodable { var pid: Int32 }
        let json = try await f.succeed("status", "--output", "json")
        let pid = try JSONDecoder().decode(Status.self, from: Data(json.stdout)).pid
        let text = try kernelText("/proc/\(pid)/status")
        func number(_ key: String) -> Int? {
            let line = text.split(separator: "\n").first { $0.hasPrefix(key) }
            return line?.split { $0 == "\t" || $0 == " " }.compactMap { Int($0) }.first
        }
        let (resident, threads) = (number("VmRSS:"), number("Threads:"))
        return Weight(
            resident: try #require(resident),
            descriptors: try FileManager.default.contentsOfDirectory(atPath: "/proc/\(pid)/fd").count,
            threads: try #require(threads))
    }

    /// One of everything that is done all day.
    private func day(_ f: DaemonFixture, _ backend: String, _ number: Int) async throws {
        let name = "soak-\(backend)"
        try await f.succeed(
            "instance", "start", "--name", name, "--isolation", backend, "--workspace", "soak", "--expose", "8000",
            "--", "sh", "-c", "python3 -m http.server 8000")
        for _ in 0..<4 { try await f.succeed("exec", name, "--", "sh", "-c", "echo x >> /workspace/all; seq 1000") }
        try await f.succeed("instance", "pause", name)
        try await f.succeed("exec", name, "--", "true")
        try await f.succeed("cp", "\(name):/workspace/all", f.path("copy-\(backend)"))
        try await f.succeed("instance", "restart", name)
        try await f.succeed("logs", name)
        try await f.succeed("instance", "delete", name)
        #expect(try await f.succeed("run", "--isolation", backend, "--", "echo", "\(number)").out == "\(number)\n")
        try await f.refuse(
            "run", "--isolation", backend, "--", "no-such-command", code: 127, error: "command-not-found")
    }

    @Test(
        .enabled(if: Endurance.includes(Endurance.parts - 2), "another part was asked for"), arguments: backends)
    func twentyThousandDropsLeaveNothingBehind(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let begin = ContinuousClock.now
            // Pools and caches fill up in the first half.
            var (paused, weights) = (0, [try await weight(f)])
            for _ in 0..<2 {
                paused += try await f.drop(10_000, backend)
                weights.append(try await weight(f))
            }
            print("20,000 drops on \(backend), paused \(paused) times, in \(ContinuousClock.now - begin): \(weights)")
            #expect(weights[2].resident <= weights[1].resident + 8192)
        }
    }

    @Test(.enabled(if: Endurance.includes(Endurance.parts - 2), "another part was asked for"))
    func nothingGrowsOverManyDays() async throws {
        try await DaemonFixture.with { f in
            func days(_ first: Int, _ count: Int) async throws {
                for number in first..<(first + count) { for backend in backends { try await day(f, backend, number) } }
            }
            // Pools and caches fill up first.
            try await days(0, 5)
            let early = try await weight(f)
            let end = ContinuousClock.now + .seconds(Endurance.seconds)
            var number = 5
            repeat {
                try await days(number, 1)
                number += 1
            } while ContinuousClock.now < end
            let late = try await weight(f)
            print("\(number) days: \(early) after the fifth, \(late) at the end")
            #expect(late.descriptors <= early.descriptors + 2)
            #expect(late.threads <= early.threads + 2)
            // Ten KiB a day would be a leak of some object with its buffer.
            #expect(late.resident <= early.resident + 4096 + 10 * (number - 5))
            #expect(try await f.list().isEmpty)
        }
    }
}
