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
}
