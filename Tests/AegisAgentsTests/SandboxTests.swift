import AegisCapabilities
import AegisCore
import AegisJSON
import AegisSandboxTypes
import AegisTestSupport
import AegisTools
import Synchronization
import Testing

@testable import AegisAgents

/// Sandboxes that run nothing and note what they were asked for.
private final class NotedSandboxes: AgentSandboxes {
    struct Run: Sendable {
        var command: SandboxCommand
        var agent: String
        var plan: SandboxPlan
    }
    private let state = Mutex((runs: [Run](), made: [String: String](), removed: [String]()))
    var runs: [Run] { state.withLock { $0.runs } }
    var removed: [String] { state.withLock { $0.removed } }

    func run(
        _ command: SandboxCommand, for agent: AgentRecord, _ plan: SandboxPlan, _ permit: SandboxPermit
    ) async throws -> SandboxOutcome {
        state.withLock {
            $0.runs.append(Run(command: command, agent: agent.id, plan: plan))
            $0.made[agent.id] = plan.policy
        }
        var out = BoundedOutput()
        out.append(Array("ran\n".utf8))
        return SandboxOutcome(
            code: 1, signal: nil, isTimedOut: false, stdout: out, stderr: BoundedOutput(), duration: .seconds(1))
    }
    func remove(_ agent: String) async {
        state.withLock { if $0.made.removeValue(forKey: agent) != nil { $0.removed.append(agent) } }
    }
    func plans() async -> [(agent: String, policy: String)] {
        state.withLock { $0.made.map { (agent: $0.key, policy: $0.value) } }
    }
}

/// Says yes, and keeps what it was shown.
private final class YesDesk: ApprovalDesk {
    private let shown = Mutex<[ApprovalPreview]>([])
    var previews: [ApprovalPreview] { shown.withLock { $0 } }
    func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision {
        shown.withLock { $0.append(request.preview) }
        return .granted(id: "p", by: Approver(uid: 0, door: "test"))
    }
}

@Suite struct SandboxTests {
    private static func plan(_ texts: [String], _ block: AgentManifest.Sandbox = .init()) throws -> SandboxPlan {
        let terms = try texts.map { GrantTerms(try GrantSpec(parsing: $0), at: Timestamp(milliseconds: 0)) }
        let home = try #require(CanonicalPath("/var/lib/aegis"))
        let set = GrantSet(fresh: terms, protected: ProtectedPaths(closed: [home]))
        return SandboxPlan(block, set, at: Timestamp(milliseconds: 1000))
    }

