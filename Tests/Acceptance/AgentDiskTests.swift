import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The disk under the ledger fills up while agents work: they stop, nothing happens that is not on record, and when there is room
/// again they go on.
@Suite struct AgentDiskTests {
    private static let rules = """
          - when: { agent: "*er", turn: 41 }
            reply: { text: written }
          - when: { agent: "*er", result: "not-recorded" }
            reply: { text: "the model was told of it" }
          - when: { agent: "*er" }
            reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "x\\n", append: true } }] }

        """

    private static func manifest(_ name: String, _ more: String = "") -> String {
        """
        name: \(name)
        model: default
        lifecycle: persistent
        max_iterations: 60
        capabilities: ["tool: file_write", "file_write: /workspace/**"]
        \(more)
        """
    }

    /// A daemon whose ledger alone is on a disk of one megabyte.
    private static func withSmallLedger(_ body: @escaping @Sendable (AgentDoor) async throws -> Void) async throws {
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
                try AgentDoor.configuration(f, "", rules: rules)
                try await f.up()
                let result: Result<Void, any Error>
                do { result = .success(try await body(AgentDoor(fixture: f))) } catch { result = .failure(error) }
                try? Files.removeFile("\(f.home)/audit/filler")
                let down = try await f.aegis("down")
                #expect(down.code == 0, "\(down)")
                try result.get()
            }
        }
    }

    /// Leaves the ledger no room. What the daemon has reserved is given back while it stands still: it may be writing.
    private static func fill(_ f: DaemonFixture) async throws {
        let daemon = try #require(f.daemonPid)
        let full = try await f.shell(
            """
            cd '\(f.home)/audit' && kill -STOP \(daemon)
            truncate -s $(stat -c %s 000000000001.jsonl) 000000000001.jsonl; kill -CONT \(daemon)
            dd if=/dev/zero of=filler bs=4k status=none 2>/dev/null; df --output=avail . | tail -1
            """)
        try #require(full.out.trimmingCharacters(in: .whitespaces) == "0\n", "\(full)")
    }

    @Test func agentsStopWhenTheLedgerIsFullAndGoOnWhenItIsNot() async throws {
        try await Self.withSmallLedger { door in
            let f = door.fixture
            let plain = try await door.spawn(Self.manifest("writer"))
            let patient = try await door.spawn(
                Self.manifest("waiter", "restart: { policy: on-failure, attempts: 100, pause: 1s }"))
            func lines(_ id: String) -> Int {
                let text = try? String(contentsOfFile: "\(f.home)/agents/\(id)/workspace/log", encoding: .utf8)
                return text?.split(separator: "\n").count ?? 0
            }
            /// What the ledger's file says that was done, also while nothing can be added to it.
            func told(_ id: String) throws -> Int {
                try String(contentsOfFile: "\(f.home)/audit/000000000001.jsonl", encoding: .utf8).split(separator: "\n")
                    .count { $0.contains(#""kind":"tool_invoked""#) && $0.contains(id) }
            }
            try await Self.fill(f)
            // Turns are ended where they were, for a reason that is clear, and not by the model.
            let cut = try await door.result("agent.run", ["agent_id": plain, "message": "go"])
            #expect(cut["stop_reason"] as? String == "error", "\(cut)")
            let problem = cut["error"] as? [String: Any]
            #expect((problem?["message"] as? String)?.contains("no space left for the ledger") == true, "\(cut)")
            let sent = try await door.result("agent.run", ["agent_id": patient, "message": "go", "wait": false])
            try await f.eventually("it waits to go on") {
                try await door.result("agent.status", ["agent_id": patient])["state"] as? String == "restarting"
            }
            // Nor is anything done through other doors.
            let write: [String: Any] = ["path": "/workspace/log", "content": "x\n", "append": true]
            for answer in [
                try await door.invoke(plain, "file_write", write),
                try await door.call("agent.spawn", ["manifest": Self.manifest("late-writer")]),
            ] {
                let words = (answer["error"] as? [String: Any])?["message"] as? String
                #expect(words?.contains("no space left for the ledger") == true, "\(answer)")
            }
            let live = try await door.result("agent.list")["agents"] as? [[String: Any]]
            #expect(Set(live?.compactMap { $0["name"] as? String } ?? []) == ["writer", "waiter"], "\(live ?? [])")
            // All that was done was told before.
            for id in [plain, patient] {
                #expect(lines(id) < 40)
                #expect(try told(id) >= lines(id), "\(lines(id)) lines")
            }
            try Files.removeFile("\(f.home)/audit/filler")
            let reply = try await door.result(
                "agent.reply", ["agent_id": patient, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(reply["response"] as? String == "written", "\(reply)")
            let again = try await door.result("agent.run", ["agent_id": plain, "message": "go on"])
            #expect(again["response"] as? String == "written", "\(again)")
            for id in [plain, patient] {
                // A call that could not be recorded was not made; nothing was made twice.
                #expect(try told(id) == lines(id) && lines(id) <= 40, "\(lines(id)) lines")
            }
            let verified = try await f.aegis("audit", "verify")
            #expect(verified.code == 0, "\(verified)")
        }
    }

    /// What is taken back while nothing can be recorded is gone at once, also for programs that run, and for good: whoever asks
    /// again is heard, and what nobody asks for again is seen to.
    @Test func whatIsTakenBackWhileTheLedgerIsFullDoesNotComeBack() async throws {
        try await Self.withSmallLedger { door in
            let f = door.fixture
            let runner = try await door.spawn(
                "runner", ["tool: exec", "exec: *", "file_read: /workspace/**", "file_write: /workspace/**"])
            let line = ["sh", "-c", "touch /workspace/begun; sleep 600"]
            async let program = door.invoke(runner, "exec", ["argv": line])
            try await f.eventually("the program runs", within: .seconds(100)) {
                FileManager.default.fileExists(atPath: "\(f.home)/agents/\(runner)/workspace/begun")
            }
            let id = try await door.spawn("holder", (1...60).map { "tool: t\($0)" })
            func grants() async throws -> [String] {
                let listed = try await door.result("agent.grants", ["agent_id": id])["grants"] as? [[String: Any]]
                return (listed ?? []).compactMap { $0["id"] as? String }
            }
            let held = try await grants()
            try await Self.fill(f)
            // The last block of the file has room for a few more.
            var left = held
            while let grant = left.popLast() {
                guard let code = try await door.problem("agent.revoke", ["agent_id": id, "capability": grant]) else {
                    continue
                }
                #expect(code == "decision-not-recorded")
                left.append(grant)
                break
            }
            try #require(left.count > 2, "the ledger is not full")
            let (again, alone) = (left[left.count - 1], left[left.count - 2])
            try await f.refuse("agent", "revoke", id, alone, code: 1, error: "decision-not-recorded")
            #expect(try await Set(grants()) == Set(left.dropLast(2)))
            try await f.refuse("agent", "revoke", runner, "exec: *", code: 1, error: "decision-not-recorded")
            let ended = try await program
            #expect(AgentDoor.value(ended) == nil, "\(ended)")
            try Files.removeFile("\(f.home)/audit/filler")
            try await f.succeed("agent", "revoke", id, again)
            func told(_ grant: String) async throws -> Int {
                try await f.succeed("audit", "tail", "--kinds", "grant_revoked", "-n", "1000").out
                    .split(separator: "\n").count { $0.contains(grant) }
            }
            try await f.eventually("the other one is told of") { try await told(alone) == 1 }
            try await f.crash()
            try await f.up()
            #expect(try await Set(grants()) == Set(left.dropLast(2)))
            #expect(try await told(again) == 1)
        }
    }

    /// The same with everything that the daemon saves on the disk that is full, in the middle of a turn whose effects are elsewhere.
    @Test func aTurnGoesOnWhereAFullDiskHasStoppedIt() async throws {
        try await Crowd.enter {
            try await onLoop { loop in
                let (place, outside) = (try TemporaryDirectory(), try TemporaryDirectory())
                try Mounts.mount("none", on: place.path, type: "tmpfs", data: "size=24m,mode=711")
                defer { try? Mounts.unmount(place.path, detach: true) }
                let home = place.path("home")
                try Files.makeDirectories(home)
                let f = DaemonFixture(loop: loop, home: home)
                let rules = """
                      - { when: { agent: counter, message: more }, reply: { text: there is more } }
                      - { when: { agent: counter, turn: 61 }, reply: { text: counted } }
                      - when: { agent: counter }
                        latency: 50ms
                        reply: { tools: [{ name: file_write, input: { path: "\(outside.path)/log", content: "{{turn}}\\n", append: true } }] }

                    """
                try AgentDoor.configuration(f, "", rules: rules)
                try await f.up()
                let result: Result<Void, any Error>
                do { result = .success(try await Self.fillInATurn(AgentDoor(fixture: f), outside.path)) } catch {
                    result = .failure(error)
                }
                try? Files.removeFile("\(home)/filler")
                let down = try await f.aegis("down")
                #expect(down.code == 0, "\(down)")
                try result.get()
            }
        }
    }

    private static func fillInATurn(_ door: AgentDoor, _ outside: String) async throws {
        let f = door.fixture
        let id = try await door.spawn(
            """
            name: counter
            model: default
            lifecycle: persistent
            max_iterations: 100
            restart: { policy: on-failure, attempts: 100, pause: 1s }
            capabilities: ["tool: file_write", "file_write: \(outside)/**"]
            """)
        func lines() -> [String] {
            let text = try? String(contentsOfFile: "\(outside)/log", encoding: .utf8)
            return text?.split(separator: "\n").map(String.init) ?? []
        }
        let sent = try await door.result("agent.run", ["agent_id": id, "message": "go", "wait": false])
        try await f.eventually("it counts") { lines().count > 2 }
        // It stands still meanwhile, wherever it is.
        let daemon = try #require(f.daemonPid)
        let full = try await f.shell(
            """
            cd '\(f.home)' && kill -STOP \(daemon)
            dd if=/dev/zero of=filler bs=4k status=none 2>/dev/null; df --output=avail . | tail -1; kill -CONT \(daemon)
            """)
        try #require(full.out.trimmingCharacters(in: .whitespaces) == "0\n", "\(full)")
        try await f.eventually("it waits for room") {
            try await door.result("agent.status", ["agent_id": id])["state"] as? String == "restarting"
        }
        #expect(lines().count < 60)
        // What cannot be kept is not taken; what is taken, for there was still room for so little, is done.
        let more = try await door.call("agent.run", ["agent_id": id, "message": "more", "wait": false])
        let taken = (more["result"] as? [String: Any])?["trace_id"]
        #expect(taken != nil || AgentDoor.code(more) == "disk-full", "\(more)")
        try Files.removeFile("\(f.home)/filler")
        let reply = try await door.result(
            "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
        #expect(reply["response"] as? String == "counted", "\(reply)")
        if let taken {
            let late = try await door.result("agent.reply", ["agent_id": id, "trace_id": taken, "wait": true])
            #expect(late["response"] as? String == "there is more", "\(late)")
        }
        let ledger = try String(contentsOfFile: "\(f.home)/audit/000000000001.jsonl", encoding: .utf8)
            .split(separator: "\n")
        let told = ledger.count { $0.contains(#""kind":"tool_invoked""#) }
        #expect(told >= lines().count, "\(told)")
        // Nothing was done twice; what was cut off may be missing, and the model was told.
        let unclear = ledger.count { $0.contains(#""kind":"tool_resumed""#) && $0.contains(#""outcome":"unknown""#) }
        #expect(Set(lines()).count == lines().count && lines().count <= 60, "\(lines())")
        #expect(lines().count + unclear >= 60, "\(unclear) unclear: \(lines())")
        let verified = try await f.aegis("audit", "verify")
        #expect(verified.code == 0, "\(verified)")
    }
}
