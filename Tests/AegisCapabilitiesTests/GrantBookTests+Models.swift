import AegisCapabilities
import AegisCore
import Testing

private let operatorHolder = HolderID("boot")
private let child = HolderID("child")

extension GrantBookTests {
    /// What models used by a grant when the daemon ended: counted at that grant alone, and once.
    @Test func whatAModelUsedBeforeIsCountedOnce() throws {
        try book.issue(specs("{grant: \"tool: *\", max_tokens: 90}"), to: operatorHolder)
        let own = try book.delegate(specs("{grant: \"tool: x\", max_tokens: 50}"), from: operatorHolder, to: child)[0]
        try book.recall(Amounts(tokens: 30, microUSD: 4), at: own.id)
        try book.recall(Amounts(tokens: 1), at: #require(GrantID(parsing: "g-0000000000000000")))
        #expect(book.record(own.id)?.used == Amounts(tokens: 30, microUSD: 4))
        #expect(book.records(of: operatorHolder)[0].used == Amounts())
        var again = GrantSnapshot()
        for event in journal.events { again.apply(event) }
        #expect(again == book.snapshot())
    }

    /// What is left for models is told of each grant of the line that limits it, and of the one that allows the call in any case.
    @Test func whatIsLeftIsToldOfEachGrantOfALine() throws {
        let first = try book.issue(specs("{grant: \"tool: *\", max_tokens: 90}", "tool: y"), to: operatorHolder)
        let middle = try book.delegate(specs("{grant: \"tool: *\", max_usd: 2}"), from: operatorHolder, to: child)[0]
        let grandchild = HolderID("a-3")
        let last = try book.delegate(specs("tool: x"), from: child, to: grandchild)[0]
        let use = try book.admit(Request(try action("tool: x")), by: grandchild)
        // Limits are handed down: the last one has both.
        let shares = use.shares()
        #expect(shares.map(\.grant) == [last.id, middle.id, first[0].id])
        #expect(shares.map(\.holder) == [grandchild, child, operatorHolder])
        #expect(shares.map(\.tokens) == [90, 90, 90] && shares.map(\.microUSD) == [2_000_000, 2_000_000, nil])
        use.settle(used: Amounts(tokens: 100, microUSD: 500_000))
        let other = try book.admit(Request(try action("tool: y")), by: operatorHolder)
        #expect(other.shares().isEmpty == (other.grant == first[1].id))
        #expect(try refusal("tool: x", by: grandchild)?.reason == .tokensUsedUp)
    }
}
