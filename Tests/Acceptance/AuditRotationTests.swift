import AegisIO
import Foundation
import LinuxSys
import Testing

/// A ledger in many files, of which the oldest go: what agents do fills them.
@Suite struct AuditRotationTests {
    /// Calls a tool so many times over one connection.
    private static func work(_ door: AgentDoor, _ agent: String, calls: Int) async throws {
        let client = """
            import json, socket, sys
            s = socket.socket(socket.AF_UNIX); s.settimeout(100); s.connect(sys.argv[1]); f = s.makefile("rwb")
            for number in range(int(sys.argv[3])):
                f.write(json.dumps({"jsonrpc": "2.0", "id": number, "method": "tool.invoke", "params": {
                    "agent_id": sys.argv[2], "tool": "echo", "input": {"message": str(number) + "x" * 150}}}).encode() + b"\\n")
                f.flush()
                assert "result" in json.loads(f.readline())
            """
        let run = try await door.fixture.run(
            "/usr/bin/python3", ["-c", client, "\(door.fixture.home)/agentd.sock", agent, "\(calls)"])
        try #require(run.code == 0, "\(run)")
    }

    private static func segments(_ f: DaemonFixture) throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: "\(f.home)/audit").filter { $0.hasPrefix("0") }.sorted()
    }

    /// Bytes of all of them.
    private static func size(_ f: DaemonFixture) throws -> UInt64 {
        try segments(f).reduce(0) { $0 + ((try? Files.status("\(f.home)/audit/\($1)").size) ?? 0) }
    }

    @Test func whatIsDroppedIsProvenAndTheRestIsChecked() async throws {
        try await AgentDoor.with("  audit: { segment_size: 64Ki, retention: 1Mi }\n") { door in
            let f = door.fixture
            let agent = try await door.spawn(
                "name: talker\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo']")
            let early = try await f.succeed("audit", "head", "--quiet").out.trimmingCharacters(
                in: .whitespacesAndNewlines)
            let first = try await door.result("audit.tail", ["count": 1])
            try await Self.work(door, agent, calls: 100)
            #expect(try Self.segments(f).count > 1 && Self.segments(f).first == "000000000001.jsonl")
            let whole = try await f.aegis("audit", "verify")
            #expect(whole.code == 0, "\(whole)")
            // Over the death of a daemon, until the oldest have to go.
            try await f.crash()
            try await f.up()
            while try Self.segments(f).first == "000000000001.jsonl" { try await Self.work(door, agent, calls: 100) }
            // Beside what is written, and after it.
            try await f.eventually("no more is kept than may be") { try Self.size(f) <= (1 << 20) + (64 << 10) }
            let kept = try Self.segments(f)
            #expect(Files.exists("\(f.home)/audit/seals.jsonl"))
            let verified = try await f.aegis("audit", "verify")
            #expect(verified.code == 0, "\(verified)")
            let told = try await door.result("audit.tail", ["kinds": ["segments_dropped"]])
            #expect((told["records"] as? [Any])?.isEmpty == false, "\(told)")
            // Who reads from a place that is gone is told how much it misses.
            var (cursor, lost) = (first["cursor"], 0)
            while true {
                let late = try await door.result("audit.tail", ["after": cursor ?? ""])
                (cursor, lost) = (late["cursor"], lost + (late["lost"] as? Int ?? 0))
                guard late["more"] as? Bool == true else { break }
            }
            let gone = Int(kept[0].prefix { $0 != "." }) ?? 0
            #expect(gone > 1 && lost > 0, "\(gone): \(lost)")
            // A head that was kept elsewhere stands for what is gone.
            let known = try await f.aegis("audit", "verify", "--head", early)
            #expect(known.code == 2, "\(early): \(known)")
            try await Self.exportedAndDamaged(f)
        }
    }

    /// A copy is checked like the ledger; a file that is missing in its middle, changed or cut is found and named.
    private static func exportedAndDamaged(_ f: DaemonFixture) async throws {
        let copy = f.path("copy")
        try await f.succeed("audit", "export", copy)
        func check(_ folder: String) async throws -> CommandResult {
            try await f.aegis("audit", "verify", "--path", folder)
        }
        let whole = try await check(copy)
        #expect(whole.code == 0, "\(whole)")
        let files = try FileManager.default.contentsOfDirectory(atPath: copy).filter { $0.hasPrefix("0") }.sorted()
        let middle = files[files.count / 2]
        for (damage, word) in [
            ("rm \(middle)", "removed"), ("sed -i '20s/\"kind\":\"/&x/' \(middle)", "changed"),
            ("sed -i '20d' \(middle)", "removed"), ("sed -i '$d' \(middle)", "truncated"),
            ("sed -i '20{h;d};21{G}' \(middle)", "misplaced"),
        ] {
            let damaged = f.path("damaged")
            let made = try await f.shell(
                "rm -rf '\(damaged)' && cp -r '\(copy)' '\(damaged)' && cd '\(damaged)' && \(damage)")
            try #require(made.code == 0, "\(made)")
            let found = try await check(damaged)
            #expect(found.code == 1 && found.out.contains(word), "\(damage): \(found)")
            #expect(found.out.contains(".jsonl"), "\(damage): \(found)")
        }
        // Without the seals of what was dropped nobody can say that nothing else is missing.
        let sealless = try await f.shell("rm '\(copy)/seals.jsonl'")
        try #require(sealless.code == 0, "\(sealless)")
        #expect(try await check(copy).code == 2)
    }
}
