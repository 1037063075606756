import Foundation
import Testing

/// Programs of agents whose daemon is killed while they run.
@Suite struct AgentExecTests {
    private static func rules(timeout: Int) -> String {
        """
          - when: { agent: worker, turn: 1 }
            reply:
              tools:
                - name: exec
                  input: { argv: [sh, -c, "trap '' TERM; echo begun >/workspace/log; sleep 4242; sleep 4242"], timeout: \(timeout) }
          - when: { agent: worker }
            reply: { text: "{{result}}" }

        """
    }

    private static func manifest(_ exec: String) -> String {
        """
        name: worker
        model: default
        lifecycle: persistent
        capabilities: ['tool: *', \(exec), 'file_read: /workspace/**', 'file_write: /workspace/**']
        sandbox: {isolation: runc}
        """
    }

    /// Has an agent's turn run the program.
    ///
    /// - Returns: the agent, the trace of its turn, and the instance that the program runs in.
    private static func begin(
        _ door: AgentDoor, exec: String = "'exec: *'"
    ) async throws -> (agent: String, trace: String, instance: String) {
        let f = door.fixture
        let agent = try await door.spawn(manifest(exec))
        let sent = try await door.result("agent.run", ["agent_id": agent, "message": "go", "wait": false])
        try await f.eventually("the program runs") {
            FileManager.default.fileExists(atPath: "\(f.home)/agents/\(agent)/workspace/log")
        }
        return (agent, try #require(sent["trace_id"] as? String), try await f.record(agent).id)
    }

    /// Whether the program is among the processes of an instance, as the host sees them.
    private static func runs(_ f: DaemonFixture, in instance: String) throws -> Bool {
        try f.processes(of: instance).contains { pid in
            FileManager.default.contents(atPath: "/proc/\(pid)/cmdline")
                .map { String(decoding: $0, as: UTF8.self).contains("4242") } ?? false
        }
    }

    /// The limit is kept inside of the sandbox: it holds while there is no daemon at all. So is the end of what allows it.
    @Test(arguments: [(15, "'exec: *'"), (3000, "{grant: 'exec: *', expires: 40s}")])
    func aProgramHasItsLimitWithoutADaemon(_ timeout: Int, _ exec: String) async throws {
        try await AgentDoor.with(rules: Self.rules(timeout: timeout)) { door in
            let f = door.fixture
            let (_, _, instance) = try await Self.begin(door, exec: exec)
            try await f.crash()
            try await f.eventually("the program was ended") { try !Self.runs(f, in: instance) }
            // The sandbox itself goes on: the next daemon takes it over.
            try #require(try f.processes(of: instance).isEmpty == false)
            try await f.up()
            #expect(try await f.record(instance).state == "running")
        }
    }

    /// A grant that ends, ends what it allows: with all that runs in the sandbox, as when it is revoked.
    @Test func aProgramEndsWithItsGrant() async throws {
        try await AgentDoor.with(rules: Self.rules(timeout: 3000)) { door in
            let f = door.fixture
            let (agent, trace, instance) = try await Self.begin(door, exec: "{grant: 'exec: *', expires: 40s}")
            let reply = try await door.result("agent.reply", ["agent_id": agent, "trace_id": trace, "wait": true])
            let response = try #require(reply["response"] as? String, "\(reply)")
            #expect(response.contains("grant-expired") && response.contains("expired at"), "\(response)")
            #expect(try !Self.runs(f, in: instance))
            let result = try await f.succeed("audit", "tail", "--kinds", "tool_result")
            #expect(result.out.contains("grant-expired"), "\(result)")
        }
    }

    /// Nobody waits for its answer any more, and its outcome is unknown (decision D34): it is ended by the next daemon.
    @Test func aProgramOfTheDaemonBeforeIsEnded() async throws {
        try await AgentDoor.with(rules: Self.rules(timeout: 3000)) { door in
            let f = door.fixture
            let (agent, trace, instance) = try await Self.begin(door)
            try await f.crash()
            try #require(try Self.runs(f, in: instance))
            try await f.up()
            let reply = try await door.result("agent.reply", ["agent_id": agent, "trace_id": trace, "wait": true])
            #expect((reply["response"] as? String)?.contains("may or may not have happened") == true, "\(reply)")
            try await f.eventually("the program was ended") { try !Self.runs(f, in: instance) }
            #expect(try await f.record(instance).state == "running")
        }
    }
}

extension AgentExecTests {
    /// Nobody waits for a registry that does not answer: neither who takes something back, nor who stops the agent.
    @Test func aRevocationDoesNotWaitForAnImage() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            let program = """
                class Handler(Base):
                    def do_GET(self):
                        open(sys.argv[1] + ".asked", "a").write("x")
                        threading.Event().wait()
                    do_HEAD = do_GET
                serve(Handler)
                """
            try await LocalServer.with(f, program) { server in
                let agent = try await door.spawn(
                    """
                    name: worker
                    model: default
                    lifecycle: persistent
                    capabilities: ['tool: *', 'exec: *', 'file_read: /workspace/**']
                    sandbox: {image: "127.0.0.1:\(server.port)/never/comes:1"}
                    """)
                for end in [["agent", "revoke", agent, "file_read: /workspace/**"], ["agent", "stop", agent]] {
                    let exec = try f.begin(
                        program: DaemonFixture.cli, ["tool", "invoke", "--agent", agent, "exec", #"{"argv":["true"]}"#])
                    try await f.eventually("the registry is asked for the image") {
                        FileManager.default.fileExists(atPath: server.file + ".asked")
                    }
                    // Whoever looks sees what it waits for.
                    let logs = try await f.aegis("agent", "logs", agent)
                    #expect(logs.out.contains("fetching the image '127.0.0.1:\(server.port)/never/comes:1'"), "\(logs)")
                    #expect(try await f.run(DaemonFixture.cli, end).code == 0)
                    let refused = try await exec.result()
                    #expect(refused.err.contains("(sandbox-lost)"), "\(refused)")
                    try FileManager.default.removeItem(atPath: server.file + ".asked")
                }
                #expect(try await f.list().isEmpty)
            }
        }
    }
}
