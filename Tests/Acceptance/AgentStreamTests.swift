import Foundation
import Testing

/// Server-sent events for users that are not root: their own agents', and nobody else's.
@Suite struct AgentStreamTests {
    private static let client = """
        theirs = sys.argv[2]
        mine = call("agent.spawn", manifest="name: mine\\nmodel: default\\nlifecycle: persistent")["agent_id"]
        call("agent.run", agent_id=mine, message="go")
        # From the first record that there is: what is somebody else's comes before what is mine.
        stream, agents, kinds = listen("/v1/events?after=0"), set(), []
        while kinds[-1:] != ["agent_execution_completed"]:
            e = event(stream); kinds.append(e["event"]); agents.add(json.loads(e["data"])["agent"])
        print(agents == {mine}, "agent_spawned" in kinds)
        print(listen("/v1/processes/%s/events" % theirs).status, event(listen("/v1/processes/%s/events" % mine))["event"])
        """

    @Test func aUserHearsOfItsOwnAgents() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            let theirs = try await door.spawn("name: theirs\nmodel: default\nlifecycle: persistent")
            _ = try await door.result("agent.run", ["agent_id": theirs, "message": "go"])
            let heard = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]
                    + [ForeignClients.ofStreams + Self.client, f.home, theirs])
            #expect(heard.out == "True True\n404 began\n", "\(heard)")
        }
    }

    /// What is told of an instance is its owner's, whatever somebody else calls an agent.
    private static let namesake = """
        box = sys.argv[2]
        refused = call("agent.spawn", manifest="name: %s\\nmodel: default\\nlifecycle: persistent" % box)
        mine = call("agent.spawn", manifest="name: mine\\nmodel: default\\nlifecycle: persistent")["agent_id"]
        call("agent.run", agent_id=mine, message="go")
        stream, agents, kinds = listen("/v1/events?after=0"), set(), []
        while kinds[-1:] != ["agent_execution_completed"]:
            e = event(stream); kinds.append(e["event"]); agents.add(json.loads(e["data"])["agent"])
        print(refused["error"]["data"]["code"], "form of an instance's id" in json.dumps(refused), agents == {mine})
        """

    @Test func aUserHearsNothingOfAnotherUsersInstance() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            try await f.succeed("run", "-d", "--name", "box", "--", "sleep", "600")
            let id = try await f.record("box").id
            let heard = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]
                    + [ForeignClients.ofStreams + Self.namesake, f.home, id])
            #expect(heard.out == "invalid-config True True\n", "\(heard)")
            // Its owner does.
            let own = try await f.run(DaemonFixture.cli, ["events", "--agent", id, "--output", "json"])
            #expect(own.out.contains("\"instance_started\""), "\(own)")
            try await f.succeed("instance", "delete", "box")
        }
    }

    /// Who is meant is found by name or id, as everywhere; who is not there is not waited for in silence.
    private static let wishes = """
        gone, mine, theirs = sys.argv[2:]
        def heard(agent):
            n = len(notes)
            sub = call("events.subscribe", agent_id=agent, types=["agent"], after=0)
            if "error" in sub: return sub["error"]["data"]["code"]
            while not any(m["params"].get("event", {}).get("kind") == "agent_execution_completed" for m in notes[n:]):
                notes.append(json.loads(rpc.readline()))
            call("events.unsubscribe", subscription=sub["subscription"])
            return {m["params"]["event"]["agent"] for m in notes[n:] if m["method"] == "events.event"}
        print(heard("mine") == {mine}, heard(mine) == {mine}, heard(gone) == {gone})
        print(heard("a-0000000000000000"), heard("i-0000000000000000"), heard("nobody"), heard(theirs), heard("theirs"))
        answers = [listen("/v1/events?follow=1&types=agent&agent=" + a).status for a in ["nobody", theirs, gone, "mine"]]
        print(answers)
        """

    @Test func anAgentIsMeantByItsNameOrId() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            func ran(_ name: String, user: Int) async throws -> String {
                let id = try await door.spawn("name: \(name)\nmodel: default\nlifecycle: persistent", user: user)
                _ = try await door.result("agent.run", ["agent_id": id, "message": "go"], user: user)
                return id
            }
            let gone = try await ran("gone", user: 65534)
            _ = try await door.result("agent.stop", ["agent_id": gone], user: 65534)
            let (mine, theirs) = (try await ran("mine", user: 65534), try await ran("theirs", user: 0))
            let heard = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]
                    + [ForeignClients.ofStreams + Self.wishes, f.home, gone, mine, theirs])
            let none = Array(repeating: "agent-not-found", count: 5).joined(separator: " ")
            #expect(heard.out == "True True True\n\(none)\n[404, 404, 200, 200]\n", "\(heard)")
            let told = try await f.succeed("events", "--agent", "mine", "--types", "agent")
            #expect(told.out.contains(mine) && !told.out.contains(theirs), "\(told)")
            try await f.refuse("events", "--agent", "minne", code: 4, error: "agent-not-found")
        }
    }

    /// Who listens before an agent is there hears of it from its first grant on.
    private static let births = """
        call("events.subscribe")
        manifest, ids = "name: one\\nmodel: default\\nlifecycle: persistent\\ncapabilities: ['tool: echo']", []
        for _ in range(20):
            ids.append(call("agent.spawn", manifest=manifest)["agent_id"]); call("agent.stop", agent_id=ids[-1])
        kinds = {}
        def take(note):
            record = note["params"].get("event", {})
            kinds.setdefault(record.get("agent"), []).append(record.get("kind"))
        for note in notes: take(note)
        while not all("agent_stopped" in kinds.get(id, []) for id in ids): take(json.loads(rpc.readline()))
        print({tuple(k for k in kinds[id] if k in ("grant_issued", "agent_spawned", "agent_stopped")) for id in ids})
        """

    @Test func nothingOfAnAgentsBeginningIsMissed() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            let heard = try await f.run(
                "/usr/bin/setpriv",
                ["--reuid", "65534", "--regid", "65534", "--clear-groups", "/usr/bin/python3", "-c"]
                    + [ForeignClients.ofStreams + Self.births, f.home])
            #expect(heard.out == "{('grant_issued', 'agent_spawned', 'agent_stopped')}\n", "\(heard)")
        }
    }

    /// What was recorded of an instance is its owner's to hear also when there is no such instance any more.
    @Test func whatIsGoneIsHeardByItsOwnerAlone() async throws {
        try await AgentDoor.with { door in
            let f = door.fixture
            try await door.openToAll()
            func aegis(_ words: String..., user: Int) async throws -> CommandResult {
                try await f.run(
                    "/usr/bin/setpriv",
                    ["--reuid", "\(user)", "--regid", "\(user)", "--clear-groups", DaemonFixture.cli] + words)
            }
            #expect(try await aegis("run", "--", "true", user: 65_534).code == 0)
            for _ in 0..<2 {
                // Its client has its end before the sandbox is gone.
                try await f.eventually("it is told as gone") {
                    let own = try await aegis("events", "--types", "instance", "--output", "json", user: 65_534)
                    return own.out.contains("instance_created") && own.out.contains("instance_deleted")
                }
                let others = try await aegis("events", "--types", "instance", "--output", "json", user: 65_533)
                #expect(others.code == 0 && !others.out.contains("instance_"), "\(others)")
                try await f.crash()
                try await f.up()
                try await door.openToAll()
            }
            #expect(try await f.aegis("audit", "verify").code == 0)
        }
    }
}
