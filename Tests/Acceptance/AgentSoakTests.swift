import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Many agents that are spawned, sent to work, robbed of their grants and stopped, by daemons that are killed in the middle of it.
extension SoakTests {
    @Test(.enabled(if: Endurance.includes(Endurance.parts - 1), "another part was asked for"))
    func agentsLiveAndDieUnderDaemonsThatDo() async throws {
        let seed = Endurance.seed ?? UInt64.random(in: 0...(.max >> 1))
        print("agents from AEGIS_FUZZ_SEED=\(seed)")
        try await AgentDoor.with("  agents: { max_live: 40 }\n", rules: AgentLife.rules) { door in
            let life = AgentLife(door, seed: seed)
            // Half of the time daemons are killed; in the other half one daemon must not grow.
            let half = Duration.milliseconds(500 * Endurance.seconds)
            try await life.live(for: half, killing: true)
            try await life.rounds(10)
            let early = try await weight(door.fixture)
            let before = await life.deeds
            try await life.live(for: half, killing: false)
            try await life.stopAll()
            let late = try await weight(door.fixture)
            let deeds = await life.deeds - before
            print("\(await life.story); \(early) before the last \(deeds) deeds, \(late) at the end")
            #expect(late.descriptors <= early.descriptors + 8)
            #expect(late.threads <= early.threads + 4)
            #expect(late.resident <= early.resident + 16_384 + 8 * deeds)
            try await life.expectNothingLeft()
        }
    }
}

