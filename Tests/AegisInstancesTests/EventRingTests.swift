import AegisCore
import AegisInstances
import AegisSandboxTypes
import Testing

@Suite struct EventRingTests {
    private let root = Caller(uid: 0, gid: 0)

    private func event(_ text: String, _ instance: String = "i-1") -> EventRecord {
        EventRecord(time: .now(), type: "network-denied", instance: instance, message: text)
    }

    @Test func everybodySeesTheirOwn() {
        let ring = EventRing()
        #expect(ring.events(after: 0, for: root).0.isEmpty)
        ring.post(event("mine"), owner: 1)
        ring.post(event("theirs", "i-2"), owner: 2)
        let (one, last) = ring.events(after: 0, for: Caller(uid: 1, gid: 1))
        #expect(one.map(\.message) == ["mine"] && last == 2)
        #expect(ring.events(after: 0, for: root).0.map(\.number) == [1, 2])
        #expect(ring.events(after: 0, for: root, instance: "i-2").0.map(\.message) == ["theirs"])
        #expect(ring.events(after: 1, for: root).0.map(\.message) == ["theirs"])
        #expect(ring.events(after: 2, for: root).0.isEmpty)
    }

    /// A client that goes on after what an earlier daemon told it gets all that there is, and is told that it may not be all.
    @Test func numbersOfAnEarlierDaemonLeaveAGap() {
        let ring = EventRing(after: 1000)
        for number in [1, 999, 1001, UInt64.max] {
            let (events, last) = ring.events(after: number, for: root)
            #expect(events.map(\.type) == ["gap"] && events[0].count == 0 && last == 1000, "\(number)")
        }
        for number: UInt64 in [0, 1000] { #expect(ring.events(after: number, for: root).0.isEmpty) }
        ring.post(event("one"), owner: 0)
        ring.post(event("two"), owner: 0)
        // 9000 is what one told whose clock was ahead.
        for number: UInt64 in [999, 9000] {
            let (events, last) = ring.events(after: number, for: root)
            #expect(events.map(\.number) == [0, 1001, 1002] && last == 1002)
        }
        #expect(ring.events(after: 0, for: root).0.map(\.number) == [1001, 1002])
        #expect(ring.events(after: 1001, for: root).0.map(\.number) == [1002])
        #expect(EventRing.freshStart > 1_700_000_000_000_000)
    }

    @Test func itIsBoundedAndSaysWhatIsLost() throws {
        let ring = EventRing()
        let all = EventRing.limit + EventRing.slack + 100
        for number in 1...all { ring.post(event("\(number)"), owner: 0) }
        let (kept, last) = ring.events(after: 0, for: root)
        #expect((EventRing.limit...EventRing.limit + EventRing.slack).contains(kept.count) && last == UInt64(all))
        let first = try #require(kept.first?.number)
        #expect(first == UInt64(all - kept.count + 1))
        let (behind, _) = ring.events(after: 50, for: root)
        #expect(behind.first?.type == "gap" && behind.first?.count == first - 51 && behind.dropFirst() == kept[...])
        #expect(ring.events(after: first - 1, for: root).0 == kept)
        #expect(ring.events(after: UInt64(all) - 1, for: root).0.map(\.message) == ["\(all)"])
    }

    /// An instance that makes more events than are kept loses its own, not those of others.
    @Test func aFloodPushesNobodyOut() {
        let ring = EventRing()
        for number in 1...5 { ring.post(event("calm \(number)", "i-calm"), owner: 0) }
        for number in 1...3 { ring.post(event("theirs \(number)", "i-theirs"), owner: 7) }
        // Not those of another user either, with however many instances.
        for number in 1...50_000 { ring.post(event("loud", "i-loud\(number % 400)"), owner: 0) }
        #expect(ring.events(after: 0, for: root, instance: "i-calm").0.map(\.message) == (1...5).map { "calm \($0)" })
        let theirs = ring.events(after: 0, for: Caller(uid: 7, gid: 7)).0
        #expect(theirs.map(\.message) == (1...3).map { "theirs \($0)" })
        // Nothing of theirs was lost, so there is no gap for them; there is one for whoever flooded.
        #expect(ring.events(after: 8, for: Caller(uid: 7, gid: 7)).0.isEmpty)
        #expect(!ring.events(after: 1, for: root, instance: "i-calm").0.contains { $0.type == "gap" })
        let loud = ring.events(after: 8, for: root, instance: "i-loud1").0
        #expect(loud.first?.type == "gap" && loud.count > 5)
        #expect(ring.events(after: 0, for: root).0.count <= EventRing.limit + EventRing.slack)
    }

    /// More sources have lost something than are known apart: whose it was is known all the same.
    @Test func whatOthersHaveLostIsNoGapOfMine() {
        let ring = EventRing()
        ring.post(event("mine", "i-mine"), owner: 7)
        for number in 1...60_000 { ring.post(event("loud", "i-loud\(number % 5000)"), owner: 1) }
        #expect(ring.events(after: 0, for: Caller(uid: 7, gid: 7)).0.map(\.message) == ["mine"])
        #expect(ring.events(after: 1, for: Caller(uid: 7, gid: 7)).0.isEmpty)
        #expect(ring.events(after: 1, for: Caller(uid: 1, gid: 1)).0.first?.type == "gap")
    }

    /// As many sources as there is room: the oldest go first.
    @Test func amongEqualsTheOldestGo() {
        let ring = EventRing()
        let all = EventRing.limit + EventRing.slack + 1
        for number in 1...all { ring.post(event("\(number)", "i-\(number)"), owner: 0) }
        let kept = ring.events(after: 0, for: root).0
        #expect(kept.count == EventRing.limit && kept.first?.message == "\(all - EventRing.limit + 1)")
        let behind = ring.events(after: 1, for: root).0
        #expect(behind.first?.type == "gap" && behind.first?.count == UInt64(EventRing.slack))
    }

    @Test func whoFollowsIsWoken() async {
        let ring = EventRing()
        async let woken: Void = ring.wait(after: 0)
        ring.post(event("now"), owner: 0)
        await woken
        #expect(ring.events(after: 0, for: root).1 == 1)
        let waiting = Task { await ring.wait(after: 1) }
        waiting.cancel()
        await waiting.value
    }
}
