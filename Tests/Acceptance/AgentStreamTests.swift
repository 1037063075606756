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
}