    /// Decision D1: exec is no way round the file gate.
    @Test func programsSeeWhatTheGrantsSayAndNoMore() throws {
        let plan = try Self.plan([
            "file_read: /workspace/**", "file_write: /workspace/out/**", "file_read: /data/**",
            "file_write: /data/new/**",
            "file_read: /notes/*.txt", "file_write: /blind/**", "{grant: \"file_read: /counted/**\", max_calls: 3}",
            "file_read: /etc/**", "file_read: /etc/app/**", "file_read: /**", "file_read: /var/lib/**",
            "file_read: /var/lib/aegis/**", "file_read: /proc/**", "{grant: \"file_read: /brief/**\", expires: 10s}",
            "network: example.com:443", "web_search", "network: *.b.example,inspect", "tool: exec", "exec: *",
        ])
        #expect(plan.workspace.map { "\($0.path) \($0.readOnly)" } == [" true", "out false"])
        // The root, the image's own folders and what holds Aegis's are no mounts, and stand for none; what may not be counted
        // is seen all the same where something else grants it.
        #expect(
            plan.mounts.map { "\($0.target) \($0.readOnly)" } == [
                "/blind false", "/brief true", "/data true", "/data/new false", "/etc/app true",
            ])
        #expect(plan.network == ["*.b.example,inspect", "example.com:443"])
        let narrow = try Self.plan([
            "file_read: /workspace/in/**", "file_read: /data/**", "file_write: /data/**", "file_read: /etc/**",
            "file_read: /etc/app/**", "file_read: /var/lib/**", "file_read: /proc/x/**", "file_read: /srv/**",
            "{grant: \"file_read: /brief/**\", expires: 10s}", "{grant: \"file_read: /counted/**\", max_calls: 3}",
        ])
        #expect(narrow.workspace.map { "\($0.path) \($0.readOnly)" } == ["in true"])
        #expect(
            narrow.mounts.map { "\($0.target) \($0.readOnly)" } == [
                "/brief true", "/data false", "/srv true", "/etc/app true",
            ])
        #expect(narrow.network.isEmpty && narrow.ends == Timestamp(milliseconds: 10_000))
        #expect(try Self.plan(["tool: exec", "exec: *", "file_write: /workspace/**"]).workspace.isEmpty)
    }

    @Test func mountsOfTheManifestFollowTheGrants() throws {
        var block = AgentManifest.Sandbox()
        block.mounts = [
            MountSpec(source: "/data/in", target: "/in"), MountSpec(source: "/data", target: "/out", readOnly: false),
            MountSpec(source: "/other", target: "/other"),
        ]
        let whole = try Self.plan(["file_read: /data/**", "file_write: /data/**"], block)
        #expect(whole.mounts.map { "\($0.target) \($0.readOnly)" } == ["/data false", "/in true", "/out false"])
        // A child that has less sees less.
        let part = try Self.plan(["file_read: /data/in/**"], block)
        #expect(part.mounts.map { "\($0.target) \($0.readOnly)" } == ["/data/in true", "/in true"])
    }

    @Test func longOutputKeepsItsBeginningAndItsEnd() {
        var output = BoundedOutput(head: 5, tail: 5)
        for piece in ["ab", "cd", "äö", "0123", "456789", "üx"] { output.append(Array(piece.utf8)) }
        #expect(output.total == 21)
        #expect(output.shown.text == "abcd\n[... 12 bytes are left out here ...]\n89üx")
        #expect(output.shown.cut == 12 && !output.shown.isDamaged)
        var short = BoundedOutput(head: 5, tail: 5)
        short.append(Array("123456789ä".utf8.prefix(10)))
        #expect(short.shown == .init(text: "123456789\u{FFFD}", cut: 0, isDamaged: true))
        var long = BoundedOutput(head: 4, tail: 4)
        for _ in 0..<100_000 { long.append([0x61]) }
        #expect(long.shown.text == "aaaa\n[... 99992 bytes are left out here ...]\naaaa")
    }

    private static func world(
        _ sandboxes: any AgentSandboxes, desk: (any ApprovalDesk)? = nil, _ body: (World) async throws -> Void
    ) async throws {
        let world = try World(ClosureDesk { _, _ in ClosureDesk.text("x") }, sandboxes: sandboxes, desk: desk)
        do { try await body(world) } catch {
            await world.end()
            throw error
        }
        await world.end()
    }

    @Test func aProgramNeedsItsGrantAndTheReplySaysWhatIsGranted() async throws {
        let sandboxes = NotedSandboxes()
        try await Self.world(sandboxes) { world in
            let file = World.file(
                "worker", "capabilities: ['tool: exec', 'exec: python3', 'exec: /opt/tool', 'file_read: /workspace/**']"
            )
            let process = try await world.directory.spawn(file, by: .person(uid: 7))
            func exec(_ input: JSONValue) async -> ToolReply { await process.invoke("exec", input, door: "test") }
            let done = await exec([
                "argv": ["python3", "-c", "print(1)"], "stdin": "in", "timeout": 5, "cwd": "/workspace/a/../b",
            ])
            #expect(!done.isError && done.value["exit_code"]?.integer == 1 && done.value["stdout"]?.text == "ran\n")
            #expect(done.value["sandbox"]?.elements?.first?.text == "files: /workspace (read only)")
            let run = try #require(sandboxes.runs.first)
            #expect(run.command.directory == "/workspace/b" && run.command.input == Array("in".utf8))
            #expect(run.command.timeLimit == .seconds(5) && run.agent == process.id)
            let refused = await exec(["argv": ["git", "push"]])
            #expect(refused.code == "capability-denied")
            #expect(refused.value["error"]?["granted"]?.elements?.map(\.text) == ["exec: python3", "exec: /opt/tool"])
            // No shell where none is granted, no other place under a granted name, no other meaning of it.
            #expect(await exec(["command": "python3 x.py"]).code == "capability-denied")
            #expect(await exec(["argv": ["/workspace/python3"]]).code == "capability-denied")
            #expect(await exec(["argv": ["python3"], "env": ["PATH": "/workspace"]]).code == "exec-path-fixed")
            #expect(await exec(["argv": ["../opt/tool"]]).isError == false)
            #expect(await exec(["argv": []]).code == "arguments-invalid")
            #expect(await exec(["argv": ["x"], "command": "y"]).code == "arguments-invalid")
            #expect(await exec(["argv": ["python3", "\u{0}"]]).code == "arguments-invalid")
            #expect(await exec(["argv": ["python3"], "timeout": 3601]).code == "arguments-invalid")
            #expect(sandboxes.runs.count == 2)
            // What is taken back is taken from the sandbox, and it goes with its agent.
            _ = try world.grants.revoke(
                process.holder, capability: try Capability(parsing: "file_read: /workspace/**"), reason: "test")
            await world.directory.reviewSandboxes()
            #expect(sandboxes.removed == [process.id])
            _ = await exec(["argv": ["python3"]])
            #expect(sandboxes.runs.last?.plan.workspace.isEmpty == true)
            try await world.directory.stop(process.id)
            #expect(sandboxes.removed == [process.id, process.id])
        }
    }

    /// What ends is taken from programs that run, by one task for all ends that there are.
    @Test func aSandboxGoesWhenAGrantOfItEnds() async throws {
        let sandboxes = NotedSandboxes()
        let clock = TestClock()
        let world = try World(
            ClosureDesk { _, _ in ClosureDesk.text("x") }, sandboxes: sandboxes, clock: clock
        ) { Timestamp(milliseconds: 1_000_000 + Int64(clock.now.offset / .milliseconds(1))) }
        func spawn(_ name: String, _ grants: String) async throws -> AgentProcess {
            try await world.directory.spawn(
                World.file(name, "capabilities: ['tool: exec', 'exec: python3', \(grants)]"), by: .person(uid: 0))
        }
        let brief = try await spawn(
            "brief",
            "{grant: 'file_read: /workspace/a/**', expires: 10s}, {grant: 'file_read: /workspace/b/**', expires: 20s}")
        let long = try await spawn("long", "{grant: 'file_read: /workspace/**', expires: 1h}")
        for process in [long, brief] {
            #expect(await process.invoke("exec", ["argv": ["python3"]], door: "test").isError == false)
        }
        // That of the first end: the later one's is not waited for beside it.
        while clock.deadlines != [.milliseconds(10_001)] { await Task.yield() }
        clock.advance(by: .milliseconds(10_001))
        await clock.sleepers(1)
        #expect(clock.deadlines == [.milliseconds(20_001)])
        #expect(sandboxes.removed == [brief.id])
        #expect(await brief.invoke("exec", ["argv": ["python3"]], door: "test").isError == false)
        #expect(sandboxes.runs.last?.plan.workspace.map(\.path) == ["b"])
        await world.end()
    }

    @Test func anApprovalShowsTheCommandAndIsBoundToIt() async throws {
        let (sandboxes, desk) = (NotedSandboxes(), YesDesk())
        try await Self.world(sandboxes, desk: desk) { world in
            let file = World.file(
                "worker", "approval_required: [exec]\ncapabilities: ['tool: exec', 'exec: sh', 'network: example.com']")
            let process = try await world.directory.spawn(file, by: .person(uid: 7))
            let input: JSONValue = ["command": "echo it's", "env": ["A": "b c"], "stdin": "hello"]
            #expect(await process.invoke("exec", input, door: "test").isError == false)
            let shown = try #require(desk.previews.first)
            #expect(
                shown.text
                    == "sh -c 'echo it'\\''s'\nin /workspace, for 120 s at most\nwith A='b c'\nit reads 5 bytes:\nhello"
            )
            #expect(shown.facts["env"] == "A" && shown.facts["sandbox"]?.contains("network: example.com") == true)
            let resource = try #require(shown.resource)
            #expect(
                resource.hasPrefix("exec: sh -c 'echo it'\\''s', exactly as shown (sha256:")
                    && !resource.contains("b c"))
            // Nobody is asked about what is refused anyway.
            #expect(await process.invoke("exec", ["argv": ["git"]], door: "test").code == "capability-denied")
            #expect(desk.previews.count == 1)
        }
    }

    /// What a session remembers is all that was shown: another input, folder, variable or time limit is another resource.
    @Test func whatASessionRemembersIsTheWholeCall() throws {
        let plan = try Self.plan(["file_read: /workspace/**", "exec: *"])
        func resource(_ more: [String: JSONValue], _ plan: SandboxPlan) throws -> String {
            let fields: [String: JSONValue] = ["argv": ["sh"], "stdin": "id", "env": ["A": "1"], "cwd": "/workspace"]
            let all = fields.merging(more) { $1 }
            return try ExecOrder(.object(all.map { JSONValue.Field($0.key, $0.value) })).resource(plan)
        }
        let first = try resource([:], plan)
        #expect(try resource(["timeout": .number(ExecTool.usual)], plan) == first)
        let others = [
            try resource(["stdin": "ls"], plan), try resource(["stdin": ""], plan),
            try resource(["env": ["A": "2"]], plan), try resource(["env": [:]], plan),
            try resource(["env": ["A": "1", "LD_PRELOAD": "/workspace/x.so"]], plan),
            try resource(["cwd": "/tmp"], plan), try resource(["timeout": 7], plan),
            try resource(["argv": ["sh", "-x"]], plan),
            try resource([:], Self.plan(["file_read: /workspace/**", "exec: *", "network: example.com"])),
            // What a release before this one has remembered.
            "exec: sh",
        ]
        #expect(Set(others + [first]).count == others.count + 1)
        // No argument can pass for the end of it.
        #expect(try !resource(["argv": ["sh,", "exactly", "as", "shown"]], plan).contains("sh, exactly as shown ("))
    }

    /// What programs connect to counts at the grants of whoever owns the sandbox: other limits need another one.
    @Test func aChildWithLimitsOfItsOwnHasASandboxOfItsOwn() async throws {
        let sandboxes = NotedSandboxes()
        try await Self.world(sandboxes) { world in
            let programs = "'tool: exec', 'exec: *'"
            let parent = try await world.directory.spawn(
                World.file("parent", "capabilities: [\(programs), 'network: a.example:443', 'spawn: *']"),
                by: .person(uid: 7))
            func child(_ name: String, _ network: String) async throws -> AgentProcess {
                try await world.directory.spawn(
                    World.file(name, "capabilities: [\(programs), \(network)]"), by: .agent(parent))
            }
            let same = try await child("same", "'network: a.example:443'")
            let limited = try await child("limited", "{grant: 'network: a.example:443', max_calls: 1}")
            let slow = try await child("slow", "{grant: 'network: a.example:443', per_minute: 1}")
            for process in [parent, same, limited, slow] {
                _ = await process.invoke("exec", ["argv": ["true"]], door: "test")
            }
            #expect(sandboxes.runs.map(\.agent) == [parent.id, parent.id, limited.id, slow.id])
            #expect(sandboxes.runs.allSatisfy { $0.plan.network == ["a.example:443"] })
        }
    }

    @Test func aChildHasItsParentsSandboxOnlyWhereItSeesTheSame() async throws {
        let sandboxes = NotedSandboxes()
        try await Self.world(sandboxes) { world in
            let all = "'tool: exec', 'exec: *', 'file_read: /workspace/**'"
            let parent = try await world.directory.spawn(
                World.file("parent", "capabilities: [\(all), 'file_write: /workspace/**', 'spawn: *']"),
                by: .person(uid: 7))
            let same = try await world.directory.spawn(
                World.file("same", "capabilities: [\(all), 'file_write: /workspace/**']"), by: .agent(parent))
            let less = try await world.directory.spawn(World.file("less", "capabilities: [\(all)]"), by: .agent(parent))
            for process in [parent, same, less] {
                _ = await process.invoke("exec", ["argv": ["true"]], door: "test")
            }
            #expect(sandboxes.runs.map(\.agent) == [parent.id, parent.id, less.id])
            #expect(sandboxes.runs.last?.plan.workspace == [.init(path: "", readOnly: true)])
            let own = World.file("own", "capabilities: [\(all)]\nsandbox: {image: other}")
            await #expect(throws: AegisError.self) { _ = try await world.directory.spawn(own, by: .agent(parent)) }
            try await world.directory.stop(parent.id)
            #expect(Set(sandboxes.removed) == [parent.id, less.id])
        }
    }
}
