import AegisCore
import AegisTestSupport
import Testing

@testable import AegisInference

@Suite struct BudgetMachineTests {
    private let now = Timestamp(milliseconds: 1_000_000)
    private let caller = CallerID(agent: "a", tree: "t")
    private let price = ModelPrice(input: 1_000_000, output: 2_000_000, cacheWrite: 1_250_000)

    private func machine(
        agent: BudgetLimit = .none, parent: BudgetLimit? = nil, tree: BudgetLimit = .none
    ) -> BudgetMachine {
        var machine = BudgetMachine()
        if let parent { machine.apply(machine.open(.agent("p"), parent: nil, limit: parent, at: now)) }
        machine.apply(
            machine.open(.agent("a"), parent: parent == nil ? nil : .agent("p"), limit: agent, at: now))
        machine.apply(machine.open(.tree("t"), parent: nil, limit: tree, at: now))
        return machine
    }
    private func reserve(
        _ machine: inout BudgetMachine, input: Int, output: Int, priced: Bool = true
    ) throws(BudgetRefusal) -> BudgetReservation? {
        let change = try machine.reserve(
            caller, input: input, wantedOutput: output, price: priced ? price : nil, at: now)
        machine.apply(change)
        return change.added
    }
    private func refusal(_ machine: inout BudgetMachine, input: Int, output: Int, priced: Bool = true) -> BudgetRefusal?
    {
        do throws(BudgetRefusal) { _ = try reserve(&machine, input: input, output: output, priced: priced) } catch {
            return error
        }
        return nil
    }
    private func settle(_ machine: inout BudgetMachine, _ reservation: BudgetReservation?, _ usage: TokenUsage) throws {
        let id = try #require(reservation).id
        let change = machine.settle(id, usage: usage, microUSD: price.cost(of: usage), isCall: true, at: now)
        machine.apply(try #require(change))
    }

    @Test func theAnswerIsCutToWhatIsLeftAndOnlyAQuestionThatDoesNotFitIsRefused() throws {
        var machine = machine(agent: BudgetLimit(maxTokens: 500))
        let first = try reserve(&machine, input: 100, output: 10_000)
        #expect(first?.outputTokens == 400)
        try settle(&machine, first, TokenUsage(input: 90, output: 300))
        #expect(try reserve(&machine, input: 109, output: 50)?.outputTokens == 1)
        #expect(refusal(&machine, input: 110, output: 1)?.kind == .exhausted)
    }

    @Test func whatCrossesTheLineIsBookedAndTheNextIsRefused() throws {
        var machine = machine(tree: BudgetLimit(maxTokens: 100))
        let call = try reserve(&machine, input: 50, output: 50)
        try settle(&machine, call, TokenUsage(input: 80, output: 70))
        #expect(machine.accounts[.tree("t")]?.usedTokens == 150)
        let refusal = refusal(&machine, input: 1, output: 1)
        #expect(refusal?.owner == .tree("t") && refusal?.kind == .exhausted)
        #expect(refusal?.message == "2 tokens are needed, 0 of 100 are left")
    }

    @Test func whatOthersHoldIsOccupiedNotUsedUp() throws {
        var machine = machine(tree: BudgetLimit(maxTokens: 1000))
        let first = try reserve(&machine, input: 100, output: 900)
        #expect(refusal(&machine, input: 100, output: 10)?.kind == .occupied)
        #expect(refusal(&machine, input: 1000, output: 10)?.kind == .exhausted)
        try settle(&machine, first, TokenUsage(input: 100, output: 100))
        #expect(try reserve(&machine, input: 100, output: 10)?.outputTokens == 10)
    }

    @Test func moneyCountsTheDearestInput() throws {
        // 100 tokens of input may be written to the cache: 125 micro dollars; the rest pays for output at two each.
        var machine = machine(agent: BudgetLimit(maxMicroUSD: 325))
        let call = try reserve(&machine, input: 100, output: 10_000)
        #expect(call?.outputTokens == 100 && call?.microUSD == 325)
        try settle(&machine, call, TokenUsage(input: 100, output: 10))
        #expect(machine.accounts[.agent("a")]?.usedMicroUSD == 120)
        #expect(
            refusal(&machine, input: 200, output: 1)?.message
                == "0.000252 USD are needed, 0.000205 of 0.000325 are left")
    }

