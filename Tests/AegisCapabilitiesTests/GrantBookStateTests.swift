import AegisCapabilities
import AegisCore
import AegisTestSupport
import Synchronization
import Testing

private let operatorHolder = HolderID("boot")
private let child = HolderID("child")

/// What a book tells and keeps, and what many at once do to it.
@Suite struct GrantBookStateTests {
    let time = StillTime()
    let journal = RecordingJournal()
    let book: GrantBook
    init() {
        let time = time
        book = GrantBook(journal: journal, random: Mutator(seed: 1)) { time.now }
    }

    private func admit(_ text: String, by holder: HolderID = operatorHolder, bytes: UInt64 = 0) throws -> Admission {
        try book.admit(Request(try action(text), needs: Amounts(bytes: bytes)), by: holder)
    }
    /// Why something is refused; nil when it is not (and then it counts).
    private func refusal(_ text: String, by holder: HolderID = operatorHolder, bytes: UInt64 = 0) throws -> Denial? {
        do {
            try admit(text, by: holder, bytes: bytes).settle(used: Amounts(bytes: bytes))
            return nil
        } catch let denial as Denial { return denial }
    }

    // MARK: Refusals

    /// The book looks only at what can explain a refusal, and says what the evaluator says, which looks at every grant.
    @Test func aRefusalSaysWhatALookAtEveryGrantSays() throws {
        var random = Mutator(seed: 21)
        var refused = 0
        for number in 0..<500 {
            let holder = HolderID("holder-\(number)")
            for _ in 0..<random.number(0...12) { try book.issue([random.grantSpec()], to: holder) }
            if let first = book.records(of: holder).first, number % 3 == 0 { try book.revoke(first.id, reason: "test") }
            for _ in 0..<6 {
                let request = Request(try random.anyAction())
                let decision = evaluate(request, with: book.grants(of: holder), at: time.now)
                do {
                    try book.admit(request, by: holder).settle()
                    if case .deny(let denial) = decision {
                        Issue.record("\(request.action) was let through: \(denial)")
                    }
                } catch {
                    #expect(decision == .deny(error))
                    refused += 1
                }
            }
        }
        #expect(refused > 1000)
    }

    /// What is passed over because it cannot be near is not: every name that is near is still offered.
    @Test func everyNameThatIsNearIsOffered() throws {
        var random = Mutator(seed: 22)
        var near = 0
        for number in 0..<1500 {
            let letters = random.chance(1, in: 2) ? ["a", "b", "c"] : ["a", "b", "c", "_", "7", "A"]
            let words = (0..<2).map { _ in
                (0..<random.number(1...9)).map { _ in random.pick(letters) }.joined()
            }
            guard words[0] != words[1], let capability = try? Capability(parsing: "tool: \(words[1])") else { continue }
            let holder = HolderID("speller-\(number)")
            try book.issue([GrantSpec(capability)], to: holder)
            let expected = nearest(words[0], in: [words[1]]).map { "did you mean '\($0)'?" }
            do throws(Denial) {
                try book.admit(Request(.tool(words[0])), by: holder).settle()
                Issue.record("\(words)")
            } catch { #expect(error.hint == expected, "\(words)") }
            near += expected == nil ? 0 : 1
        }
        #expect(near > 50)
    }

    // MARK: The journal

    @Test func changesAndDenialsAreWrittenDown() throws {
        let id = try book.issue(specs("{grant: \"tool: x\", max_calls: 1}"), to: operatorHolder)[0].id
        try admit("tool: x").settle(used: Amounts(bytes: 4))
        _ = try refusal("tool: x")
        try book.revoke(id, reason: "test")
        let now = time.now
        let events = journal.events
        #expect(
            Array(events.dropFirst()) == [
                .charged(id, calls: 1, amounts: Amounts(), at: now),
                .settled(id, reserved: Amounts(), used: Amounts(bytes: 4)),
                .revoked([id], at: now, reason: "test"),
            ])
        #expect(journal.state.withLock { $0.actions[1] } == .tool("x"))
        #expect(journal.denials.map(\.1.reason) == [.callsUsedUp] && journal.denials[0].0 == operatorHolder)
    }

