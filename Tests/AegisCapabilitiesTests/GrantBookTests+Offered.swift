import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

extension GrantBookTests {
    /// The same of holders with few grants and with many: of each action the evaluator says what the book says of all at once.
    @Test(arguments: [1, 5, 64, 65, 100]) func whatIsAllowedIsWhatTheEvaluatorSays(_ count: Int) throws {
        var mutator = Mutator(seed: UInt64(count))
        let names = (0..<12).map { "t\($0)" }
        let actions = names.map { Action.tool($0) } + [.model("fast"), .tool("unknown")]
        for round in 0..<30 {
            let holder = HolderID("a-\(count)-\(round)")
            for _ in 0..<count {
                let what = mutator.pick(["tool: ", "tool: ", "model: "]) + mutator.pick(names + ["fast"])
                let grant = mutator.chance(1, in: 40) && count < 10 ? "tool: *" : what
                try book.issue(specs("{grant: \"\(grant)\", max_calls: \(mutator.number(1...2))}"), to: holder)
            }
            for _ in 0..<count { _ = try? book.admit(Request(mutator.pick(actions)), by: holder).settle() }
            if mutator.chance(1, in: 3) { _ = try? book.revoke(holder, capability: .tool("t1"), reason: "over") }
            let set = book.grants(of: holder)
            let expected = actions.map { action in
                if case .allow = evaluate(Request(action), with: set, at: time.now) { true } else { false }
            }
            #expect(book.allowed(actions, for: holder) == expected)
        }
    }
}