    @Test func aBudgetOfMoneyWantsAPrice() throws {
        var machine = machine(tree: BudgetLimit(maxMicroUSD: 1))
        #expect(refusal(&machine, input: 1, output: 1, priced: false)?.kind == .priceUnknown)
        let free = self.machine(tree: BudgetLimit(maxMicroUSD: 0))
        #expect(throws: Never.self) {
            try free.reserve(caller, input: 1000, wantedOutput: 10, price: .free, at: now)
        }
    }

    /// What has no answer in tokens may use the last one.
    @Test func whatHasNoAnswerNeedsNoRoomForOne() throws {
        var machine = machine(tree: BudgetLimit(maxTokens: 10))
        let call = try reserve(&machine, input: 10, output: 0)
        #expect(call?.tokens == 10 && call?.outputTokens == 0)
        #expect(refusal(&machine, input: 1, output: 0)?.kind == .occupied)
    }

    @Test func childrenUseTheirParentsBudgetAsWell() throws {
        var machine = machine(parent: BudgetLimit(maxTokens: 100))
        try settle(&machine, try reserve(&machine, input: 30, output: 30), TokenUsage(input: 30, output: 30))
        #expect(machine.accounts[.agent("p")]?.usedTokens == 60)
        #expect(refusal(&machine, input: 40, output: 1)?.owner == .agent("p"))
    }

    @Test func parentsInACircleAreEachCountedOnce() throws {
        var machine = BudgetMachine()
        machine.apply(machine.open(.agent("a"), parent: .agent("b"), limit: .none, at: now))
        machine.apply(machine.open(.agent("b"), parent: .agent("a"), limit: .none, at: now))
        #expect(machine.owners(of: caller) == [.agent("a"), .agent("b"), .tree("t")])
    }

    @Test func aPeriodBeginsAnewInWholeSteps() throws {
        var machine = machine(agent: BudgetLimit(maxTokens: 100, period: .seconds(10)))
        try settle(&machine, try reserve(&machine, input: 50, output: 49), TokenUsage(input: 50, output: 50))
        #expect(refusal(&machine, input: 1, output: 1) != nil)
        let later = Timestamp(milliseconds: now.milliseconds + 25_000)
        machine.apply(try machine.reserve(caller, input: 1, wantedOutput: 1, price: nil, at: later))
        let account = try #require(machine.accounts[.agent("a")])
        #expect(account.periodStart.milliseconds == now.milliseconds + 20_000)
        #expect(account.usedTokens == 0 && account.total.total == 100)
        // A clock that was set back changes nothing.
        machine.apply(try machine.reserve(caller, input: 1, wantedOutput: 1, price: nil, at: now))
        #expect(machine.accounts[.agent("a")]?.periodStart == account.periodStart)
    }

    @Test func aSecondSettlementAndAClosedAccountChangeNothing() throws {
        var machine = machine()
        let call = try #require(try reserve(&machine, input: 1, output: 1))
        machine.apply(BudgetMachine.Change(closed: [.agent("a")]))
        try settle(&machine, call, TokenUsage(input: 5))
        #expect(machine.accounts[.agent("a")] == nil)
        #expect(machine.accounts[.tree("t")]?.usedTokens == 5)
        #expect(machine.settle(call.id, usage: .zero, microUSD: 0, isCall: true, at: now) == nil)
    }

    /// Random calls in a tree: nothing is lost, nothing is negative, and nobody begins a call beyond the line.
    @Test(arguments: 1...40)
    func booksBalance(_ seed: Int) throws {
        var random = Mutator(seed: UInt64(seed))
        let limit = Int.random(in: 0...5000, using: &random)
        var machine = machine(tree: BudgetLimit(maxTokens: limit))
        machine.apply(machine.open(.agent("b"), parent: .agent("a"), limit: BudgetLimit(maxTokens: limit / 2), at: now))
        var open: [BudgetReservation] = []
        var used = 0
        for _ in 0..<200 {
            if Bool.random(using: &random) {
                let input = Int.random(in: 0...300, using: &random), wanted = Int.random(in: 1...600, using: &random)
                do {
                    let change = try machine.reserve(
                        CallerID(agent: Bool.random(using: &random) ? "a" : "b", tree: "t"), input: input,
                        wantedOutput: wanted, price: price, at: now)
                    machine.apply(change)
                    let added = try #require(change.added, "a reservation")
                    #expect((1...wanted).contains(added.outputTokens) && added.inputTokens == input)
                    open.append(added)
                    #expect(used + open.reduce(0) { $0 + $1.tokens } <= limit)
                } catch let refusal as BudgetRefusal {
                    #expect(refusal.kind != .priceUnknown)
                }
            } else if let call = open.popLast() {
                let usage = TokenUsage(
                    input: call.inputTokens, output: Int.random(in: 0...call.outputTokens, using: &random))
                used += usage.total
                try settle(&machine, call, usage)
            }
            let tree = try #require(machine.accounts[.tree("t")])
            #expect(tree.usedTokens == used && tree.reservedTokens == open.reduce(0) { $0 + $1.tokens })
        }
        for call in open { try settle(&machine, call, .zero) }
        #expect(
            machine.reservations.isEmpty
                && machine.accounts.values.allSatisfy { $0.reservedTokens == 0 && $0.reservedMicroUSD == 0 })
    }
}