    @Test func whatCannotBeRecordedDoesNotHappen() throws {
        let id = try book.issue(specs("{grant: \"network: *\", max_bytes: 100, max_calls: 5}"), to: operatorHolder)[0]
            .id
        var flight = try admit("network: a.test:1", bytes: 10)
        let other = try admit("network: a.test:1", bytes: 10)
        journal.breakDown()
        let before = book.snapshot()
        #expect(throws: AegisError.self) { try book.issue(specs("tool: y"), to: operatorHolder) }
        #expect(throws: AegisError.self) { try book.delegate(specs("network: *"), from: operatorHolder, to: child) }
        let denial = try #require(try refusal("network: a.test:1"))
        #expect(denial.reason == .notRecorded && denial.asAegisError.kind == .failed && denial.hint == "make room")
        #expect(throws: Denial.self) { try flight.reserve(Amounts(bytes: 1)) }
        flight.settle(used: Amounts(bytes: 1))
        other.refund()
        // What could not be credited stays counted.
        #expect(book.snapshot() == before && book.record(id)?.used == Amounts(bytes: 20))
        // A revocation works even so.
        #expect(throws: AegisError.self) { try book.revoke(id, reason: "test") }
        journal.breakDown(false)
        #expect(try refusal("network: a.test:1")?.reason == .revoked)
    }

    /// What a store would have given again is saved by whoever asks again, by id, by capability or with all, and by the task that
    /// sees to it; a holder that is gone leaves nothing behind.
    @Test func aRevocationThatWasNotRecordedIsSavedLater() throws {
        let given = try book.issue(specs("tool: x", "tool: y", "tool: z"), to: operatorHolder)
        let derived = try book.delegate(specs("tool: z"), from: operatorHolder, to: child)[0].id
        func saved() -> Set<GrantID> {
            var snapshot = GrantSnapshot()
            for event in journal.events { snapshot.apply(event) }
            return Set(snapshot.grants.filter { $0.revoked == nil }.map(\.id))
        }
        journal.breakDown()
        #expect(throws: AegisError.self) { try book.revoke(given[0].id, reason: "first") }
        #expect(throws: AegisError.self) {
            try book.revoke(operatorHolder, capability: capability("tool: y"), reason: "first")
        }
        #expect(throws: AegisError.self) { try book.retire(child, reason: "first") }
        #expect(throws: AegisError.self) { try book.saveRevocations() }
        #expect(saved() == Set(given.map(\.id) + [derived]) && book.hasUnsaved)
        journal.breakDown(false)
        let first = time.now
        time.advance(seconds: 9)
        #expect(try book.revoke(given[0].id, reason: "again") == [given[0].id])
        #expect(journal.events.last == .revoked([given[0].id], at: first, reason: "first"))
        #expect(
            try book.revoke(operatorHolder, capability: capability("tool: y"), reason: "again") == [given[1].id])
        #expect(saved() == [given[2].id, derived])
        try book.saveRevocations()
        #expect(saved() == [given[2].id] && !book.hasUnsaved)
        #expect(try book.revoke(given[0].id, reason: "again").isEmpty)
        // Nobody holds it any more: it is forgotten, as it would have been at once.
        #expect(book.record(derived) == nil && journal.events.last == .forgotten([derived]))
        #expect(throws: AegisError.self) {
            try book.revoke(operatorHolder, capability: capability("tool: y"), reason: "again")
        }
    }

    // MARK: Snapshots

    /// At any moment: the events since an earlier snapshot lead to the present one, and a book opened with it goes on as this one.
    @Test func snapshotsAndEventsGiveTheState() throws {
        var random = Mutator(seed: 32)
        for round in 0..<60 {
            let (time, journal) = (StillTime(), RecordingJournal())
            let book = GrantBook(journal: journal, random: Mutator(seed: UInt64(1000 + round))) { time.now }
            var replayed = GrantSnapshot()
            var seen = 0
            let holders = (0..<4).map { HolderID("h\($0)") }
            for _ in 0..<80 {
                try random.change(book, holders)
                time.advance(seconds: Double(random.number(0...20)))
                guard random.chance(1, in: 5) else { continue }
                for event in journal.events.dropFirst(seen) { replayed.apply(try decoded(encoded(event))) }
                seen = journal.events.count
                let snapshot = book.snapshot()
                #expect(replayed == snapshot)
                let stored: GrantSnapshot = try decoded(encoded(snapshot))
                #expect(stored == snapshot)
                let again = GrantBook(stored, random: Mutator(seed: 5)) { time.now }
                #expect(again.snapshot() == snapshot)
                for holder in holders {
                    for name in ["x", "y"] {
                        let request = Request(.tool(name), needs: Amounts(bytes: 1))
                        let one = evaluate(request, with: book.grants(of: holder), at: time.now)
                        let two = evaluate(request, with: again.grants(of: holder), at: time.now)
                        #expect(one.reserved == two.reserved)
                    }
                }
            }
        }
    }

    @Test func handlesAreNewAfterARestart() throws {
        try book.issue(specs("tool: x"), to: operatorHolder)
        let again = GrantBook(book.snapshot()) { [time] in time.now }
        #expect(again.handles(of: operatorHolder).count == 1)
        #expect(again.handles(of: operatorHolder) != book.handles(of: operatorHolder))
        #expect(throws: Denial.self) {
            _ = try again.admit(Request(.tool("x")), by: operatorHolder, using: book.handles(of: operatorHolder)[0])
        }
    }

    @Test func aChildWithoutItsParentIsNotRestored() throws {
        try book.issue(specs("tool: *"), to: operatorHolder)
        try book.delegate(specs("tool: x"), from: operatorHolder, to: child)
        var snapshot = book.snapshot()
        snapshot.apply(.forgotten(book.records(of: operatorHolder).map(\.id)))
        let again = GrantBook(snapshot) { [time] in time.now }
        #expect(throws: Denial.self) { _ = try again.admit(Request(.tool("x")), by: child) }
        var newer = try String(decoding: encoded(snapshot), as: UTF8.self)
        newer = newer.replacing("\"version\":1", with: "\"version\":2")
        #expect(throws: DecodingError.self) { let _: GrantSnapshot = try decoded(Array(newer.utf8)) }
    }

    // MARK: Threads

    @Test func manyAtOnceNeverExceedALimit() async throws {
        let book = GrantBook()
        try book.issue(specs("{grant: \"tool: *\", max_calls: 1000, max_bytes: 100000}"), to: operatorHolder)
        for number in 0..<4 { try book.delegate(specs("tool: x"), from: operatorHolder, to: HolderID("h\(number)")) }
        let admitted = await withTaskGroup(of: Int.self) { group in
            for number in 0..<8 {
                group.addTask {
                    var count = 0
                    for round in 0..<400 {
                        let request = Request(.tool("x"), needs: Amounts(bytes: 10))
                        guard let admission = try? book.admit(request, by: HolderID("h\(number % 4)")) else { continue }
                        if round % 4 == 0 {
                            admission.refund()
                        } else {
                            count += 1
                            admission.settle(used: Amounts(bytes: 5))
                        }
                    }
                    return count
                }
            }
            return await group.reduce(0, +)
        }
        let record = book.records(of: operatorHolder)[0]
        #expect(record.calls == UInt64(admitted) && record.used.bytes == UInt64(admitted) * 5)
        #expect(admitted <= 1000 && admitted > 900 && book.openAdmissions(of: book.snapshot().grants.map(\.id)) == 0)
    }

    @Test func nothingIsAdmittedAfterARevocationHasReturned() async throws {
        for _ in 0..<50 {
            let book = GrantBook()
            let id = try book.issue(specs("tool: *"), to: operatorHolder)[0].id
            try book.delegate(specs("tool: x"), from: operatorHolder, to: child)
            let isRevoked = Flag()
            let late = await withTaskGroup(of: Int.self) { group in
                for _ in 0..<3 {
                    group.addTask {
                        var late = 0
                        for _ in 0..<200 {
                            let before = isRevoked.isSet
                            guard let admission = try? book.admit(Request(.tool("x")), by: child) else { break }
                            if before { late += 1 }
                            admission.settle()
                        }
                        return late
                    }
                }
                group.addTask {
                    _ = try? book.revoke(id, reason: "test")
                    isRevoked.set()
                    return 0
                }
                return await group.reduce(0, +)
            }
            #expect(late == 0)
        }
    }
}

