import AegisAuditTestSupport
import AegisJSON
import Testing

@testable import AegisTools

/// Names as models are told them.
@Suite struct WireNameTests {
    @Test func namesThatProvidersTakeStayAndOthersAreSpelledOut() throws {
        #expect(WireName.of("file_read") { _ in false } == "file_read")
        #expect(WireName.of("mcp.files.read-it") { _ in false } == "mcp__files__read-it")
        let taken = WireName.of("mcp.files.read") { $0 == "mcp__files__read" }
        #expect(taken.hasPrefix("mcp__files__read_") && taken.utf8.count <= 64)
        let long = String(repeating: "x", count: 80)
        let first = WireName.of("mcp.\(long)a") { _ in false }
        #expect(first.utf8.count == 64 && first != WireName.of("mcp.\(long)b") { _ in false })
    }

    @Test func aToolAnswersToBothOfItsNames() async throws {
        let world = try World([ClosureTool("mcp.a.b"), ClosureTool("mcp.a_.b")], grants: ["tool: mcp.a.b"])
        #expect(await world.call("mcp__a__b", ["x": 1]).value == ["x": 1])
        #expect(await world.call("mcp.a.b").isError == false)
        #expect(await world.call(world.registry.wireName("mcp.a_.b")).code == "capability-denied")
        #expect(world.trail.field("tool", ofLast: .toolInvoked) == "mcp.a.b")
        try world.registry.register(ClosureTool("mcp.a.b", asksApproval: true), replacing: true)
        #expect(await world.call("mcp__a__b").code == "approval-impossible")
        #expect(throws: (any Error).self) { try world.registry.register(ClosureTool("mcp.a.b")) }
        world.registry.remove("mcp.a.b")
        #expect(await world.call("mcp__a__b").code == "tool-unknown")
    }
}
