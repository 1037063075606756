import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

private let operatorHolder = HolderID("boot")
private let child = HolderID("child")
private let grandchild = HolderID("grandchild")

@Suite struct GrantBookTests {
    let time = StillTime()
    let journal = RecordingJournal()
    let book: GrantBook
    init() {
        let time = time
        book = GrantBook(journal: journal, random: Mutator(seed: 1)) { time.now }
    }

    func admit(_ text: String, by holder: HolderID = operatorHolder, bytes: UInt64 = 0) throws -> Admission {
        try book.admit(Request(try action(text), needs: Amounts(bytes: bytes)), by: holder)
    }
    /// Why something is refused; nil when it is not (and then it counts).
    func refusal(_ text: String, by holder: HolderID = operatorHolder, bytes: UInt64 = 0) throws -> Denial? {
        do {
            try admit(text, by: holder, bytes: bytes).settle(used: Amounts(bytes: bytes))
            return nil
        } catch let denial as Denial { return denial }
    }

    // MARK: Limits

    @Test func callsAreCountedAtTheAttempt() throws {
        try book.issue(specs("{grant: \"tool: x\", max_calls: 3}"), to: operatorHolder)
        try admit("tool: x").settle()
        _ = try admit("tool: x")
        try admit("tool: x").refund()
        #expect(book.records(of: operatorHolder)[0].calls == 2)
        #expect(try refusal("tool: x") == nil && refusal("tool: x")?.reason == .callsUsedUp)
    }

    /// What a holder is offered is what it would be admitted to, and asking counts nothing and is told nobody.
    @Test func whatIsAllowedIsWhatWouldBeAdmitted() throws {
        let actions = try ["tool: x", "tool: y", "tool: z", "file_read: /proc/1/mem"].map { try action($0) }
        #expect(book.allowed(actions, for: operatorHolder) == [false, false, false, false])
        try book.issue(specs("{grant: \"tool: x\", max_calls: 1}", "tool: y", "file_read: /**"), to: operatorHolder)
        #expect(book.allowed(actions, for: operatorHolder) == [true, true, false, false])
        #expect(book.records(of: operatorHolder).allSatisfy { $0.calls == 0 } && journal.events.count == 1)
        try admit("tool: x").settle()
        try book.revoke(operatorHolder, capability: .tool("y"), reason: "over")
        #expect(book.allowed(actions, for: operatorHolder) == [false, false, false, false])
        let set = book.grants(of: operatorHolder)
        for action in actions {
            guard case .deny = evaluate(Request(action), with: set, at: time.now) else {
                Issue.record("\(action) is allowed")
                continue
            }
        }
    }

    /// Of a holder whose grants are given anew: what was used before is used up, at it alone and without its rate.
    @Test func usesOfBeforeAreCountedOnce() throws {
        try book.issue(specs("{grant: \"tool: *\", max_calls: 9}"), to: operatorHolder)
        try book.delegate(
            specs("{grant: \"tool: x\", max_calls: 3, per_minute: 2}", "{grant: \"tool: *\", max_calls: 2}"),
            from: operatorHolder, to: child)
        try book.recall(4, of: try action("tool: x"), by: child)
        #expect(book.records(of: child).map(\.calls).sorted() == [1, 3])
        #expect(book.records(of: child).allSatisfy { $0.recent.isEmpty })
        #expect(book.records(of: operatorHolder)[0].calls == 0)
        #expect(try refusal("tool: x", by: child) == nil)
        #expect(try refusal("tool: x", by: child)?.reason == .callsUsedUp)
        // More than there is room for is no more than all, and what was journalled gives the same book.
        try book.recall(100, of: try action("tool: x"), by: operatorHolder)
        #expect(book.records(of: operatorHolder)[0].calls == 9)
        var again = GrantSnapshot()
        for event in journal.events { again.apply(event) }
        #expect(again == book.snapshot())
    }

