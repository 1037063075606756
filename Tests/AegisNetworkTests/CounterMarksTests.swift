import Testing

@testable import AegisNetwork

@Suite struct CounterMarksTests {
    @Test func aFileSaysWhatWasWritten() {
        let marks = CounterMarks(refused: 0x0102_0304_0506_0708, arrived: 3)
        #expect(marks.bytes == [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 3])
        #expect(CounterMarks(bytes: marks.bytes) == marks)
    }

    @Test(arguments: [0, 8, 15, 17]) func aFileThatIsNotWholeSaysNothing(count: Int) {
        #expect(CounterMarks(bytes: [UInt8](repeating: 1, count: count)) == nil)
    }

    @Test func countersThatWereMadeAnewSayWhatTheyCount() {
        let told = CounterMarks(refused: 100, arrived: 2)
        #expect(CounterMarks(refused: 107, arrived: 2).beyond(told) == CounterMarks(refused: 7, arrived: 0))
        #expect(CounterMarks(refused: 4, arrived: 1).beyond(told) == CounterMarks(refused: 4, arrived: 1))
        // What was told of before its counter was read has not happened twice; who has arrived is never passed over.
        #expect(CounterMarks(refused: 97, arrived: 2).beyond(told) == CounterMarks(refused: 0, arrived: 0))
        #expect(CounterMarks(refused: 1, arrived: 1).beyond(CounterMarks(refused: 2, arrived: 3)).arrived == 1)
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
}
