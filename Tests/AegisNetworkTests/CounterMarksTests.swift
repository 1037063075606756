import Testing

@testable import AegisNetwork

/// How far the kernel's counters have been told of.
@Suite struct CounterAccountTests {
    private static func marks(_ refused: UInt64, _ arrived: UInt64) -> CounterMarks {
        CounterMarks(refused: refused, arrived: arrived)
    }
    private static let first = CounterAccount.Generation(gateway: 4, trap: 9)
    private static func reading(
        _ refused: UInt64, _ arrived: UInt64, _ generation: CounterAccount.Generation = first
    ) -> InstanceCounters.Reading {
        InstanceCounters.Reading(marks: marks(refused, arrived), generation: generation)
    }

    @Test func aFileSaysWhatWasWritten() {
        let account = CounterAccount(
            told: Self.marks(0x0102_0304_0506_0708, 3), untold: Self.marks(5, 6), generation: Self.first)
        #expect(account.bytes.prefix(17) == [2, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 3])
        #expect(account.bytes.count == 49)
        // Whatever the counters say, or if they cannot be read.
        #expect(CounterAccount(bytes: account.bytes, nil) == account)
        #expect(CounterAccount(bytes: account.bytes, Self.reading(1, 1)) == account)
    }

    @Test(arguments: [(0, 2), (15, 2), (17, 2), (48, 2), (50, 2), (49, 1), (49, 3)])
    func aFileThatIsNotWholeOrOfAnotherVersionSaysNothing(count: Int, first: Int) {
        let bytes = [UInt8(first)] + [UInt8](repeating: 1, count: count)
        #expect(CounterAccount(bytes: Array(bytes.prefix(count)), Self.reading(1, 1)) == nil)
    }

    /// It has how far was told, and nothing else: what came through while no daemon ran is known from it, too.
    @Test func aFileOfTheReleaseBeforeIsRead() {
        let bytes: [UInt8] = [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 3]
        let now = Self.reading(260, 5)
        let known = CounterAccount(bytes: bytes, now)
        #expect(known == CounterAccount(told: Self.marks(256, 3), untold: .none, generation: Self.first))
        #expect(known?.brought(to: now).untold == Self.marks(4, 2))
        // The trap's rules were loaded anew since: all that they count is new.
        let fewer = Self.reading(260, 2)
        #expect(CounterAccount(bytes: bytes, fewer)?.brought(to: fewer).untold == Self.marks(4, 2))
        // It does not say which rules have counted.
        #expect(CounterAccount(bytes: bytes, nil) == nil)
    }

    /// Every daemon that dies before it has told leaves to the next one what it has found, whether its rules were loaded or not.
    @Test func whatIsUntoldStaysSoUntilItIsTold() {
        let start = CounterAccount(told: Self.marks(100, 2), untold: .none, generation: Self.first)
        let found = start.brought(to: Self.reading(107, 2))
        #expect(found == CounterAccount(told: Self.marks(107, 2), untold: Self.marks(7, 0), generation: Self.first))
        // It died, and the rules are those of before.
        let again = found.brought(to: Self.reading(109, 3))
        #expect(again == CounterAccount(told: Self.marks(109, 3), untold: Self.marks(9, 1), generation: Self.first))
        // It died after it had loaded its own, of the gateway alone: these count from 0, however far they have come.
        let half = CounterAccount.Generation(gateway: 5, trap: 9)
        for count in [UInt64(1), 5, 108, 109, 110, 1000] {
            let next = again.brought(to: Self.reading(count, 4, half))
            #expect(next.untold == Self.marks(9 + count, 2), "\(count)")
            #expect(next.told == Self.marks(count, 4) && next.generation == half)
        }
    }

    @Test func whatWasToldBeforeItsCounterWasReadHasNotHappenedTwice() {
        let start = CounterAccount(told: Self.marks(100, 2), untold: .none, generation: Self.first)
        let found = start.brought(to: Self.reading(97, 2))
        #expect(found.untold == .none && found.told == Self.marks(100, 2))
        #expect(found.brought(to: Self.reading(101, 2)).untold == Self.marks(1, 0))
    }

    /// What is kept back for its period has not been told; refusals of the proxy's are none of the kernel's.
    @Test func refusalsThatAreKeptBackAreNotTold() {
        var tally = DenialTally()
        func take(_ reason: String) -> Bool {
            tally.take(NetworkDenial("i", "192.0.2.1", 9, reason: reason, "refused"), now: 0)
        }
        #expect(take("protocol-denied") && tally.keptRefusals == 0)
        #expect(!take("protocol-denied") && tally.keptRefusals == 1)
        #expect(take("frame-denied") && !take("frame-denied") && tally.keptRefusals == 2)
        #expect(take("capability-denied") && !take("capability-denied") && tally.keptRefusals == 2)
        _ = tally.due(now: DenialTally.period)
        #expect(tally.keptRefusals == 0)
    }

    /// Those of many places are none the less the kernel's, and not told before their number is.
    @Test func refusalsOfManyPlacesAreKeptBackUntilTheyAreTold() {
        var tally = DenialTally()
        for number in 0..<400 {
            let reason = number % 2 == 0 ? "protocol-denied" : "name-denied"
            _ = tally.take(NetworkDenial("i", "h\(number)", 9, reason: reason, "refused"), now: 0)
        }
        #expect(tally.keptRefusals == UInt64(400 - DenialTally.most) / 2)
        let due = tally.due(now: DenialTally.period)
        #expect(due.map(\.count) == [UInt64(400 - DenialTally.most)] && tally.keptRefusals == 0)
    }
}
