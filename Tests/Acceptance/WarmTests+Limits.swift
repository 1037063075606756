import AegisIO
import AegisTestSupport
import Foundation
import Testing

/// Sandboxes that were kept ready with other limits than those of the run that takes one.
extension WarmTests {
    /// Where limits have to be known when a sandbox is made, one is kept ready that has them.
    private static func shape(_ backend: String) -> String {
        backend == "runsc" ? "base@runsc+memory=256Mi+pids=100" : "base@runc"
    }

    private static func choices(_ backend: String) -> [[String]] {
        backend == "runsc"
            ? [
                ["--memory", "256Mi", "--pids", "100"], ["--memory", "256Mi", "--pids", "100", "--cpus", "0.5"],
            ]
            : [
                ["--memory", "256Mi"], ["--memory", "3Gi"], ["--cpus", "0.5"], ["--pids", "4000"],
                ["--memory", "96Mi", "--cpus", "1.5", "--pids", "32", "--user", "nobody"],
            ]
    }

    @Test(arguments: backends) func aClaimedSandboxWithLimitsOfItsOwnDiffersInNothing(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { \"\(Self.shape(backend))\": 1 }")) { f in
            for limits in Self.choices(backend) {
                let seen = try await both(f, backend, limits + ["--", "python3", "-c", Self.look])
                #expect(seen.allSatisfy { $0.code == 0 && $0.err.isEmpty && $0.out.utf8.count > 2000 }, "\(seen)")
                let (claimed, own) = (seen[0].out.split(separator: "\n"), seen[1].out.split(separator: "\n"))
                let difference = claimed.difference(from: own).map { "\($0)" }.joined(separator: "; ")
                #expect(difference == "", "\(limits)")
            }
        }
    }

    /// The limits in an instance's control group, and those that its record has.
    private func limits(_ f: DaemonFixture, of id: String) async throws -> [String: String] {
        struct Info: Decodable {
            struct Limits: Decodable, Equatable {
                var cpus: Double?
                var memory: String?
                var pids: Int?
            }
            var limits: Limits
        }
        let json = try await f.succeed("instance", "info", id, "--output", "json")
        var found = ["record": "\(try JSONDecoder().decode(Info.self, from: Data(json.stdout)).limits)"]
        let root = "/sys/fs/cgroup"
        for folder in [root] + (try FileManager.default.contentsOfDirectory(atPath: root)).map({ "\(root)/\($0)" }) {
            for name in [
                "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max", "memory.high", "memory.swap.max",
                "cpu.cfs_quota_us", "cpu.max", "pids.max",
            ] {
                let file = "\(folder)/aegis-\(try f.node)/\(id)/\(name)"
                if let text = try? String(contentsOfFile: file, encoding: .utf8) { found[name] = text }
            }
        }
        return found
    }

    /// The limits of a run that goes on for as long as somebody looks at them.
    private func limitsOf(_ f: DaemonFixture, _ words: [String]) async throws -> [String: String] {
        let run = try f.begin(program: DaemonFixture.cli, ["run"] + words + ["--", "sh", "-c", "sleep 1000"])
        var found: [String: String] = [:]
        try await f.eventually("it runs") {
            guard let one = try await f.list().first, one.state == "running" else { return false }
            found = try await limits(f, of: one.id)
            return true
        }
        _ = run.child.signal(SIGTERM)
        _ = try await run.result()
        try await f.eventually("it has gone") { try await f.list().isEmpty }
        return found
    }

    @Test(arguments: backends) func theLimitsOfAClaimedSandboxAreThoseOfItsRun(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { \"\(Self.shape(backend))\": 1 }")) { f in
            for words in Self.choices(backend) {
                try await full(f)
                let before = try await warm(f).reduce(0) { $0 + $1.claimed }
                let claimed = try await limitsOf(f, ["--isolation", backend] + words)
                #expect(try await warm(f).reduce(0) { $0 + $1.claimed } == before + 1, "\(words)")
                let own = try await limitsOf(f, ["--isolation", backend, "--pull", "always"] + words)
                #expect(claimed == own && claimed.count > 3, "\(words)")
            }
        }
    }

    @Test(arguments: backends) func aRunTakesTheOneThatWasMadeForItsLimits(_ backend: String) async throws {
        let config = Self.config("warm: { base@\(backend): 1, base@\(backend)+memory=96Mi+pids=64: 1 }")
        try await DaemonFixture.with(config: config) { f in
            func claims() async throws -> [Int] {
                try await full(f)
                return try await warm(f).sorted { $0.limits == nil && $1.limits != nil }.map(\.claimed)
            }
            #expect(try await claims() == [0, 0])
            let status = try await f.succeed("status").out
            #expect(status.contains("1 of 1 ready, base on \(backend), "), "\(status)")
            #expect(status.contains("1 of 1 ready, base on \(backend) with memory 96Mi, pids 64, "), "\(status)")
            let run = ["run", "--isolation", backend]
            try await f.succeed(words: run + ["--memory", "96Mi", "--pids", "64", "--", "true"])
            #expect(try await claims() == [0, 1])
            try await f.succeed(words: run + ["--", "true"])
            #expect(try await claims() == [1, 1])
            // Processors are no matter of what was told inside.
            try await f.succeed(words: run + ["--memory", "96Mi", "--pids", "64", "--cpus", "0.5", "--", "true"])
            #expect(try await claims().reduce(0, +) == 3)
            try await f.succeed(words: run + ["--memory", "128Mi", "--", "true"])
            #expect(try await claims().reduce(0, +) == (backend == "runc" ? 4 : 3))
            #expect(try await f.list().isEmpty)
        }
    }

    /// Whoever wants limits that a sandbox cannot be given after all starts one of their own.
    @Test func oneThatCannotHaveTheLimitsIsNobodys() async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@runc: 1 }")) { f in
            try await full(f)
            let id = try #require(
                try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/warm").first { $0.hasPrefix("i-") })
            // More memory is in use than the run is to have.
            let script = """
                import os, sys, time
                group = f'/aegis-{sys.argv[1]}/{sys.argv[2]}'
                roots = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup']
                open(next(r for r in roots if os.path.isdir(r + group)) + group + '/cgroup.procs', 'w').write('0')
                held = bytearray(b'x') * (200 << 20)
                open(sys.argv[3], 'w').close()
                time.sleep(1000)
                """
            let held = f.path("held")
            let user = try f.begin(program: "/usr/bin/python3", ["-c", script, try f.node, id, held])
            try await f.eventually("memory is in use") { FileManager.default.fileExists(atPath: held) }
            let run = try await f.succeed(
                "run", "--isolation", "runc", "--memory", "64Mi", "--", "stat", "-fc%b", "/tmp")
            #expect(run.out == "\(64 << 8)\n")
            // It has gone with the sandbox.
            #expect(try await user.result().code == 137)
            let log = try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8)
            #expect(log.contains("a warm sandbox is of no use") && log.contains("cannot change the limits of \(id)"))
            try await full(f)
            #expect(try await f.list().isEmpty)
        }
    }

    /// Networks are opened when a sandbox is somebody's, in whatever sandbox.
    @Test(arguments: backends) func aClaimedSandboxHasItsRunsNetwork(_ backend: String) async throws {
        try await OutsideWorld.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            let lines = """
                show('allowed', lambda: web('web.example'))
                show('denied', lambda: web('other.example'))
                show('host', lambda: literal('93.184.216.1', 22))
                show('links', lambda: sorted(name for _, name in socket.if_nameindex()))
                show('resolver', lambda: open('/etc/resolv.conf').read())
                """
            let script = NetworkTests.attempts + "\n" + lines
            let seen = try await both(f, backend, ["--allow", "web.example", "--", "python3", "-c", script])
            #expect(seen.allSatisfy { $0.code == 0 } && seen[0].out == seen[1].out, "\(seen)")
            let answers = NetworkTests.answers(seen[0].out)
            #expect(answers["allowed"]?.hasPrefix("(200, 'web web.example") == true, "\(answers)")
            #expect(answers["denied"]?.hasPrefix("gaierror") == true, "\(answers)")
            #expect(answers["host"]?.hasPrefix("ConnectionResetError") == true, "\(answers)")
            // Where TLS is looked into, the sandbox has to trust the authority from its boot on.
            try await full(f)
            try await f.succeed("run", "--isolation", backend, "--allow", "web.example,inspect", "--", "true")
            #expect(try await warm(f).allSatisfy { $0.claimed == 1 })
            #expect(try await f.list().isEmpty)
        }
    }
}
