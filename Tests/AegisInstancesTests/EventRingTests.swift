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
        // A client goes on after what an earlier daemon told it.
        for number in [0, 1, 99, UInt64.max] { #expect(ring.events(after: number, for: root).0.isEmpty) }
        ring.post(event("mine"), owner: 1)
        ring.post(event("theirs", "i-2"), owner: 2)
        let (one, last) = ring.events(after: 0, for: Caller(uid: 1, gid: 1))
        #expect(one.map(\.message) == ["mine"] && last == 2)
        #expect(ring.events(after: 0, for: root).0.map(\.number) == [1, 2])
        #expect(ring.events(after: 0, for: root, instance: "i-2").0.map(\.message) == ["theirs"])
        #expect(ring.events(after: 1, for: root).0.map(\.message) == ["theirs"])
        #expect(ring.events(after: 2, for: root).0.isEmpty && ring.events(after: 99, for: root).0.isEmpty)
    }

    @Test func itIsBoundedAndSaysWhatIsLost() {
        let ring = EventRing()
        let all = EventRing.limit + 100
        for number in 1...all { ring.post(event("\(number)"), owner: 0) }
        let (kept, last) = ring.events(after: 0, for: root)
        #expect(kept.count == EventRing.limit && kept.first?.message == "101" && last == UInt64(all))
        let (behind, _) = ring.events(after: 50, for: root)
        #expect(behind.first?.type == "gap" && behind.first?.count == 50 && behind.dropFirst().first?.number == 101)
        #expect(ring.events(after: 100, for: root).0.first?.number == 101)
        #expect(ring.events(after: UInt64(all) - 1, for: root).0.map(\.message) == ["\(all)"])
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
