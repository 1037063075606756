import AegisCore
import AegisWire
import Testing

@Suite struct StreamFrameTests {
    static let vectors: [(StreamFrame, [UInt8])] = [
        (StreamFrame(.stdin, payload: [104, 105]), [0, 0, 0, 0, 0, 0, 0, 2, 104, 105]),
        (StreamFrame(.stdin, stream: 0x0102, flags: .end), [0, 1, 1, 2, 0, 0, 0, 0]),
        (StreamFrame(.stdout, payload: [0xff]), [1, 0, 0, 0, 0, 0, 0, 1, 0xff]),
        (StreamFrame(.stderr, flags: .end), [2, 1, 0, 0, 0, 0, 0, 0]),
        (.resize(rows: 24, columns: 300), [3, 0, 0, 0, 0, 0, 0, 4, 0, 24, 1, 44]),
        (.signal(15, stream: 7), [4, 0, 0, 7, 0, 0, 0, 1, 15]),
        (.exit(-1), [5, 0, 0, 0, 0, 0, 0, 4, 255, 255, 255, 255]),
        (.exit(137, detail: "{}"), [5, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 137, 123, 125]),
        (.window(262_144, of: .stdin), [7, 0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 0]),
        (.window(1, of: .stderr), [7, 4, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1]),
        (.ack(1 << 40 | 5, of: .stdout), [8, 2, 0, 0, 0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 0, 5]),
        (.hello("{}"), [9, 0, 0, 0, 0, 0, 0, 2, 123, 125]),
    ]

    @Test(arguments: vectors) func frameHasItsBytes(_ frame: StreamFrame, _ bytes: [UInt8]) throws {
        #expect(try frame.encoded() == bytes)
        var decoder = StreamFrameDecoder()
        var cursor = 0
        #expect(try decoder.frame(bytes.span, &cursor) == frame)
        #expect(cursor == bytes.count && decoder.isBetweenFrames)
    }

    @Test func valuesReadBack() {
        #expect(StreamFrame.resize(rows: 1, columns: 65535).size.map { [$0.rows, $0.columns] } == [1, 65535])
        #expect(StreamFrame.signal(9).signalNumber == 9)
        #expect(StreamFrame.exit(-3, detail: "x").exitStatus == -3 && StreamFrame.exit(0, detail: "x").text == "x")
        #expect(StreamFrame.window(77, of: .stdout).credit == 77)
        #expect(StreamFrame.window(77, of: .stdout).flags.subject == .stdout)
        #expect(StreamFrame.ack(.max, of: .stderr).offset == .max)
        let error = StreamFrame.error(.notFound("no-instance", "no instance 'x'"))
        #expect(error.text == "{\"error\":{\"code\":\"no-instance\",\"message\":\"no instance 'x'\"}}\n")
        #expect(StreamFrame.signal(9).size == nil && StreamFrame.signal(9).exitStatus == nil)
    }

    @Test func framesAreTheSameHoweverTheyAreSplit() throws {
        let bytes = try Self.vectors.flatMap { try $0.0.encoded() }
        for pieces in splits(bytes) {
            var decoder = StreamFrameDecoder()
            var pending: [UInt8] = []
            var found: [StreamFrame] = []
            for piece in pieces {
                pending += piece
                var cursor = 0
                while let frame = try decoder.frame(pending.span, &cursor) { found.append(frame) }
                pending.removeFirst(cursor)
            }
            #expect(found == Self.vectors.map(\.0) && pending.isEmpty && decoder.isBetweenFrames)
        }
    }

