import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

private let operatorHolder = HolderID("boot")
private let child = HolderID("child")
private let grandchild = HolderID("grandchild")

/// How many grants there can be.
@Suite struct GrantBoundsTests {
    @Test func boundsHold() throws {
        var bounds = GrantBook.Bounds()
        (bounds.grantsPerHolder, bounds.depth, bounds.grants) = (3, 2, 6)
        let book = GrantBook(bounds: bounds)
        try book.issue(specs("tool: *", "tool: a", "tool: b"), to: operatorHolder)
        #expect(throws: AegisError.self) { try book.issue(specs("tool: c"), to: operatorHolder) }
        try book.delegate(specs("tool: *"), from: operatorHolder, to: child)
        try book.delegate(specs("tool: *"), from: child, to: grandchild)
        let deep = #expect(throws: AegisError.self) {
            try book.delegate(specs("tool: *"), from: grandchild, to: HolderID("h"))
        }
        #expect(deep?.code == "grant-too-deep")
        try book.issue(specs("tool: *"), to: HolderID("h"))
        #expect(throws: AegisError.self) { try book.issue(specs("tool: *"), to: HolderID("i")) }
    }

    /// What has expired keeps its place until somebody needs that, and is revoked then.
    @Test func expiredGrantsMakeRoom() throws {
        var bounds = GrantBook.Bounds()
        bounds.grantsPerHolder = 2
        let time = StillTime()
        let small = GrantBook(bounds: bounds) { time.now }
        try small.issue(specs("{grant: \"tool: x\", expires: 10s}", "tool: y"), to: operatorHolder)
        let full = #expect(throws: AegisError.self) { try small.issue(specs("tool: z"), to: operatorHolder) }
        #expect(full?.code == "too-many-grants")
        time.advance(seconds: 10)
        #expect(small.records(of: operatorHolder).count == 2)
        try small.issue(specs("tool: z"), to: operatorHolder)
        let held = small.records(of: operatorHolder).map(\.terms.capability.description)
        #expect(held == ["tool: y", "tool: z"])
        #expect(throws: AegisError.self) { try small.issue(specs("tool: w"), to: operatorHolder) }
    }
}
