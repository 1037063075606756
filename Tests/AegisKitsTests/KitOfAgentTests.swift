import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisKits

/// What a kit and a request say together, where the instance is to be the sandbox of an agent (decision D46).
@Suite struct KitOfAgentTests {
    private static let kit: KitSpec = {
        var kit = KitSpec()
        kit.expose = ["8000:http"]
        kit.network = KitNetwork(allow: ["example.org:443"])
        kit.secrets = [KitSecret(name: "KEY"), KitSecret(name: "OTHER", optional: true)]
        kit.tools = [KitTool(name: "t", command: ["x"], secrets: ["KEY"])]
        return kit
    }()

    private static func request(agent: Bool) -> CreateInstance {
        var request = CreateInstance(command: nil)
        request.network = NetworkRequest(allow: ["other.example"])
        if agent { request.agent = AgentPlaces(agent: "a-1", name: "n", tree: "a-1", parts: [], policy: "{}") }
        return request
    }

    private static func merged(_ kit: KitSpec = kit, agent: Bool) throws -> CreateInstance {
        try KitRequest(kit: kit, reference: "k@1.0.0").merged(into: request(agent: agent), secrets: ["KEY", "OTHER"])
    }

    @Test func itOpensNothingForAnAgent() throws {
        let everybodys = try Self.merged(agent: false)
        #expect(everybodys.expose?.count == 1 && everybodys.secrets == ["KEY", "OTHER"] && everybodys.command == nil)
        #expect(everybodys.network?.allow == ["example.org:443", "other.example"])
        let agents = try Self.merged(agent: true)
        #expect(agents.expose == nil && agents.network?.allow == ["other.example"])
        // A secret that is not of a server stays in, and is refused where instances are made.
        #expect(agents.secrets == ["OTHER"])
        #expect(agents.command == ["sleep", "infinity"])
    }

    @Test func whatIsRefusedIsSeenWhereItIsRefused() throws {
        var kit = Self.kit
        kit.network = KitNetwork(group: "shop", allow: ["example.org:443"])
        kit.grants = ["spawn: *"]
        kit.command = ["serve"]
        let agents = try Self.merged(kit, agent: true)
        #expect(agents.network == NetworkRequest(group: "shop", allow: ["other.example"]))
        #expect(agents.grants == ["spawn: *"] && agents.command == ["serve"])
        // An image of its own has a command of its own.
        kit.command = nil
        kit.image = "debian:stable"
        #expect(try Self.merged(kit, agent: true).command == nil)
    }
}