/// A population of agents, and who makes it.
private actor AgentLife {
    private let door: AgentDoor
    private var random: Mutator
    private var agents: [String] = []
    private var counts: [String: Int] = [:]

    var deeds: Int { counts.filter { $0.key != "words" }.values.reduce(0, +) }
    var story: String { counts.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }.joined(separator: ", ") }

    private static let child = "name: child\\nmodel: default\\ncapabilities: ['tool: echo']"
    static let rules = """
          - { when: { tool: echo }, reply: { text: "heard {{result}}" } }
          - { when: { tool: exec }, reply: { text: "ran {{result}}" } }
          - { when: { tool: spawn_agent }, reply: { text: "bred {{result}}" } }
          - { when: { message: run }, reply: { tools: [{ name: exec, input: { argv: [sh, -c, "echo x >> /workspace/log; sleep 0.1"] } }] } }
          - { when: { message: breed }, reply: { tools: [{ name: spawn_agent, input: { manifest: "\(child)", message: echo } }] } }
          - { when: { message: echo }, reply: { tools: [{ name: echo, input: { message: x } }] } }

        """

    private static func manifest(_ number: Int) -> String {
        """
        name: worker-\(number)
        model: default
        lifecycle: persistent
        capabilities: ['tool: *', 'exec: *', 'spawn: *', 'file_read: /workspace/**', 'file_write: /workspace/**']
        sandbox: { idle: 2s, limits: { memory: 128Mi } }
        """
    }

    init(_ door: AgentDoor, seed: UInt64) {
        self.door = door
        random = Mutator(seed: seed)
    }

    /// Lives on until the time is over; daemons are killed in the middle of what is going on.
    func live(for time: Duration, killing: Bool) async throws {
        let end = ContinuousClock.now + time
        repeat {
            try await rounds(1)
            try await babble()
            if killing, random.below(3) == 0 { try await kill() }
        } while ContinuousClock.now < end
    }

    /// Deeds that must succeed or be refused with a word: a daemon that does not answer is none of these.
    func rounds(_ count: Int) async throws {
        for _ in 0..<count {
            let deeds = (0..<4).map { _ in deed() }
            let running = deeds.map { deed in Task { [door] in try await deed.call(door) } }
            for task in running {
                let answer = try await task.value
                if let id = answer.spawned { agents.append(id) }
                guard answer.refused else { continue }
                #expect(answer.code != nil && answer.code != "internal-error")
                counts["refusals", default: 0] += 1
            }
        }
    }

    /// What a client may say that is broken.
    private static let requests = [
        #"{"jsonrpc":"2.0","id":1,"method":"agent.spawn","params":{"manifest":"name: odd\nmodel: default\nlifecycle: persistent\ncapabilities: ['tool: echo', 'file_read: /workspace/**']"}}"#,
        #"[{"jsonrpc":"2.0","id":"a","method":"agent.list"},{"jsonrpc":"2.0","id":2,"method":"agent.status","params":{"agent_id":"a-0123456789abcdef"}}]"#,
        #"{"jsonrpc":"2.0","id":3,"method":"tool.invoke","params":{"agent_id":"AGENT","tool":"echo","input":{"message":"x"}}}"#,
        #"{"jsonrpc":"2.0","id":4,"method":"agent.revoke","params":{"agent_id":"AGENT","capability":"file_write: /workspace/**"}}"#,
        #"{"jsonrpc":"2.0","id":5,"method":"agent.run","params":{"agent_id":"AGENT","message":"echo","wait":false}}"#,
        #"{"jsonrpc":"2.0","id":6,"method":"audit.tail","params":{"count":3,"after":"1","kinds":["tool_invoked"],"since":"1h"}}"#,
        #"{"jsonrpc":"2.0","id":7,"method":"memory.query","params":{"agent_id":"AGENT","query":"x","limit":5,"category":"fact"}}"#,
        #"{"jsonrpc":"2.0","id":8,"method":"approval.respond","params":{"id":"ap-1","decision":"approve","for_session":true}}"#,
        #"{"jsonrpc":"2.0","id":9,"method":"agent.budget","params":{"agent_id":"AGENT"}}"#,
        #"{"jsonrpc":"2.0","id":10,"method":"tool.invoke","params":{"agent_id":"AGENT","tool":"file_write","input":{"path":"/workspace/f","content":"x"}}}"#,
    ]

    /// Says broken things: each is answered with JSON and a word of what is wrong, and the daemon lives on.
    private func babble() async throws {
        var said: [UInt8] = []
        let samples = Self.requests.map { Array($0.replacing("AGENT", with: agents.last ?? "a-0123456789abcdef").utf8) }
        for _ in 0..<20 { said += random.mutate(random.pick(samples), others: samples) + [10] }
        let heard = try await door.raw(said)
        #expect(heard.code == 0, "\(String(decoding: said, as: UTF8.self)): \(heard)")
        for line in heard.stdout.split(separator: 10) {
            let parsed = try? JSONSerialization.jsonObject(with: Data(line))
            #expect(parsed != nil, "\(String(decoding: line, as: UTF8.self))")
            #expect(!String(decoding: line, as: UTF8.self).contains("internal-error"), "\(heard.out)\n\(said)")
        }
        counts["words", default: 0] += 20
    }

    /// Kills the daemon while deeds are under way, whose answers nobody gets.
    private func kill() async throws {
        let deeds = (0..<3).map { _ in deed() }
        await withTaskGroup(of: Void.self) { group in
            for deed in deeds { group.addTask { [door] in await deed.attempt(door) } }
            let pause = random.below(400)
            group.addTask { [door] in
                try? await Task.sleep(for: .milliseconds(pause))
                try? await door.fixture.crash()
            }
        }
        counts["kills", default: 0] += 1
        try await door.fixture.up()
        // Whom nobody was told of was spawned all the same.
        agents = try await living()
    }

    private struct Deed: Sendable {
        var method: String
        var agent = ""
        var text = ""

        private var params: [String: Any] {
            var params: [String: Any] = [:]
            if method == "agent.spawn" { params["manifest"] = text } else { params["agent_id"] = agent }
            if method == "agent.run" {
                params["message"] = text
                params["wait"] = text != "echo"
            }
            if method == "agent.revoke", !text.isEmpty { params["capability"] = text }
            return params
        }

        /// Does it, whether anybody answers or not.
        func attempt(_ door: AgentDoor) async { _ = try? await door.send(method, params) }

        func call(_ door: AgentDoor) async throws -> Answer {
            let answer = try await door.call(method, params)
            let id = (answer["result"] as? [String: Any])?["agent_id"] as? String
            return Answer(
                spawned: method == "agent.spawn" ? id : nil, refused: answer["error"] != nil,
                code: AgentDoor.code(answer))
        }
    }

    /// What came of a deed.
    private struct Answer: Sendable {
        var spawned: String?
        var refused: Bool
        var code: String?
    }

    private func deed() -> Deed {
        let choice = random.below(12)
        guard !agents.isEmpty, choice > 0, agents.count > 3 || choice > 3 else {
            counts["spawned", default: 0] += 1
            return Deed(method: "agent.spawn", text: Self.manifest(random.below(1000)))
        }
        let agent = random.pick(agents)
        switch choice {
        case 1, 2:
            agents.removeAll { $0 == agent }
            counts["stopped", default: 0] += 1
            return Deed(method: "agent.stop", agent: agent)
        case 3:
            counts["revoked", default: 0] += 1
            return Deed(
                method: "agent.revoke", agent: agent, text: random.pick(["", "exec: *", "spawn: *", "tool: *"]))
        case 4: return Deed(method: "agent.status", agent: agent)
        default:
            counts["sent", default: 0] += 1
            return Deed(method: "agent.run", agent: agent, text: random.pick(["run", "breed", "echo", "echo", "idle"]))
        }
    }

    private func living() async throws -> [String] {
        let listed = try await door.result("agent.list")["agents"] as? [[String: Any]] ?? []
        return listed.compactMap { $0["agent_id"] as? String ?? $0["id"] as? String }
    }

    /// Ends everybody.
    func stopAll() async throws {
        for id in try await living() { _ = try await door.call("agent.stop", ["agent_id": id]) }
        try await door.fixture.eventually("nobody lives") { try await living().isEmpty }
        agents = []
    }

    /// What must hold when nobody lives.
    func expectNothingLeft() async throws {
        let f = door.fixture
        try await f.eventually("no sandbox is left") { try await f.list().isEmpty }
        let groups = try await f.shell(
            "find /sys/fs/cgroup -path '*aegis-\(try f.node)*' -name cgroup.procs -exec cat {} + | sort -u")
        let own = [f.daemonPid].compactMap { $0.map(String.init) }
        #expect(groups.out.split(separator: "\n").filter { !own.contains(String($0)) }.isEmpty, "\(groups)")
        let checked = try await f.aegis("audit", "verify")
        #expect(checked.code == 0, "\(checked)")
        // Whatever was granted was taken back.
        var held: [String: String] = [:]
        var kinds: [String: Int] = [:]
        let folder = "\(f.home)/audit"
        for file in try Files.list(folder).map(\.name).sorted() where file.hasPrefix("0") {
            for line in try String(contentsOfFile: "\(folder)/\(file)", encoding: .utf8).split(separator: "\n") {
                let record = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any] ?? [:]
                let grants = (record["fields"] as? [String: Any])?["grants"] as? [Any] ?? []
                kinds[record["kind"] as? String ?? "", default: 0] += 1
                switch record["kind"] as? String {
                case "grant_issued", "grant_derived":
                    for case let grant as [String: Any] in grants {
                        held[grant["id"] as? String ?? ""] = record["agent"] as? String ?? ""
                    }
                case "grant_revoked": for case let id as String in grants { held[id] = nil }
                default: break
                }
            }
        }
        print(
            "the ledger: \(kinds.sorted { $0.value > $1.value }.map { "\($0.value) \($0.key)" }.joined(separator: ", "))"
        )
        #expect(held.isEmpty, "grants of nobody who lives: \(held)")
    }
}
