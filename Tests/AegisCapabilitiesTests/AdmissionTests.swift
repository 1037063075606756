import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

@Suite struct AdmissionTests {
    private let book = GrantBook()
    private let holder = HolderID("agent")

    private func admit(_ text: String) throws -> Admission { try book.admit(Request(try action(text)), by: holder) }

    /// A portion leaves something for others, until there is nothing to leave.
    @Test func bytesAreReservedInPortions() throws {
        try book.issue(specs("network: b.test", "{grant: \"network: a.test\", max_bytes: 64Ki}"), to: holder)
        let endless = try admit("network: b.test:443")
        let isEndless = !endless.limitsBytes()
        #expect(isEndless)
        var first = try admit("network: a.test:443")
        let (isLimited, portion) = (first.limitsBytes(), try first.reservePortion())
        #expect(isLimited && portion == 8 << 10)
        try admit("network: a.test:443").settle()
        var sum = portion
        let denial = #expect(throws: Denial.self) { while true { sum += try first.reservePortion() } }
        #expect(denial?.reason == .bytesUsedUp && sum == 64 << 10)
        #expect(first.reserved == Amounts(bytes: 64 << 10))
        // It has them all, and goes on with them; for another there is nothing.
        try first.check()
        #expect(throws: Denial.self) { _ = try admit("network: a.test:443") }
        first.settle(used: Amounts(bytes: 60 << 10))
        try admit("network: a.test:443").settle()
    }
}
