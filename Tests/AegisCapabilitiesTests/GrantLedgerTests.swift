import AegisAudit
import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import Synchronization
import Testing

@Suite struct GrantLedgerTests {
    private let trail = MemoryTrail()
    private let parent = HolderID("a-1")
    private let child = HolderID("a-2")

    private func book(ignoring: @escaping @Sendable (Action) -> Bool = { _ in false }) -> GrantBook {
        GrantBook(journal: GrantLedger(trail, ignoresUse: ignoring, ignoresDenial: ignoring))
    }

    private func field(_ event: AuditEvent?, _ name: String) -> JSONValue? {
        event?.fields.first { $0.name == name }?.value
    }

    @Test func grantsDerivedGrantsAndRevocationsAreTold() throws {
        let book = book()
        let given = try book.issue([try GrantSpec(parsing: "tool: *")], to: parent)
        let derived = try book.delegate([try GrantSpec(parsing: "tool: echo")], from: parent, to: child)
        try book.revoke(given[0].id, reason: "operator")
        let events = trail.take()
        #expect(events.map(\.kind) == [.grantIssued, .grantDerived, .grantRevoked, .grantRevoked])
        #expect(events.map(\.agent) == ["a-1", "a-2", "a-1", "a-2"])
        let one = field(events[1], "grants")?.elements?.first
        #expect(one?["from"]?.text == given[0].id.description && one?["capability"] == "tool: echo")
        #expect(field(events[3], "grants") == .array([.string(derived[0].id.description)]))
        #expect(field(events[2], "reason") == "operator")
    }

    @Test func usesAndRefusalsAreToldWithTheirHolder() throws {
        let book = book()
        let given = try book.issue([try GrantSpec(parsing: "tool: echo")], to: parent)
        let admission = try book.admit(Request(.tool("echo")), by: parent)
        admission.settle()
        #expect(throws: Denial.self) { _ = try book.admit(Request(.tool("rm")), by: parent).grant }
        let events = trail.take()
        // Settling what is not counted is no decision.
        #expect(events.map(\.kind) == [.grantIssued, .capabilityUsed, .capabilityDenied])
        #expect(events.allSatisfy { $0.agent == "a-1" } && events[2].kind.isDenial)
        #expect(field(events[1], "grant")?.text == given[0].id.description)
        #expect(field(events[2], "action") == "tool: rm" && field(events[2], "reason") == "not-covered")
    }

    @Test func amountsAreToldWhenReservedAndWhenSettled() throws {
        let book = book()
        try book.issue([try GrantSpec(Capability(parsing: "model: default"))], to: parent)
        let admission = try book.admit(
            Request(.model("default"), needs: Amounts(tokens: 10), wants: Amounts(tokens: 100)), by: parent)
        admission.settle(used: Amounts(tokens: 40))
        let events = trail.take()
        #expect(events.map(\.kind) == [.grantIssued, .capabilityUsed, .capabilitySettled])
        #expect(field(events[1], "reserved")?["tokens"] == 100 && field(events[2], "used")?["tokens"] == 40)
    }

    @Test func whatCannotBeRecordedIsNotAllowedAndARevocationCounts() throws {
        let book = book()
        try book.issue([try GrantSpec(parsing: "tool: echo")], to: parent)
        trail.fill()
        let denial = #expect(throws: Denial.self) { _ = try book.admit(Request(.tool("echo")), by: parent).grant }
        #expect(denial?.reason == .notRecorded)
        #expect(throws: AegisError.self) { try book.issue([try GrantSpec(parsing: "tool: x")], to: child) }
        #expect(throws: AegisError.self) { try book.revoke(parent, reason: "gone") }
        #expect(book.records(of: parent).isEmpty && book.records(of: child).isEmpty)
    }

    @Test func ignoredActionsAreNot() throws {
        let book = book { if case .tool = $0 { true } else { false } }
        try book.issue([try GrantSpec(parsing: "tool: echo")], to: parent)
        _ = try book.admit(Request(.tool("echo")), by: parent).grant
        #expect(throws: Denial.self) { _ = try book.admit(Request(.tool("rm")), by: parent).grant }
        #expect(trail.take().map(\.kind) == [.grantIssued])
    }
}
