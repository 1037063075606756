import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The ledger through the CLI: what it tells, and what a check of it finds.
@Suite struct AuditTests {
    /// The records of a ledger as the CLI prints them for programs.
    private struct Record: Decodable {
        var seq: Int
        var kind: String
        var agent: String?
        var fields: [String: Value]?
        /// A field as its text.
        struct Value: Decodable {
            var text: String
            init(from decoder: any Decoder) throws {
                let c = try decoder.singleValueContainer()
                text = (try? c.decode(String.self)) ?? (try? c.decode(Int.self)).map { "\($0)" } ?? ""
            }
        }
    }

    private static func records(_ f: DaemonFixture, _ words: String...) async throws -> [Record] {
        let result = try await f.run(
            DaemonFixture.cli, ["audit", "tail", "--tail", "10000", "--output", "json"] + words)
        try #require(result.code == 0, "\(result)")
        return try result.out.split(separator: "\n").map {
            try JSONDecoder().decode(Record.self, from: Data($0.utf8))
        }
    }

    @Test func whatIsAllowedRefusedAndDoneIsTold() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("secret", "set", "PASSWORD", "-", input: Array("hunter2-of-audit\n".utf8))
            try await f.succeed(
                "run", "-d", "--name", "box", "--allow", "allowed.example:443", "--secret", "PASSWORD", "--", "sleep",
                "600")
            let id = try await f.record("box").id
            let refused = try await f.aegis(
                "exec", "box", "--", "python3", "-c",
                "import socket\ntry:\n socket.create_connection(('192.0.2.7', 443), 5)\nexcept OSError: pass")
            #expect(refused.code == 0, "\(refused)")
            try await f.eventually("the refusal is told") {
                try await Self.records(f, "--kinds", "network_denied").contains {
                    $0.agent == id && $0.fields?["host"]?.text == "192.0.2.7"
                }
            }
            try await f.succeed("instance", "delete", "box")
            let all = try await Self.records(f, "--agent", id)
            let kinds = all.map(\.kind)
            for kind in [
                "instance_created", "instance_started", "grant_issued", "secret_used", "exec_started", "instance_ended",
                "grant_revoked", "instance_deleted",
            ] {
                #expect(kinds.contains(kind), "\(kind) is not in \(kinds)")
            }
            // Once, and with its own command, whether it was kept ready or not.
            #expect(all.filter { $0.kind == "instance_started" }.map { $0.fields?["program"]?.text } == ["sleep"])
            let exec = try #require(all.first { $0.kind == "exec_started" })
            #expect(exec.fields?["program"]?.text == "python3" && exec.fields?["arguments"]?.text == "2")
            try await f.succeed("secret", "delete", "PASSWORD")
            try await f.refuse("secret", "delete", "PASSWORD", code: 4, error: "secret-not-found")
            let changes = try await Self.records(f, "--kinds", "secret_set,secret_deleted")
            #expect(changes.map(\.kind) == ["secret_set", "secret_deleted"])
            #expect(changes.allSatisfy { $0.fields?["secret"]?.text == "PASSWORD" })
            let text = try await f.run("/bin/sh", ["-c", "cat '\(f.home)'/audit/*.jsonl"])
            #expect(!text.out.contains("hunter2") && !text.out.contains("create_connection"))
            let check = try await f.succeed("audit", "verify")
            #expect(check.out.hasPrefix("intact: "), "\(check)")
        }
    }

    /// What an agent calls with is told without what is secret in it, whoever knows the secret from where.
    @Test func argumentsAreToldWithoutSecrets() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await f.succeed("secret", "set", "DEPLOY", "-", input: Array("tr0ub4dor\"3".utf8))
            let id = try await door.spawn(
                """
                name: worker
                model: default
                lifecycle: persistent
                capabilities: ["tool: echo", "tool: exec"]
                """)
            _ = try await door.invoke(id, "echo", ["message": "say tr0ub4dor\"3 twice: tr0ub4dor\"3"])
            // It is told although it is not allowed any further.
            _ = try await door.invoke(
                id, "exec", ["argv": ["curl", "--token", "hunter2", "https://u:hunter2@h/", "TOKEN=hunter2"]])
            let told = try await f.succeed("audit", "tail", "--kinds", "tool_invoked,tool_refused", "--output", "json")
            #expect(told.out.contains("say *** twice: ***"), "\(told)")
            #expect(!told.out.contains("hunter2") && !told.out.contains("tr0ub4dor"), "\(told)")
            // A value that came since counts as well.
            try await f.succeed("secret", "set", "LATER", "-", input: Array("correct-horse".utf8))
            _ = try await door.invoke(id, "echo", ["message": "a correct-horse-battery"])
            let later = try await f.run(
                "/bin/sh", ["-c", "grep -h tool_invoked '\(f.home)'/audit/*.jsonl | tail -n 1"])
            #expect(later.out.contains("a ***-battery"), "\(later)")
            try await f.succeed("audit", "verify")
        }
    }

    @Test func changesRemovalsAndCutsAreFoundAndNamed() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("run", "--", "true")
            let head = try await f.succeed("audit", "head", "--quiet").out.trimmingCharacters(
                in: .whitespacesAndNewlines)
            let key = try await f.succeed("audit", "head").out.split(separator: "\n").compactMap { line in
                line.split(separator: " ").first { $0.hasPrefix("ed25519:") }.map(String.init)
            }.first
            let file = f.path("copy/000000000001.jsonl")
            let copied = try await f.succeed("audit", "export", f.path("copy"))
            #expect(copied.out.contains("Segments"), "\(copied)")
            let good = try String(contentsOfFile: file, encoding: .utf8)
            let lines = good.split(separator: "\n").map(String.init)
            let at = try #require(lines.firstIndex { $0.contains("instance_started") })
            func check(_ changed: [String], _ code: Int32, _ words: String...) async throws {
                try (changed.joined(separator: "\n") + "\n").write(toFile: file, atomically: true, encoding: .utf8)
                let result = try await f.run(
                    DaemonFixture.cli,
                    ["audit", "verify", "--path", f.path("copy"), "--key", try #require(key), "--head", head])
                #expect(result.code == code, "\(result)")
                for word in words { #expect(result.out.contains(word), "\(word): \(result)") }
            }
            try await check(lines, 0, "intact")
            var bad = lines
            bad[at].replace("instance_started", with: "instance_starteD")
            try await check(bad, 1, "changed  000000000001.jsonl:\(at + 1)  the text of record \(at + 1)")
            bad = lines
            bad.remove(at: at)
            try await check(bad, 1, "removed  000000000001.jsonl:\(at + 1)  record \(at + 1) is missing")
            bad = lines
            bad.swapAt(at, at - 1)
            try await check(bad, 1, "misplaced")
            try await check(Array(lines.prefix(at)), 1, "truncated", "the ledger ends at record \(at)")
            try await check([], 1, "malformed", "truncated")

            // The same in place, with the daemon ended: the database knows how far it went.
            try await f.succeed("down")
            let own = "\(f.home)/audit/000000000001.jsonl"
            let whole = try String(contentsOfFile: own, encoding: .utf8)
            #expect(try await f.aegis("audit", "verify").code == 0)
            let fewer = whole.split(separator: "\n").dropLast(2).joined(separator: "\n") + "\n"
            try fewer.write(toFile: own, atomically: true, encoding: .utf8)
            let cut = try await f.aegis("audit", "verify")
            #expect(cut.code == 1 && cut.out.contains("truncated"), "\(cut)")
            try whole.write(toFile: own, atomically: true, encoding: .utf8)
            try await f.up()
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// The kinds that the sources declare, and those that the docs tell of.
    private static func declared() throws -> Set<String> {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let sources = root.appending(path: "Sources")
        let files = try #require(FileManager.default.enumerator(at: sources, includingPropertiesForKeys: nil))
        var kinds: Set<String> = []
        for case let file as URL in files where file.pathExtension == "swift" {
            let text = try String(contentsOf: file, encoding: .utf8)
            for match in text.matches(of: /AuditKind\("([a-z_]+)"/) { kinds.insert(String(match.1)) }
        }
        let docs = try String(contentsOf: root.appending(path: "docs/audit.md"), encoding: .utf8)
        let begin = try #require(docs.range(of: "\n### Kinds\n")).upperBound
        let end = try #require(docs.range(of: "\n### The kinds of the original\n")).lowerBound
        for line in docs[begin..<end].split(separator: "\n") where line.hasPrefix("| `") {
            let cell = line.dropFirst(2).prefix { $0 != "|" }
            for match in cell.matches(of: /`([a-z_]+)`/) { kinds.insert(String(match.1)) }
        }
        return kinds
    }

    @Test func everyKindCanBeAskedForAndNoOther() async throws {
        let kinds = try Self.declared().sorted()
        try #require(kinds.count > 40)
        try await DaemonFixture.with { f in
            _ = try await Self.records(f, "--kinds", kinds.joined(separator: ","))
            // Their first words will do for events, up to each '_'.
            let beginnings = kinds.flatMap { kind in
                kind.indices.filter { kind[$0] == "_" }.map { String(kind[..<$0]) }
            }
            try await f.succeed("events", "--types", (kinds + beginnings).joined(separator: ","), "--tail", "1")
            for (words, hint) in [
                (["audit", "tail", "--kinds", "exec_started,capabilty_denied"], "did you mean 'capability_denied'?"),
                (["audit", "tail", "--follow", "--kinds", "exec"], "docs/audit.md has all kinds"),
                (["events", "--types", "agents"], "did you mean 'agent'?"),
                (["events", "--follow", "--types", "tool,approval"], "their first words will do"),
            ] {
                let refused = try await f.run(DaemonFixture.cli, words)
                #expect(refused.code == 2 && refused.err.contains("(unknown-kind)"), "\(words): \(refused)")
                #expect(refused.err.contains(hint), "\(words): \(refused)")
            }
        }
    }

    @Test func aKilledDaemonBreaksNothing() async throws {
        try await DaemonFixture.with { f in
            let follower = try f.begin("audit", "tail", "--follow", "--kinds", "exec_started")
            try await f.succeed("run", "-d", "--name", "box", "--", "sleep", "600")
            for round in 0..<3 {
                let noise = try f.begin("exec", "box", "--", "sh", "-c", "sleep 600")
                try await f.eventually("it is told") {
                    try await Self.records(f, "--kinds", "exec_started").count > round
                }
                try await f.crash()
                // Half a record, as a power loss could leave it.
                let end = try FileHandle(forWritingTo: URL(fileURLWithPath: "\(f.home)/audit/000000000001.jsonl"))
                try end.seekToEnd()
                try end.write(contentsOf: Data(#"{"v":1,"seq":9"#.utf8))
                try end.close()
                #expect(try await f.aegis("audit", "verify").code == 0)
                try await f.up()
                let check = try await f.aegis("audit", "verify")
                #expect(check.code == 0, "\(check)")
                _ = try await noise.result()
            }
            #expect(try await Self.records(f, "--kinds", "tail_recovered").count == 3)
            #expect(try await Self.records(f, "--kinds", "daemon_started").count == 4)
            let told = try await follower.result()
            #expect(told.out.contains("exec_started") && told.out.contains("program=sh"), "\(told)")
        }
    }

    /// The ledger alone on a small disk.
    @Test func whatCannotBeRecordedIsNotDone() async throws {
        try await Crowd.enter {
            try await onLoop { loop in
                let f = try DaemonFixture(loop: loop)
                try Files.makeDirectories("\(f.home)/audit", mode: 0o700)
                try Mounts.mount("none", on: "\(f.home)/audit", type: "tmpfs", data: "size=1100k,mode=700")
                defer {
                    try? Mounts.unmount("\(f.home)/audit", detach: true)
                    try? Files.removeTree(f.home)
                }
                try await BaseImageCache.shared.install(into: f)
                try await f.up()
                let result: Result<Void, any Error>
                do { result = .success(try await Self.fillAndFree(f)) } catch { result = .failure(error) }
                let down = try await f.aegis("down")
                #expect(down.code == 0, "\(down)")
                try result.get()
            }
        }
    }

    private static func fillAndFree(_ f: DaemonFixture) async throws {
        try await f.succeed("run", "-d", "--name", "box", "--", "sleep", "600")
        let filler = "\(f.home)/audit/filler"
        let daemon = try #require(f.daemonPid)
        // All room, that which the ledger has taken ahead included; it may be writing, so it stands still.
        let full = try await f.shell(
            """
            cd '\(f.home)/audit' && kill -STOP \(daemon)
            truncate -s $(stat -c %s 000000000001.jsonl) 000000000001.jsonl; kill -CONT \(daemon)
            dd if=/dev/zero of=filler bs=4k status=none 2>/dev/null; df --output=avail . | tail -1
            """)
        try #require(full.out.trimmingCharacters(in: .whitespaces) == "0\n", "\(full)")
        var refused: CommandResult?
        // The last block of the file has room for a few more.
        for _ in 0..<20 where refused == nil {
            let result = try await f.aegis("exec", "box", "--", "touch", "/tmp/done-\(UUID())")
            if result.code != 0 { refused = result }
        }
        #expect(
            refused?.code == 125 && refused?.err.contains("audit-disk-full") == true, "\(String(describing: refused))")
        try await f.refuse("run", "--", "true", code: 125, error: "audit-disk-full")
        #expect(try await f.succeed("audit", "head").out.contains("no space left for the ledger"))
        try Files.removeFile(filler)
        // Each file that is there was told before it was made.
        let made = try await f.succeed("exec", "box", "--", "sh", "-c", "ls /tmp | grep -c done-")
        let told = try await records(f, "--kinds", "exec_started").count { $0.fields?["program"]?.text == "touch" }
        #expect(made.out == "\(told)\n")
        try await f.succeed("run", "--", "true")
        #expect(try await f.aegis("audit", "verify").code == 0)
    }
}