    @Test func aRateHoldsInAnySixtySeconds() throws {
        try book.issue(specs("{grant: \"tool: x\", per_minute: 2}"), to: operatorHolder)
        #expect(try refusal("tool: x") == nil)
        time.advance(seconds: 40)
        #expect(try refusal("tool: x") == nil)
        let denial = try #require(try refusal("tool: x"))
        #expect(denial.reason == .tooFast && denial.retryAt == Timestamp(milliseconds: time.now.milliseconds + 20_000))
        time.advance(seconds: 19.999)
        #expect(try refusal("tool: x")?.reason == .tooFast)
        time.advance(seconds: 0.001)
        #expect(try refusal("tool: x") == nil && refusal("tool: x")?.reason == .tooFast)
    }

    @Test func aRateNeverExceedsItsNumberHoweverCallsFall() throws {
        var random = Mutator(seed: 30)
        try book.issue(specs("{grant: \"tool: x\", per_minute: 5}"), to: operatorHolder)
        var times: [Int64] = []
        for _ in 0..<3000 {
            time.advance(seconds: Double(random.number(0...30)))
            if try refusal("tool: x") == nil { times.append(time.now.milliseconds) }
        }
        for (index, moment) in times.enumerated() where index >= 5 { #expect(moment - times[index - 5] >= 60_000) }
        #expect(times.count > 1000)
    }

    @Test func amountsAreReservedAndSettled() throws {
        try book.issue(specs("{grant: \"network: *\", max_bytes: 100}"), to: operatorHolder)
        var first = try admit("network: a.test:443", bytes: 60)
        #expect(try refusal("network: a.test:443", bytes: 41)?.reason == .bytesUsedUp)
        try first.reserve(Amounts(bytes: 30))
        #expect(first.reserved == Amounts(bytes: 90))
        let denial = #expect(throws: Denial.self) { try first.reserve(Amounts(bytes: 11)) }
        #expect(denial?.reason == .bytesUsedUp && first.reserved == Amounts(bytes: 90))
        first.settle(used: Amounts(bytes: 50))
        #expect(try refusal("network: a.test:443", bytes: 50) == nil)
        // Nothing is left, not even for a request that says nothing of bytes.
        #expect(try refusal("network: a.test:443")?.reason == .bytesUsedUp)
    }

    @Test func whatIsUsedBeyondTheReservationCountsToo() throws {
        try book.issue(specs("{grant: \"model: m\", max_tokens: 100}"), to: operatorHolder)
        let admission = try book.admit(
            Request(.model("m"), needs: Amounts(tokens: 10), wants: Amounts(tokens: 5000)), by: operatorHolder)
        #expect(admission.reserved == Amounts(tokens: 100))
        admission.settle(used: Amounts(tokens: 130))
        #expect(book.records(of: operatorHolder)[0].used == Amounts(tokens: 130))
        #expect(try refusal("model: m")?.reason == .tokensUsedUp)
    }

    @Test func whatIsDroppedCountsInFull() throws {
        try book.issue(specs("{grant: \"network: *\", max_bytes: 100}"), to: operatorHolder)
        do { _ = try admit("network: a.test:443", bytes: 100) }
        #expect(book.records(of: operatorHolder)[0].used == Amounts(bytes: 100))
        #expect(try refusal("network: a.test:443", bytes: 1)?.reason == .bytesUsedUp)
        #expect(book.openAdmissions(of: book.records(of: operatorHolder).map(\.id)) == 0)
    }

    @Test func grantsExpire() throws {
        try book.issue(specs("{grant: \"tool: x\", expires: 10s}"), to: operatorHolder)
        let admission = try admit("tool: x")
        time.advance(seconds: 9.999)
        try admission.check()
        time.advance(seconds: 0.001)
        #expect(throws: Denial.self) { try admission.check() }
        #expect(try refusal("tool: x")?.reason == .expired)
        #expect(throws: AegisError.self) { try book.delegate(specs("tool: x"), from: operatorHolder, to: child) }
    }

    /// Given anew, as after a restart, a lifetime counts from where it did, and never from later than now.
    @Test func aLifetimeCountsFromItsFirstMoment() throws {
        let start = time.now
        time.advance(seconds: 4)
        let lasting = try specs("{grant: \"tool: x\", expires: 10s}", "tool: y")
        try book.issue(lasting, to: operatorHolder, since: start)
        try book.delegate(specs("{grant: \"tool: y\", expires: 9s}"), from: operatorHolder, to: child, since: start)
        let later = Timestamp(milliseconds: start.milliseconds + 3_600_000)
        try book.issue(lasting, to: grandchild, since: later)
        #expect(book.records(of: operatorHolder).map(\.terms.expires) == [start.adding(10), nil])
        #expect(book.records(of: child).map(\.terms.expires) == [start.adding(9)])
        #expect(book.records(of: grandchild).map(\.terms.expires) == [start.adding(14), nil])
        time.advance(seconds: 6)
        #expect(try refusal("tool: x")?.reason == .expired)
        // What has expired by the time that it is given anew is refused as such.
        try book.issue(lasting, to: HolderID("late"), since: start)
        #expect(try refusal("tool: x", by: HolderID("late"))?.reason == .expired)
        #expect(try refusal("tool: y", by: HolderID("late")) == nil)
    }

    @Test func timeNeverGoesBack() throws {
        try book.issue(specs("{grant: \"tool: x\", expires: 10s}"), to: operatorHolder)
        time.advance(seconds: 10)
        #expect(try refusal("tool: x")?.reason == .expired)
        time.advance(seconds: -3600)
        #expect(try refusal("tool: x")?.reason == .expired)
    }

    // MARK: Lines of grants

    @Test func countersAreSharedDownTheTree() throws {
        try book.issue(specs("{grant: \"tool: *\", max_calls: 5}"), to: operatorHolder)
        let holders = (0..<4).map { HolderID("child-\($0)") }
        for holder in holders { try book.delegate(specs("tool: x"), from: operatorHolder, to: holder) }
        try book.delegate(specs("{grant: \"tool: x\", max_calls: 1}"), from: holders[0], to: grandchild)
        var done = 0
        #expect(try refusal("tool: x", by: grandchild) == nil)
        #expect(try refusal("tool: x", by: grandchild)?.reason == .callsUsedUp)
        for _ in 0..<3 { for holder in holders { done += try refusal("tool: x", by: holder) == nil ? 1 : 0 } }
        #expect(done == 4)
        #expect(try refusal("tool: anything")?.reason == .callsUsedUp)
        #expect(book.records(of: operatorHolder)[0].calls == 5 && book.records(of: holders[0])[0].calls == 2)
    }

    /// Trees of random grants and random uses: no grant is ever used more, by all below it, than it allows.
    @Test func noTreeEverUsesMoreThanItsRootAllows() throws {
        var random = Mutator(seed: 31)
        for round in 0..<200 {
            let time = StillTime()
            let book = GrantBook(random: Mutator(seed: UInt64(round))) { time.now }
            var holders = [operatorHolder]
            try book.issue([random.limited()], to: operatorHolder)
            for number in 1...6 {
                let holder = HolderID("h\(number)")
                if (try? book.delegate([random.limited()], from: random.pick(holders), to: holder)) != nil {
                    holders.append(holder)
                }
            }
            for _ in 0..<60 {
                time.advance(seconds: Double(random.number(0...5)))
                let bytes = UInt64(random.number(0...6))
                let request = Request(.tool("x"), needs: Amounts(bytes: bytes), wants: Amounts(bytes: bytes + 2))
                guard let admission = try? book.admit(request, by: random.pick(holders)) else { continue }
                let used = admission.reserved.removing(Amounts(bytes: 1))
                switch random.number(0...2) {
                case 0: admission.refund()
                case 1: admission.settle(used: used)
                default: _ = consume admission
                }
            }
            for record in book.snapshot().grants {
                #expect(record.calls <= record.terms.limits.maxCalls ?? .max)
                #expect(record.used.bytes <= record.terms.limits.maxBytes ?? .max)
                let below = book.snapshot().grants.filter { $0.parent == record.id }
                #expect(below.reduce(0) { $0 + $1.calls } <= record.calls)
            }
        }
    }

    @Test func delegationPicksTheGrantThatHasMostLeft() throws {
        try book.issue(
            specs("{grant: \"tool: x\", max_calls: 1}", "{grant: \"tool: *\", max_calls: 9}", "tool: y"),
            to: operatorHolder)
        let given = try book.delegate(specs("tool: x"), from: operatorHolder, to: child)
        #expect(given[0].parent == book.records(of: operatorHolder)[1].id && given[0].terms.limits.maxCalls == 9)
        #expect(given[0].root == given[0].parent)
    }

    @Test func delegationIsAllOrNothing() throws {
        try book.issue(specs("tool: x", "file_read: /a/**"), to: operatorHolder)
        let error = #expect(throws: AegisError.self) {
            try book.delegate(specs("tool: x", "file_read: /b/**"), from: operatorHolder, to: child)
        }
        #expect(error?.code == "grant-too-wide" && error?.message.contains("'file_read: /a/**'") == true)
        #expect(book.records(of: child).isEmpty)
        let none = #expect(throws: AegisError.self) {
            try book.delegate(specs("exec: git"), from: operatorHolder, to: child)
        }
        #expect(none?.message.contains("nothing of that kind") == true)
    }

    // MARK: Revocation

    @Test func revocationReachesEverythingDerivedAndWhatIsInFlight() throws {
        let root = try book.issue(specs("network: *", "tool: x"), to: operatorHolder)[0]
        let mid = try book.delegate(specs("network: *.a.test"), from: operatorHolder, to: child)[0]
        let leaf = try book.delegate(specs("network: b.a.test"), from: child, to: grandchild)[0]
        var flight = try admit("network: b.a.test:443", by: grandchild)
        try flight.check()
        #expect(book.openAdmissions(of: [leaf.id]) == 1)
        #expect(try Set(book.revoke(root.id, reason: "test")) == [root.id, mid.id, leaf.id])
        let denial = #expect(throws: Denial.self) { try flight.check() }
        #expect(denial?.reason == .revoked && denial?.nearest == leaf.id)
        #expect(throws: Denial.self) { try flight.reserve(Amounts(bytes: 1)) }
        flight.settle(used: Amounts(bytes: 7))
        #expect(book.openAdmissions(of: [leaf.id]) == 0 && book.record(root.id)?.used == Amounts(bytes: 7))
        let refused = try #require(try refusal("network: b.a.test:443", by: grandchild))
        #expect(refused.reason == .revoked && refused.nearest == leaf.id)
        #expect(try refusal("tool: x") == nil && book.revoke(root.id, reason: "again").isEmpty)
        #expect(throws: AegisError.self) { try book.delegate(specs("network: b.a.test"), from: child, to: grandchild) }
    }

    @Test func revocationOfAPartLeavesTheRest() throws {
        try book.issue(specs("tool: *"), to: operatorHolder)
        let one = try book.delegate(specs("tool: x"), from: operatorHolder, to: child)[0]
        try book.delegate(specs("tool: x"), from: operatorHolder, to: grandchild)
        try book.revoke(one.id, reason: "test")
        #expect(try refusal("tool: x", by: child)?.reason == .revoked)
        #expect(try refusal("tool: x", by: grandchild) == nil && refusal("tool: x") == nil)
    }

    @Test func revocationByHolderAndByCapability() throws {
        try book.issue(specs("tool: x", "tool: y", "{grant: \"tool: x\", max_calls: 3}"), to: operatorHolder)
        #expect(try book.revoke(operatorHolder, capability: capability("tool:x"), reason: "test").count == 2)
        #expect(try refusal("tool: x")?.reason == .revoked && refusal("tool: y") == nil)
        let error = #expect(throws: AegisError.self) {
            try book.revoke(operatorHolder, capability: capability("tool: yy"), reason: "test")
        }
        #expect(error?.code == "grant-not-found" && error?.hint == "did you mean 'tool: y'?")
        #expect(try book.revoke(operatorHolder, reason: "test").count == 1)
        #expect(try refusal("tool: y")?.reason == .revoked && book.revoke(operatorHolder, reason: "test").isEmpty)
        let unknown = try #require(GrantID(parsing: "g-0000000000000000"))
        #expect(throws: AegisError.self) { try book.revoke(unknown, reason: "test") }
    }

    @Test func aRetiredHolderIsForgottenWithWhatWasDerived() throws {
        try book.issue(specs("tool: *"), to: operatorHolder)
        try book.delegate(specs("tool: x"), from: operatorHolder, to: child)
        try book.delegate(specs("tool: x"), from: child, to: grandchild)
        let flight = try admit("tool: x", by: grandchild)
        #expect(try book.retire(child, reason: "stopped").count == 2)
        #expect(throws: Denial.self) { try flight.check() }
        flight.settle()
        #expect(
            try refusal("tool: x", by: child)?.reason == .noGrant
                && refusal("tool: x", by: grandchild)?.reason == .revoked)
        #expect(book.snapshot().grants.allSatisfy { $0.holder != child })
        try book.retire(grandchild, reason: "stopped")
        try book.retire(operatorHolder, reason: "stopped")
        #expect(book.snapshot().grants.isEmpty)
    }

    @Test func fewRevokedGrantsAreRemembered() throws {
        for _ in 0..<200 {
            let id = try book.issue(specs("tool: x"), to: operatorHolder)[0].id
            try book.revoke(id, reason: "test")
        }
        #expect(book.snapshot().grants.count == GrantBook.Bounds().remembered)
        #expect(try refusal("tool: x")?.reason == .revoked)
    }

    // MARK: Handles

    @Test func handlesWorkForTheirHolderOnly() throws {
        try book.issue(specs("tool: x", "tool: *"), to: operatorHolder)
        try book.issue(specs("tool: y"), to: child)
        let handle = book.handles(of: operatorHolder)[0]
        let request = Request(try action("tool: x"))
        let admission = try book.admit(request, by: operatorHolder, using: handle)
        #expect(admission.grant == book.records(of: operatorHolder)[0].id)
        admission.settle()
        let foreign = #expect(throws: Denial.self) { _ = try book.admit(request, by: child, using: handle) }
        let forged = try #require(GrantHandle(revealed: "gh-" + String(repeating: "0", count: 32)))
        let unknown = #expect(throws: Denial.self) { _ = try book.admit(request, by: child, using: forged) }
        // Whether it exists is not told.
        #expect(foreign == unknown && foreign?.reason == .unknownHandle)
        // Nothing but this grant is used.
        let narrow = #expect(throws: Denial.self) {
            _ = try book.admit(Request(try action("tool: z")), by: operatorHolder, using: handle)
        }
        #expect(narrow?.reason == .notCovered)
        #expect(throws: AegisError.self) {
            try book.delegate(spec("tool: x"), using: handle, from: child, to: grandchild)
        }
        try book.delegate(spec("tool: x"), using: handle, from: operatorHolder, to: grandchild)
        try book.revoke(operatorHolder, reason: "test")
        #expect(throws: Denial.self) { _ = try book.admit(request, by: operatorHolder, using: handle) }
    }

    @Test func handlesAreRandomAndNotShown() throws {
        let book = GrantBook()
        try book.issue((0..<1000).map { try spec("tool: t\($0)") }, to: operatorHolder)
        let handles = book.handles(of: operatorHolder)
        #expect(
            Set(handles).count == 1000 && "\(handles)".contains("•••") && !"\(handles[0])".contains(where: \.isNumber))
        var dumped = ""
        dump(handles[0], to: &dumped)
        #expect(!dumped.contains(handles[0].reveal().dropFirst(3)))
        #expect(GrantHandle(revealed: handles[0].reveal()) == handles[0])
        for bad in [
            "", "gh-", "gh-1", "g-" + String(repeating: "0", count: 33), "gh-" + String(repeating: "A", count: 32),
        ] {
            #expect(GrantHandle(revealed: bad) == nil)
        }
        let text = try String(decoding: encoded(book.snapshot()), as: UTF8.self)
        #expect(!handles.prefix(20).contains { text.contains($0.reveal().dropFirst(3)) })
    }
}

extension Mutator {
    mutating func limited() throws -> GrantSpec {
        var fields: [String] = []
        if chance(2, in: 3) { fields.append("max_calls: \(number(1...20))") }
        if chance(2, in: 3) { fields.append("max_bytes: \(number(1...60))") }
        if chance(1, in: 4) { fields.append("per_minute: \(number(1...9))") }
        let tool = pick(["*", "x"])
        return try GrantSpec(
            parsing: fields.isEmpty ? "tool: x" : "{grant: \"tool: \(tool)\", \(fields.joined(separator: ", "))}")
    }
}

extension Timestamp {
    /// So many seconds later.
    fileprivate func adding(_ seconds: Int64) -> Timestamp { Timestamp(milliseconds: milliseconds + seconds * 1000) }
}
