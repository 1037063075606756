import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import Testing

@Suite struct FrameConnectionTests {
    private static func pair() -> (FrameConnection, FrameConnection, any ByteStream) {
        let (a, b) = BytePipe.pair()
        return (FrameConnection(a), FrameConnection(b), b)
    }

    @Test func framesArriveWholeAndInOrder() async throws {
        let (near, far, _) = Self.pair()
        let frames: [StreamFrame] = [
            .hello("{}"), StreamFrame(.stdin, payload: pattern(StreamFrame.maximumPayload)), .signal(2),
            StreamFrame(.stdin, flags: .end), .exit(0),
        ]
        async let sent: Void = {
            for frame in frames { try await near.write(frame) }
            try near.closeWrite()
        }()
        var received: [StreamFrame] = []
        while let frame = try await far.readFrame() { received.append(frame) }
        try await sent
        #expect(received == frames)
    }

    @Test func framesOfManyWritersDoNotMix() async throws {
        let (near, far, _) = Self.pair()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    for size in [1, 70_000, 3, 200_000] {
                        let bytes = [UInt8](repeating: UInt8(writer), count: size)
                        try await near.write(.stdout, bytes[...], stream: UInt16(writer))
                    }
                }
            }
            var counts = [Int](repeating: 0, count: 8)
            for _ in 0..<32 {
                let frame = try #require(try await far.readFrame())
                #expect(frame.payload.allSatisfy { $0 == UInt8(frame.stream) })
                counts[Int(frame.stream)] += frame.payload.count
            }
            #expect(counts == [Int](repeating: 270_004, count: 8))
            try await group.waitForAll()
        }
    }

    @Test func endWithinAFrameIsNotAnEnd() async throws {
        for (bytes, clean) in [([], true), ([0, 0, 0], false), ([0, 0, 0, 0, 0, 0, 0, 2, 1], false)]
            as [([UInt8], Bool)]
        {
            let (near, _, far) = Self.pair()
            try await far.write(bytes[...])
            try far.closeWrite()
            if clean {
                #expect(try await near.readFrame() == nil)
            } else {
                let error = await #expect(throws: StreamFrameError.self) { try await near.readFrame() }
                #expect(error?.code == .closed)
            }
        }
    }

    @Test func unknownFrameIsRefused() async throws {
        let (near, _, far) = Self.pair()
        try await far.write([99, 0, 0, 0, 0, 0, 0, 0])
        let error = await #expect(throws: StreamFrameError.self) { try await near.readFrame() }
        #expect(error?.code == .malformed && error?.aegisError.code == "malformed-frame")
        await #expect(throws: StreamFrameError.self) { try await near.write(.signal(0)) }
    }

    @Test func cancelledReadLosesNothing() async throws {
        let (near, far, _) = Self.pair()
        try await onLoop { loop in
            let reading = Task(executorPreference: loop) { try await far.readFrame() }
            await Task.yield()
            reading.cancel()
            let error = await #expect(throws: StreamFrameError.self) { try await reading.value }
            #expect(error?.code == .cancelled)
            try await near.write(.signal(9))
            #expect(try await far.readFrame() == .signal(9))
        }
    }

    @Test func cutFrameEndsAllWriting() async throws {
        let (near, far, _) = Self.pair()
        try await onLoop { loop in
            // More than the pipe takes, so that the write waits within a frame.
            let bytes = [UInt8](repeating: 1, count: 200_000)
            let writing = Task(executorPreference: loop) { try await near.write(.stdout, bytes[...]) }
            await Task.yield()
            let waiting = Task(executorPreference: loop) { try await near.write(.signal(1)) }
            await Task.yield()
            writing.cancel()
            await #expect(throws: StreamFrameError.self) { try await writing.value }
            let error = await #expect(throws: StreamFrameError.self) { try await waiting.value }
            #expect(error?.code == .closed)
            near.close()
            await #expect(throws: StreamFrameError.self) { try await far.readFrame() }
        }
    }
}
