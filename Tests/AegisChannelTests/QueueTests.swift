import AegisChannel
import AegisTestSupport
import Testing

@Suite struct ByteQueueTests {
    @Test func bytesLeaveInTheOrderInWhichTheyCame() {
        var queue = ByteQueue()
        var model: [UInt8] = []
        var generator = Mutator(seed: 7)
        var next: UInt8 = 0
        for _ in 0..<5000 {
            if Bool.random(using: &generator) {
                let count = Int.random(in: 0...300, using: &generator)
                let bytes = (0..<count).map { next &+ UInt8(truncatingIfNeeded: $0) }
                next = next &+ UInt8(truncatingIfNeeded: count)
                queue.append(bytes)
                model += bytes
            } else {
                let count = Int.random(in: 0...400, using: &generator)
                queue.consume(count)
                model.removeFirst(min(count, model.count))
            }
            #expect(queue.count == model.count)
            if let first = model.first { #expect(queue[0] == first) }
        }
        #expect(queue.bytes(at: 0, count: queue.count) == model)
    }

    @Test func fillTakesWhatTheBodyWrote() {
        var queue = ByteQueue()
        let count = unsafe queue.fill(10) { room in
            unsafe room.copyBytes(from: [1, 2, 3])
            return 3
        }
        #expect(count == 3 && queue.bytes(at: 0, count: 3) == [1, 2, 3])
        let failed = unsafe queue.fill(10) { _ in -11 }
        #expect(failed == -11)
        #expect(queue.count == 3)
        queue.overwrite(at: 1, with: [9])
        queue.dropLast(1)
        #expect(queue.bytes(at: 0, count: 2) == [1, 9])
    }

    @Test func memoryGoesBackOnlyWhenNothingIsHeld() {
        var queue = ByteQueue()
        queue.append([UInt8](repeating: 1, count: 100_000))
        queue.shrink()
        #expect(queue.capacity >= 100_000)
        queue.consume(100_000)
        queue.shrink()
        #expect(queue.capacity == 0)
    }

    @Test func framesAreFoundWhenTheyAreWhole() throws {
        var whole = ByteQueue()
        whole.appendDataHeader(.stdout, flags: 1, stream: 7, offset: 1 << 40, count: 2)
        whole.append([5, 6])
        whole.appendFrame(.health, [1])
        let bytes = whole.bytes(at: 0, count: whole.count)
        var queue = ByteQueue()
        var seen: [FrameType] = []
        for byte in bytes {
            queue.append(byte)
            while let header = try queue.frame() {
                seen.append(header.type)
                if header.type == .stdout {
                    #expect(queue.dataOffset() == 1 << 40)
                    #expect(unsafe queue.withData(of: header) { unsafe Array($0) } == [5, 6])
                }
                queue.consumeFrame(header)
            }
        }
        #expect(seen == [.stdout, .health])
        #expect(queue.isEmpty)
    }
}

@Suite struct RetentionRingTests {
    @Test func everyOffsetThatIsHeldReadsBack() {
        var ring = RetentionRing()
        var generator = Mutator(seed: 3)
        func byte(_ offset: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: offset &* 2_654_435_761 >> 13) }
        for _ in 0..<500 {
            let count = Int.random(in: 0...min(9000, ring.room), using: &generator)
            let bytes = (0..<count).map { byte(ring.end + UInt64($0)) }
            let fits = unsafe bytes.withUnsafeBytes { unsafe ring.append($0) }
            #expect(fits)
            let from = UInt64.random(in: ring.start...ring.end, using: &generator)
            var out = ByteQueue()
            let copied = ring.copy(from: from, atMost: 500, to: &out)
            #expect(copied == min(500, Int(ring.end - from)))
            #expect((0..<copied).allSatisfy { out[$0] == byte(from + UInt64($0)) })
            let kept = UInt64.random(in: ring.start...ring.end, using: &generator)
            if Bool.random(using: &generator) {
                let known = ring.acknowledge(kept)
                #expect(known)
            }
            if ring.count == 0 { ring.shrink() }
        }
    }

    @Test func theWindowIsTheLimit() {
        var ring = RetentionRing()
        let window = [UInt8](repeating: 1, count: Int(Channel.window))
        let fits = unsafe window.withUnsafeBytes { unsafe ring.append($0) }
        let oneMore = unsafe [UInt8(1)].withUnsafeBytes { unsafe ring.append($0) }
        #expect(fits && !oneMore)
        #expect(ring.capacity == Int(Channel.window))
        let answers = [Channel.window + 1, 10, 3].map { ring.acknowledge($0) }
        // Bytes that never were here; some; and an older offset, which changes nothing.
        #expect(answers == [false, true, true])
        #expect(ring.start == 10 && ring.room == 10)
    }
}
