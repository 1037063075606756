import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// `aegis backup` and `aegis restore`, the daemon running and not.
@Suite struct BackupTests {
    private static let words = "correct horse battery staple"

    private func passphrase(_ f: DaemonFixture, _ text: String = words) throws -> String {
        let file = f.path("passphrase-\(text.utf8.count)")
        try (text + "\n").write(toFile: file, atomically: true, encoding: .utf8)
        return file
    }

    /// The CLI in another home.
    private func aegis(_ f: DaemonFixture, home: String, _ line: String) async throws -> CommandResult {
        try await f.run("/bin/sh", ["-c", "export AEGIS_HOME='\(home)'; '\(DaemonFixture.cli)' \(line)"])
    }

    private static let config =
        "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: x }\nspec:\n  instances: { max: 77 }\n"

    @Test func aNodeComesBackSomewhereElse() async throws {
        try await DaemonFixture.with(config: Self.config) { f in
            let words = try passphrase(f)
            try await f.succeed("secret", "set", "KEPT", "-", input: Array("value-of-kept\n".utf8))
            try await f.succeed(
                "run", "-d", "--name", "box", "--secret", "KEPT", "--env", "COLOUR=red", "--", "sh", "-c",
                "echo $KEPT $COLOUR; sleep 600")
            try await f.succeed("instance", "create", "--name", "never", "--", "true")
            let file = f.path("aegis.backup")
            // While it runs, and while somebody else changes what is stored.
            let busy = try f.begin("run", "--", "sleep", "3")
            let made = try await f.succeed("backup", "--passphrase-file", words, file)
            #expect(made.out.contains("2 instances, 1 secret, configuration \(f.home)/aegis-config.yaml"), "\(made)")
            #expect(made.out.contains("not in it: images"), "\(made)")
            #expect(try Files.status(file).permissions == 0o600)
            let plain = try await f.run("/bin/grep", ["-c", "-e", "COLOUR", "-e", "value-of-kept", "-e", "box", file])
            #expect(plain.out == "0\n", "\(plain)")
            #expect(try Files.list(f.home).filter { $0.name.hasPrefix(".backup") }.isEmpty)
            try await f.refuse("backup", "--passphrase-file", words, file, code: 5, error: "file-exists")
            #expect(try await busy.result().code == 0)

            // Another home, the first daemon running on: nothing of either touches the other.
            let home = f.path("elsewhere")
            let restored = try await aegis(f, home: home, "restore --passphrase-file '\(words)' '\(file)'")
            try #require(restored.code == 0, "\(restored)")
            #expect(restored.out.contains("2 instances, 1 secret"), "\(restored)")
            let names = try Files.list(home).map(\.name)
            #expect(
                names
                    == ["aegis-config.yaml", "aegis.db", "aegisd.lock", "audit", "audit.key", "secrets.key", "token"],
                "\(names)")
            for name in ["aegis.db", "audit.key", "secrets.key", "token"] {
                #expect(try Files.status("\(home)/\(name)").permissions == 0o600, "\(name)")
            }
            try await BaseImageCache.shared.install(into: DaemonFixture(loop: f.loop, home: home))
            let other = DaemonFixture(loop: f.loop, home: home)
            try await other.up()
            do { try await checkRestored(other, first: f) } catch {
                _ = try await other.aegis("down")
                throw error
            }
            try await other.succeed("down")
            #expect(try await f.record("box").state == "running")
        }
    }

    private func checkRestored(_ other: DaemonFixture, first: DaemonFixture) async throws {
        let all = try await other.list()
        #expect(all.compactMap(\.name).sorted() == ["box", "never"] && all.allSatisfy { $0.state == "stopped" })
        #expect(try other.node != first.node)
        // The ledger came along, and goes on here.
        let check = try await other.succeed("audit", "verify")
        #expect(check.out.hasPrefix("intact") && check.out.contains("it was restored there"), "\(check)")
        try await other.succeed("instance", "start", "box")
        try await other.eventually("the command speaks") {
            let text = try await other.aegis("logs", "box").out
            return text.contains("*** red")
        }
        let value = try await other.succeed("exec", "box", "--", "printenv", "KEPT", "COLOUR")
        #expect(value.out == "value-of-kept\nred\n", "\(value)")
        let shown = try await other.succeed("config", "show", "--output", "json")
        #expect(shown.out.contains("\"77\""), "\(shown)")
        let tokens = try [first, other].map { try Files.read("\($0.home)/token", limit: 100) }
        #expect(tokens[0] == tokens[1])
        try await other.succeed("instance", "start", "never")
    }

    @Test func aHomeIsReplacedOnlyWhenThatIsAskedForAndNothingIsLost() async throws {
        try await DaemonFixture.with { f in
            let words = try passphrase(f)
            let file = f.path("aegis.backup")
            try await f.succeed("secret", "set", "OLD", "-", input: Array("one".utf8))
            try await f.succeed("instance", "create", "--name", "first", "--", "true")
            try await f.succeed("backup", "--passphrase-file", words, file)
            try await f.succeed("secret", "delete", "OLD")
            try await f.succeed("instance", "create", "--name", "second", "--", "true")
            let restore = ["restore", "--passphrase-file", words]
            func refused(_ arguments: [String], _ code: Int32, _ error: String) async throws {
                let result = try await f.run(DaemonFixture.cli, restore + arguments)
                #expect(result.code == code && result.err.contains("(\(error))"), "\(arguments): \(result)")
            }
            try await refused(["--force", file], 5, "already-running")
            // A daemon that died left a sandbox: its record must not be replaced.
            try await f.succeed("run", "-d", "--name", "live", "--", "sleep", "600")
            try await f.crash()
            try await refused(["--force", file], 5, "instances-running")
            try await f.succeed("down")
            try await refused([file], 5, "home-in-use")
            let before = try await f.shell("cd '\(f.home)' && sha256sum aegis.db secrets.key token && ls -A")
            for (bad, error) in try badFiles(file, f) { try await refused(["--force", bad], 1, error) }
            let wrong = try await f.run(
                DaemonFixture.cli, ["restore", "--force", "--passphrase-file", try passphrase(f, "guess"), file])
            #expect(wrong.code == 6 && wrong.err.contains("(backup-passphrase)"), "\(wrong)")
            #expect(
                try await f.shell("cd '\(f.home)' && sha256sum aegis.db secrets.key token && ls -A").out == before.out)

            let done = try await f.run(DaemonFixture.cli, restore + ["--force", file, "-o", "json"])
            struct Report: Decodable { var instances: Int, secrets: Int, replaced: String, writer: String }
            let report = try JSONDecoder().decode(Report.self, from: Data(done.stdout))
            #expect(report.instances == 1 && report.secrets == 1 && report.writer.hasPrefix("aegis "))
            #expect(try Files.list(report.replaced).map(\.name).contains("aegis.db"))
            try await f.up()
            #expect(try await f.list().compactMap(\.name) == ["first"])
            #expect(try await f.succeed("run", "--secret", "OLD", "--", "printenv", "OLD").out == "one\n")
        }
    }

    /// What agents did after a backup is not in it: they come back, and nothing that was under way goes on.
    @Test func whatAgentsWereDoingDoesNotGoOn() async throws {
        let rules = """
              - when: { agent: worker, message: slow }
                latency: 3s
                reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "x", append: true } }] }
              - when: { agent: bootstrap }
                latency: 10m
                reply: { text: never }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            let id = try await door.spawn(
                "name: worker\nmodel: default\nlifecycle: persistent\n"
                    + "capabilities: ['tool: file_write', 'file_write: /workspace/**']\napproval_required: [file_write]"
            )
            func send(_ text: String) async throws -> String {
                let sent = try await door.result("agent.run", ["agent_id": id, "message": text, "wait": false])
                return try #require(sent["trace_id"] as? String)
            }
            let (first, second) = (try await send("slow one"), try await send("another"))
            let goal = try await f.succeed("goal", "--detach", "go on").out.trimmingCharacters(
                in: .whitespacesAndNewlines)
            try await f.eventually("it waits for a person") {
                (try await door.result("approval.list")["pending"] as? [Any])?.count == 1
            }
            try await restoreAtOnce(f)
            let reply = try await door.result("agent.reply", ["agent_id": id, "trace_id": first, "wait": true])
            #expect(reply["stop_reason"] as? String == "cancelled", "\(reply)")
            #expect(try await door.problem("agent.reply", ["agent_id": id, "trace_id": second]) == "trace-not-found")
            #expect((try await door.result("approval.list")["pending"] as? [Any])?.isEmpty == true)
            let over = try await door.result("goal.show", ["goal_id": goal])
            #expect("\(over)".contains("cancelled") && "\(over)".contains("goal-restored"), "\(over)")
            // It lives, and knows what was said.
            let next = try await door.result("agent.run", ["agent_id": id, "message": "hello"])
            #expect(next["stop_reason"] as? String == "complete", "\(next)")
        }
    }

    /// A question to the world that was under way is not asked again for a turn that only ends: others may see it, and it may cost.
    @Test func whatWasBegunIsNotBegunAgain() async throws {
        let rules = """
              - when: { agent: finder, tool: web_search }
                reply: { text: "{{result}}" }
              - when: { agent: finder }
                reply: { tools: [{ name: web_search, input: { query: tides } }] }

            """
        try await DaemonFixture.with(config: nil) { f in
            // The first question is never answered; each leaves a byte.
            let program = """
                class Handler(Base):
                    def do_GET(self):
                        with open(sys.argv[1] + ".asked", "a") as asked:
                            asked.write("x"); first = asked.tell() == 1
                        if first: return threading.Event().wait()
                        self.answer(200, "application/json", b'{"results": []}')
                serve(Handler)
                """
            try await LocalServer.with(f, program) { server in
                let asked = { FileManager.default.contents(atPath: server.file + ".asked")?.count ?? 0 }
                let door = AgentDoor(fixture: f)
                try await f.succeed("down")
                let search = "  web_search: { type: searxng, endpoint: \"http://127.0.0.1:\(server.port)/\" }\n"
                try AgentDoor.configuration(f, search, rules: rules)
                try await f.up()
                let id = try await door.spawn("finder", ["tool: web_search", "web_search"])
                let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
                try await f.eventually("it is asked") { asked() == 1 }
                try await restoreAtOnce(f)
                let turn: [String: Any] = ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true]
                let reply = try await door.result("agent.reply", turn)
                #expect(reply["stop_reason"] as? String == "cancelled", "\(reply)")
                #expect(asked() == 1)
                // The ledger has an end for both: the call, whose outcome nobody knows, and the turn.
                let told = try await door.result("audit.tail", ["agent": id])
                let resumed = (told["records"] as? [[String: Any]])?.filter { $0["kind"] as? String == "tool_resumed" }
                #expect((resumed?.first?["fields"] as? [String: Any])?["outcome"] as? String == "unknown", "\(told)")
            }
        }
    }

    /// A turn in the pause before it is begun anew is under way, too.
    @Test func aTurnThatWasToBeBegunAnewIsNot() async throws {
        let rules = """
              - when: { agent: mourner, message: hello }
                reply: { text: hello }
              - when: { agent: mourner }
                fail: { status: 401, message: bad key }

            """
        try await AgentDoor.with(rules: rules) { door in
            let f = door.fixture
            func spawn(_ restart: String) async throws -> (id: String, trace: Any) {
                let id = try await door.spawn(
                    "name: mourner\nmodel: default\nlifecycle: persistent\nrestart: \(restart)")
                let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
                return (id, sent["trace_id"] ?? "")
            }
            func state(_ id: String) async throws -> String? {
                let list = try await door.result("agent.list")["agents"] as? [[String: Any]]
                return list?.first { $0["id"] as? String == id }?["state"] as? String
            }
            func reply(_ agent: (id: String, trace: Any)) async throws -> [String: Any] {
                try await door.result("agent.reply", ["agent_id": agent.id, "trace_id": agent.trace, "wait": true])
            }
            let pausing = try await spawn("{policy: on-failure, pause: 1h}")
            try await f.eventually("it waits to be begun anew") { try await state(pausing.id) == "restarting" }
            let failed = try await spawn("never")
            #expect(try await reply(failed)["stop_reason"] as? String == "error")
            try await restoreAtOnce(f)
            #expect(try await state(pausing.id) == "idle")
            #expect(try await reply(pausing)["stop_reason"] as? String == "cancelled")
            // What had ended by itself stays as it was.
            let told = try await reply(failed)
            #expect(told["stop_reason"] as? String == "error", "\(told)")
            let next = try await door.result("agent.run", ["agent_id": pausing.id, "message": "hello"])
            #expect(next["stop_reason"] as? String == "complete", "\(next)")
        }
    }

    /// Makes a backup of what is under way, and begins anew with it.
    private func restoreAtOnce(_ f: DaemonFixture) async throws {
        let words = try passphrase(f)
        try await f.succeed("backup", "--passphrase-file", words, f.path("aegis.backup"))
        try await f.succeed("down")
        try await f.succeed("restore", "--force", "--passphrase-file", words, f.path("aegis.backup"))
        try await f.up()
    }

    /// Copies that are cut, changed, and made of something else.
    private func badFiles(_ file: String, _ f: DaemonFixture) throws -> [(String, String)] {
        let whole = try Data(contentsOf: URL(fileURLWithPath: file))
        var changed = whole
        changed[whole.count / 2] ^= 1
        var files: [(String, String)] = []
        for (name, data, error) in [
            ("cut", whole.dropLast(100), "backup-truncated"), ("changed", changed, "backup-damaged"),
        ] {
            try data.write(to: URL(fileURLWithPath: f.path(name)))
            files.append((f.path(name), error))
        }
        return files + [(f.path("none"), "backup-unreadable")]
    }

    /// The power went between the decision and the last file: the next start goes on.
    @Test func aRestoreThatWasCutShortIsFinished() async throws {
        try await DaemonFixture.with { f in
            let words = try passphrase(f)
            let file = f.path("aegis.backup")
            try await f.succeed("instance", "create", "--name", "first", "--", "true")
            try await f.succeed("backup", "--passphrase-file", words, file)
            try await f.succeed("instance", "create", "--name", "second", "--", "true")
            try await f.succeed("down")
            let home = f.path("elsewhere")
            let restored = try await aegis(f, home: home, "restore --passphrase-file '\(words)' '\(file)'")
            try #require(restored.code == 0, "\(restored)")
            // Half way: the key has moved, the database has not.
            let cut = try await f.shell(
                """
                cd '\(f.home)' && mkdir restore.ready-99 before-restore-99 && mv secrets.key before-restore-99/ &&
                mv '\(home)/secrets.key' . && mv '\(home)/aegis.db' '\(home)/token' restore.ready-99/
                """)
            try #require(cut.code == 0, "\(cut)")
            try await f.up()
            #expect(try await f.list().compactMap(\.name) == ["first"])
            let names = try Files.list(f.home).map(\.name)
            #expect(!names.contains("restore.ready-99"), "\(names)")
            #expect(
                Set(try Files.list("\(f.home)/before-restore-99").map(\.name)).isSuperset(
                    of: ["aegis.db", "secrets.key", "token"]))
        }
    }

    @Test func thePassphraseIsAskedForWithoutShowingItOrReadFromAFile() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let none = try await f.aegis("backup", f.path("b"), input: Array("words\n".utf8))
            #expect(none.code == 2 && none.err.contains("--passphrase-file"), "\(none)")
            let empty = try await f.aegis("backup", "--passphrase-file", "/dev/null", f.path("b"))
            #expect(empty.code == 2 && empty.err.contains("0 bytes"), "\(empty)")
            try await f.refuse(
                "backup", "--passphrase-file", try passphrase(f), f.path("b"), code: 4, error: "nothing-to-back-up")
            #expect(try Files.list(f.home).isEmpty && !Files.exists(f.path("b")))
            try await f.refuse(
                "restore", "--passphrase-file", try passphrase(f), "/etc/passwd", code: 2, error: "backup-foreign")
            #expect(try Files.list(f.home).isEmpty)
        }
        try await DaemonFixture.with { f in
            // A terminal: `script` gives one.
            func typed(_ lines: String, _ command: String) async throws -> CommandResult {
                try await f.shell(
                    "(for l in \(lines); do sleep 1; echo $l; done; sleep 1) | script -qec \"$AEGIS \(command)\" /dev/null"
                )
            }
            let file = f.path("typed.backup")
            let unequal = try await typed("one two", "backup \(file)")
            #expect(unequal.out.contains("not the same") && !Files.exists(file), "\(unequal)")
            let made = try await typed("s3same s3same", "backup \(file)")
            #expect(made.out.contains("Passphrase: ") && made.out.contains("Again: "), "\(made)")
            #expect(!made.out.contains("s3same") && Files.exists(file), "\(made)")
            let home = f.path("elsewhere")
            try "s3same".write(toFile: f.path("p"), atomically: true, encoding: .utf8)
            let back = try await aegis(f, home: home, "restore --passphrase-file '\(f.path("p"))' '\(file)'")
            #expect(back.code == 0, "\(back)")
        }
    }

    /// Who may not read the home gets no backup of it.
    @Test func anotherUserGetsNothing() async throws {
        try await DaemonFixture.with { f in
            let place = try f.folder("theirs", owner: stranger, mode: 0o755)
            let words = "\(place)/words"
            try f.file(words, Self.words, mode: 0o644)
            let result = try await f.aegis(as: stranger, "backup", "--passphrase-file", words, "\(place)/b")
            #expect(result.code == 6 && result.err.contains("(administrator-needed)"), "\(result)")
            #expect(try Files.list(place).map(\.name) == ["words"])
        }
    }
}
