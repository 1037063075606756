import Foundation
import Testing

/// Agents that talk, fail and are watched: through the CLI, the sockets and a terminal.
@Suite struct AgentTalkTests {
    private static func spawn(_ f: DaemonFixture, _ manifest: String) async throws -> String {
        try #require(
            try await AgentTests.result(f, "agent.spawn", ["manifest": manifest + "\nmodel: default\n"])["agent_id"]
                as? String)
    }

    /// One permit for all: were it held while an agent waits, nobody could answer. And a circle, and what is not granted.
    @Test func agentsAskEachOther() async throws {
        let rules = """
              - when: { tool: agent_ask }
                reply: { text: "{{result}}" }
              - name: boss
                when: { agent: boss, message: "ask *: *" }
                reply: { tools: [{ name: agent_ask, input: { to: "{{1}}", message: "{{2}}" } }] }
              - name: expert asks back
                when: { agent: expert, message: "*round*" }
                reply: { tools: [{ name: agent_ask, input: { to: boss, message: "and you?" } }] }
              - when: { agent: expert }
                reply: { text: "heard {{message}}" }
            """
        try await AgentTests.with(rules, permits: 1) { f in
            func boss() async throws -> String {
                try await Self.spawn(
                    f, "name: boss\nlifecycle: persistent\ncapabilities: ['tool: agent_ask', 'message: [expert]']")
            }
            let expert = try await Self.spawn(
                f, "name: expert\nlifecycle: persistent\ncapabilities: ['tool: agent_ask', 'message: *']")
            for (text, expected) in [
                ("ask expert: plainly", "from the agent 'boss'"), ("ask expert: round", "expert waits for boss"),
                ("ask nobody: x", "capability-denied"),
            ] {
                let id = try await boss()
                let result = try await AgentTests.result(f, "agent.run", ["agent_id": id, "message": text])
                let response = try #require(result["response"] as? String)
                #expect(response.contains(expected), "\(text): \(response)")
                if expected.hasPrefix("from") { #expect(response.contains(id)) }
                _ = try await AgentTests.result(f, "agent.stop", ["agent_id": id])
            }
            let audit = try await f.aegis("events", "--types", "agent_message_sent", "--agent", expert, "--tail", "500")
            #expect(audit.code == 0 && audit.out.contains("to=boss") == false, "\(audit)")
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }

    /// Messages behind a turn when the daemon is killed: each is worked on once.
    @Test func mailIsNotLostAndNotRunTwice() async throws {
        let rules = """
              - when: { agent: clerk, tool: file_write }
                reply: { text: "noted" }
              - when: { agent: clerk, message: "slow" }
                latency: 2s
                reply: { text: "slow done" }
              - when: { agent: clerk, message: "note *" }
                reply: { tools: [{ name: file_write, input: { path: /workspace/log, content: "{{1}}\\n", append: true } }] }
            """
        try await AgentTests.with(rules) { f in
            let id = try await Self.spawn(
                f, "name: clerk\nlifecycle: persistent\ncapabilities: ['tool: file_write', 'file_write: /workspace/**']"
            )
            func send(_ text: String) async throws -> Any {
                let sent = try await AgentTests.result(
                    f, "agent.run", ["agent_id": id, "message": text, "wait": false])
                return try #require(sent["trace_id"])
            }
            _ = try await send("slow")
            var traces: [Any] = []
            for number in 1...3 { traces.append(try await send("note \(number)")) }
            kill(try #require(f.daemonPid), SIGKILL)
            try await f.up()
            for trace in traces {
                let reply = try await AgentTests.result(
                    f, "agent.reply", ["agent_id": id, "trace_id": trace, "wait": true])
                #expect(reply["stop_reason"] as? String == "complete", "\(reply)")
            }
            let log = try String(contentsOfFile: "\(f.home)/agents/\(id)/workspace/log", encoding: .utf8)
            #expect(log == "1\n2\n3\n")
        }
    }

    /// A turn that fails is begun anew, and whoever listens hears of it: server-sent events with ids, gone on with after a break,
    /// and notifications of JSON-RPC.
    @Test func failuresAreRestartedAndEventsTellOfIt() async throws {
        let rules = """
              - when: { agent: flaky, message: "go" }
                times: 2
                fail: { status: 400 }
              - reply: { text: "at last" }
            """
        try await AgentTests.with(rules) { f in
            let client = """
                live = listen("/v1/events?types=agent")
                assert live.headers["Content-Type"].startswith("text/event-stream"), live.headers
                live.readline()
                sub = call("events.subscribe", types=["agent_restarting", "agent_execution_completed"])
                agent = call("agent.spawn", manifest="name: flaky\\nmodel: default\\nlifecycle: persistent\\nrestart: {policy: on-failure, pause: 10ms}")["agent_id"]
                print(call("agent.run", agent_id=agent, message="go")["response"])
                kinds, ids = [], []
                while kinds.count("agent_execution_completed") < 3:
                    e = event(live); kinds.append(e["event"]); ids.append(e["id"])
                print(kinds.count("agent_restarting"), kinds[0], ids == sorted(ids, key=int))
                # Who comes back hears what it has missed, and nothing twice.
                again = listen("/v1/events?types=agent", ids[2])
                more = []
                while len(more) < len(ids) - 3: more.append(event(again)["id"])
                print(more == ids[3:])
                steps = listen("/v1/processes/%s/events" % agent)
                first = event(steps)
                print(first["id"], first["event"])
                while len(notes) < 5: notes.append(json.loads(rpc.readline()))
                print(sorted(set(n["method"] for n in notes)), [n["params"]["event"]["kind"] for n in notes].count("agent_restarting"))
                print(call("events.unsubscribe", subscription=sub["subscription"])["ok"], json.loads(rpc.readline())["params"]["reason"])
                """
            let result = try await f.run("/usr/bin/python3", ["-c", ForeignClients.ofStreams + client, f.home])
            #expect(
                result.out == """
                    at last
                    2 agent_spawned True
                    True
                    0 began
                    ['events.event'] 2
                    True unsubscribed

                    """, "\(result)")
        }
    }

    /// On a terminal: what waits is seen, approved by a key, and the terminal is left as it was, however it ends.
    @Test func topShowsAndApproves() async throws {
        let rules = """
              - when: { agent: scribe, tool: file_write }
                reply: { text: "written" }
              - when: { agent: scribe }
                reply: { tools: [{ name: file_write, input: { path: /workspace/a, content: "\\e[31mx\\n" } }] }
            """
        let client = """
            import fcntl, os, pty, signal, struct, sys, termios
            how = sys.argv.pop(1)
            ready, go = os.pipe()
            pid, fd = pty.fork()
            if pid == 0:
                os.read(ready, 1)
                os.environ["TERM"] = "xterm"; os.environ["NO_COLOR"] = "1"
                os.execv(sys.argv[1], sys.argv[1:])
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            before = termios.tcgetattr(fd)
            os.write(go, b"x")
            seen = b""
            def wait(text):
                global seen
                while text not in seen:
                    try: more = os.read(fd, 65536)
                    except OSError: more = b""
                    if not more: print("no", text, seen[-2000:]); sys.exit(1)
                    seen += more
                seen = seen[seen.index(text) + len(text):]
            wait(b"\\x1b[?1049h")
            wait(b"WAITING FOR YOU (1)")
            if how == "approve":
                os.write(fd, b"j"); wait(b"+++ /workspace/a")
                os.write(fd, b"a"); wait(b"approved")
                os.write(fd, b"q")
            elif how == "resize":
                fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 200, 0, 0))
                os.kill(pid, signal.SIGWINCH)
                wait(b"USD" + b" " * 80)
                os.kill(pid, signal.SIGTERM)
            rest = seen
            try:
                while True:
                    more = os.read(fd, 65536)
                    if not more: break
                    rest += more
            except OSError: pass
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            raw = b"\\x1b[31m" in rest
            print("code", code, "restored", termios.tcgetattr(fd) == before, b"\\x1b[?1049l" in rest, b"\\x1b[?25h" in rest, raw)
            """
        try await AgentTests.with(rules) { f in
            let id = try await Self.spawn(
                f,
                "name: scribe\nlifecycle: persistent\ncapabilities: ['tool: file_write', 'file_write: /workspace/**']\napproval_required: [file_write]\nbudget_config: {max_tokens: 50000}"
            )
            let sent = try await AgentTests.result(f, "agent.run", ["agent_id": id, "message": "go", "wait": false])
            try await f.eventually("it waits") { try await !f.aegis("approval", "list", "--quiet").out.isEmpty }
            // Where there is no terminal it is printed once.
            let once = try await f.aegis("top")
            #expect(once.code == 0 && once.out.contains("scribe") && !once.out.contains("\u{1b}"), "\(once)")
            let json = try await f.aegis("top", "--json")
            #expect(json.out.contains(#""tokens_left""#) && json.out.contains(#""approvals""#), "\(json)")
            let budget = try await f.aegis("agent", "budget", id)
            #expect(budget.code == 0 && budget.out.contains("50000 tokens"), "\(budget)")
            for (how, code) in [("resize", 143), ("approve", 0)] {
                let result = try await f.run("/usr/bin/python3", ["-c", client, how, DaemonFixture.cli, "top"])
                #expect(result.out == "code \(code) restored True True True False\n", "\(how) \(result)")
            }
            let reply = try await AgentTests.result(
                f, "agent.reply", ["agent_id": id, "trace_id": sent["trace_id"] ?? "", "wait": true])
            #expect(reply["response"] as? String == "written")
        }
    }
}