extension Decision {
    /// What is reserved; nil when it is denied.
    fileprivate var reserved: Amounts? {
        if case .allow(let allowance) = self { allowance.reserved } else { nil }
    }
}

extension Mutator {
    /// One random change of a book; what is refused changes nothing.
    fileprivate mutating func change(_ book: GrantBook, _ holders: [HolderID]) throws {
        switch number(0...13) {
        case 0...1: try book.issue([limited(), limited()], to: pick(holders))
        case 2...4: _ = try? book.delegate([limited()], from: pick(holders), to: pick(holders))
        case 5:
            let all = book.snapshot().grants.map(\.id)
            if !all.isEmpty { try book.revoke(pick(all), reason: "random") }
        case 6 where chance(1, in: 3): try book.retire(pick(holders), reason: "random")
        default:
            let bytes = UInt64(number(0...5))
            let request = Request(
                .tool(pick(["x", "y"])), needs: Amounts(bytes: bytes), wants: Amounts(bytes: bytes + 3))
            guard var admission = try? book.admit(request, by: pick(holders)) else { return }
            if chance(1, in: 3) { try? admission.reserve(Amounts(bytes: 2)) }
            switch number(0...2) {
            case 0: admission.refund()
            case 1: admission.settle(used: Amounts(bytes: UInt64(number(0...9))))
            default: _ = consume admission
            }
        }
    }
}

private final class Flag: Sendable {
    private let value = Mutex(false)
    var isSet: Bool { value.withLock { $0 } }
    func set() { value.withLock { $0 = true } }
}