    static let refused: [[UInt8]] = [
        [10, 0, 0, 0, 0, 0, 0, 0], [255, 0, 0, 0, 0, 0, 0, 0],
        [0, 2, 0, 0, 0, 0, 0, 0], [3, 1, 0, 0, 0, 0, 0, 4], [7, 1, 0, 0, 0, 0, 0, 4], [7, 6, 0, 0, 0, 0, 0, 4],
        [0, 0, 0, 0, 0, 4, 0, 1], [0, 0, 0, 0, 255, 255, 255, 255],
        [3, 0, 0, 0, 0, 0, 0, 5], [4, 0, 0, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 3], [5, 0, 0, 0, 0, 1, 0, 5],
        [6, 0, 0, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 8], [8, 0, 0, 0, 0, 0, 0, 4], [9, 0, 0, 0, 0, 1, 0, 1],
        [4, 0, 0, 0, 0, 0, 0, 1, 0], [4, 0, 0, 0, 0, 0, 0, 1, 65],
    ]
    @Test(arguments: refused) func whatVersionOneDoesNotDefineIsRefusedForGood(_ bytes: [UInt8]) {
        var decoder = StreamFrameDecoder()
        var cursor = 0
        #expect(throws: StreamFrameError.self) { try decoder.frame(bytes.span, &cursor) }
        let good: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0]
        cursor = 0
        #expect(throws: StreamFrameError.self) { try decoder.frame(good.span, &cursor) }
        #expect(!decoder.isBetweenFrames)
    }

    @Test func largestPayloadFitsAndOneMoreDoesNot() throws {
        let largest = StreamFrame(.stdout, payload: [UInt8](repeating: 1, count: StreamFrame.maximumPayload))
        #expect(try largest.encoded().count == StreamFrame.maximumPayload + 8)
        var larger = largest
        larger.payload.append(1)
        #expect(throws: StreamFrameError.self) { try larger.encoded() }
    }

    @Test func onlyOurVersionIsNegotiated() {
        #expect(StreamProtocol.negotiate(["Upgrade": "websocket, aegis-stream/2, Aegis-Stream/1"]) == "aegis-stream/1")
        #expect(StreamProtocol.negotiate(["Upgrade": "aegis-stream/2"]) == nil)
        #expect(StreamProtocol.negotiate([:]) == nil)
    }
}

@Suite struct CreditWindowTests {
    @Test func senderNeverExceedsTheWindow() throws {
        var sender = CreditWindow.Sender(capacity: 10)
        #expect(sender.take(atMost: 4) == 4 && sender.take(atMost: 100) == 6 && sender.take(atMost: 1) == 0)
        try sender.grant(3)
        #expect(sender.available == 3 && sender.take(atMost: -1) == 0)
        #expect(throws: StreamFrameError.self) { try sender.grant(8) }
        #expect(throws: StreamFrameError.self) { try sender.grant(0) }
        #expect(throws: StreamFrameError.self) { try sender.grant(.max) }
        #expect(sender.available == 3)
    }

    @Test func receiverRefusesWhatItDidNotGrantAndGrantsByHalves() throws {
        var receiver = CreditWindow.Receiver(capacity: 10)
        try receiver.received(10)
        #expect(receiver.open == 0 && receiver.buffered == 10)
        #expect(throws: StreamFrameError.self) { try receiver.received(1) }
        #expect(receiver.consumed(4) == nil && receiver.consumed(1) == 5)
        #expect(receiver.open == 5 && receiver.buffered == 5)
        try receiver.received(5)
        #expect(receiver.consumed(10) == 10 && receiver.open == 10)
    }

    @Test(arguments: [1, 2, 7, 100_000, 300_000]) func bothEndsAgreeAndNothingGetsStuck(_ step: Int) throws {
        var sender = CreditWindow.Sender()
        var receiver = CreditWindow.Receiver()
        var sent = 0
        while sent < 1_000_000 {
            let count = sender.take(atMost: step)
            #expect(count > 0)
            if count == 0 { return }
            try receiver.received(count)
            sent += count
            if let credit = receiver.consumed(count) { try sender.grant(credit) }
            #expect(sender.available <= receiver.open + receiver.owed)
            if sent > 200_000, step < 10 { break }
        }
    }
}
