import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import LinuxSys
import Synchronization
import Testing

@testable import AegisClient

/// Sessions against a scripted daemon on a Unix socket: the script is one closure per connection.
@Suite struct ProcessSessionTests {
    /// What one connection to the daemon asked for, and the frames it speaks.
    struct Peer: Sendable {
        let stream: any ByteStream
        let frames: FrameConnection
        let offsets: StreamOffsets?
        let again: Bool

        func hello(_ offsets: StreamOffsets = StreamOffsets()) async throws {
            try await frames.write(
                .hello(
                    #"{"process":"p1","stdin_offset":\#(offsets.stdin),"stdout_offset":\#(offsets.stdout),"stderr_offset":\#(offsets.stderr)}"#
                ))
        }
        func out(_ text: String) async throws { try await frames.write(.stdout, Array(text.utf8)[...]) }

        /// Stdin until its end.
        func input() async throws -> String {
            var all: [UInt8] = []
            while let frame = try await frames.readFrame() {
                guard frame.kind == .stdin else { continue }
                all += frame.payload
                if frame.flags.contains(.end) { break }
            }
            return String(decoding: all, as: UTF8.self)
        }
    }
    /// What connections were opened with, in order.
    final class Asked: Sendable { let list = Mutex<[(StreamOffsets?, Bool)]>([]) }
    typealias Script = @Sendable (Peer) async throws -> Void

    struct Outcome: Sendable {
        var exit: StreamExit?
        var failure: (any Error)?
        var out: String
        var err: String
    }

    /// Runs a session whose connections are served by the scripts, one after the other.
    func session(
        _ scripts: [Script], input: (any ByteStream)? = nil,
        out make: (@Sendable (EventLoop) throws -> any ByteStream)? = nil,
        clock: (any Clock<Duration>)? = nil,
        joinsLive: Bool = false, detachKeys: Bool = false,
        during: @escaping @Sendable (ProcessSession) async throws -> Void = { _ in }
    ) async throws -> Outcome {
        let directory = try TemporaryDirectory()
        let path = directory.path("s")
        return try await onLoop { loop in
            let listener = try Listener.unix(path: path, on: loop)
            let asked = Asked()
            let out = BytePipe(capacity: 64 << 20)
            let err = BytePipe(capacity: 1 << 20)
            let streams = ProcessSession.Streams(input: input, out: try make?(loop) ?? out, err: err)
            let session = ProcessSession(
                streams, joinsLive: joinsLive, detachKeys: detachKeys, clock: clock ?? loop.clock
            ) { offsets, again in
                asked.list.withLock { $0.append((offsets, again)) }
                do throws(IOError) { return try await Connect.unix(path: path, on: loop) } catch {
                    throw AegisError(.daemonNotRunning, "daemon-not-running", "\(error)")
                }
            }
            var outcome = Outcome(out: "", err: "")
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for (index, script) in scripts.enumerated() {
                        let stream = try await listener.accept()
                        let (offsets, again) = asked.list.withLock { $0[index] }
                        let frames = FrameConnection(stream)
                        try await script(Peer(stream: stream, frames: frames, offsets: offsets, again: again))
                        stream.close()
                    }
                    listener.close()
                    try? Files.removeFile(path)
                }
                group.addTask { try await during(session) }
                do { outcome.exit = try await session.run() } catch { outcome.failure = error }
                try await group.waitForAll()
            }
            try out.closeWrite()
            try err.closeWrite()
            outcome.out = String(decoding: try await out.readAll(limit: 64 << 20), as: UTF8.self)
            outcome.err = String(decoding: try await err.readAll(limit: 1 << 20), as: UTF8.self)
            return outcome
        }
    }

    /// A stream that has this text and then ends.
    func source(_ text: String) async throws -> any ByteStream {
        let pipe = BytePipe(capacity: max(1, text.utf8.count))
        try await pipe.write(text)
        try pipe.closeWrite()
        return pipe
    }

    @Test func outputAndExitCodeComeThrough() async throws {
        let outcome = try await session([
            { peer in
                #expect(peer.offsets == StreamOffsets())
                try await peer.hello()
                try await peer.out("one ")
                try await peer.frames.write(.stderr, Array("problem".utf8)[...])
                try await peer.out("two")
                try await peer.frames.write(.exit(3))
            }
        ])
        #expect(outcome.exit == StreamExit(code: 3))
        #expect(outcome.out == "one two" && outcome.err == "problem")
    }

    @Test func everyByteValueComesThrough() async throws {
        let all = (0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let pipe = BytePipe(capacity: 1 << 20)
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    try await peer.frames.write(.stdout, all[...])
                    try await peer.frames.write(.exit(0))
                }
            ], out: { _ in pipe })
        #expect(outcome.exit?.code == 0)
        try pipe.closeWrite()
        #expect(try await pipe.readAll(limit: 1 << 20) == all)
    }

    @Test func inputArrivesWithItsEnd() async throws {
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    #expect(try await peer.input() == "to the process\n")
                    try await peer.frames.write(.exit(0))
                }
            ], input: try await source("to the process\n"))
        #expect(outcome.exit?.code == 0)
    }

    @Test func anExitBeforeTheEndOfInputEndsTheSession() async throws {
        // A pipe that never ends: the process does not wait for it, so we do not.
        let endless = BytePipe()
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    try await peer.frames.write(.exit(7))
                }
            ], input: endless)
        #expect(outcome.exit?.code == 7)
    }

    @Test func inputWaitsForCredit() async throws {
        let text = String(repeating: "a", count: 300 << 10)
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    var count = 0
                    while count < 256 << 10 { count += try await peer.frames.readFrame()?.payload.count ?? 0 }
                    #expect(count == 256 << 10)
                    // Nothing more may come before credit does: a signal sent now would be the next frame.
                    try await peer.frames.write(.window(256 << 10, of: .stdin))
                    while let frame = try await peer.frames.readFrame() {
                        count += frame.payload.count
                        if frame.flags.contains(.end) { break }
                    }
                    #expect(count == 300 << 10)
                    try await peer.frames.write(.exit(0))
                }
            ], input: try await source(text))
        #expect(outcome.exit?.code == 0)
    }

    @Test func aBrokenConnectionGoesOnAtTheExactByte() async throws {
        let outcome = try await session([
            { peer in
                try await peer.hello()
                try await peer.out("first half, ")
            },
            { peer in
                #expect(peer.offsets == StreamOffsets(stdout: 12) && peer.again)
                try await peer.hello(StreamOffsets(stdout: 12))
                try await peer.out("second half")
                try await peer.frames.write(.exit(5))
            },
        ])
        #expect(outcome.out == "first half, second half" && outcome.exit?.code == 5)
    }

    @Test func aConnectionCutInsideAFrameLosesAndDoublesNothing() async throws {
        let outcome = try await session([
            { peer in
                try await peer.hello()
                try await peer.out("abc")
                // Half a frame: a header for ten bytes with four of them.
                let frame = try StreamFrame(.stdout, payload: Array("0123456789".utf8)).encoded()
                try await peer.stream.write(frame.prefix(12))
            },
            { peer in
                #expect(peer.offsets?.stdout == 3)
                try await peer.hello(StreamOffsets(stdout: 3))
                try await peer.out("0123456789")
                try await peer.frames.write(.exit(0))
            },
        ])
        #expect(outcome.out == "abc0123456789")
    }

    @Test func inputIsSentAgainFromWhereTheDaemonIs() async throws {
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    var count = 0
                    while count < 10 { count += try await peer.frames.readFrame()?.payload.count ?? 0 }
                },
                { peer in
                    try await peer.hello(StreamOffsets(stdin: 4))
                    #expect(try await peer.input() == "456789")
                    try await peer.frames.write(.exit(0))
                },
            ], input: try await source("0123456789"))
        #expect(outcome.exit?.code == 0)
    }

    @Test func aDaemonThatStaysAwayIsGivenUpAfterThirtySeconds() async throws {
        let clock = TestClock()
        let outcome = try await session(
            [{ peer in try await peer.hello() }], clock: clock,
            during: { _ in
                // Each attempt sleeps 100 ms: 300 of them are the patience.
                for _ in 0..<300 {
                    await clock.sleepers(1)
                    clock.advance(by: .milliseconds(100))
                }
            })
        #expect((outcome.failure as? AegisError)?.code == "connection-lost")
        #expect(clock.now.offset == .seconds(30))
    }

    @Test func anErrorFrameIsThrown() async throws {
        let outcome = try await session([
            { peer in
                try await peer.frames.write(.notice(#"{"kind":"pull","text":"layer"}"#))
                try await peer.frames.write(.error(.notFound("image-not-found", "no such image", hint: "look")))
            }
        ])
        #expect(outcome.failure as? AegisError == AegisError(.failed, "image-not-found", "no such image", hint: "look"))
    }

    @Test func aDaemonThatBreaksTheProtocolIsAnError() async throws {
        let outcome = try await session([{ peer in try await peer.out("before hello") }])
        #expect((outcome.failure as? AegisError)?.code == "protocol-error")
    }

    @Test func aStalledReaderStopsTheSenderAndNotStderr() async throws {
        let narrow = BytePipe(capacity: 1024)
        let errCame = Signal()
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    try await peer.frames.write(.stdout, [UInt8](repeating: 65, count: 256 << 10)[...])
                    try await peer.frames.write(.stderr, Array("still here".utf8)[...])
                    errCame.set()
                    // No credit has come: the next frame is the window after the reader woke.
                    let window = try await peer.frames.readFrame()
                    #expect(window?.kind == .window && window?.flags.subject == .stdout)
                    #expect(try await peer.frames.readFrame()?.offset.map { $0 >= 128 << 10 } == true)
                    try await peer.frames.write(.exit(0))
                }
            ], out: { _ in narrow },
            during: { _ in
                await errCame.wait()
                var buffer = ByteBuffer()
                var count = 0
                while count < 256 << 10 {
                    count += try await narrow.read(into: &buffer, atMost: 64 << 10)
                    buffer.removeAll()
                }
            })
        #expect(outcome.exit?.code == 0 && outcome.err == "still here")
    }

    @Test func aReaderThatIsGoneEndsTheSession() async throws {
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    try await peer.out("y\n")
                    // The session ends and closes; whatever it still sends is none of our business.
                    while (try? await peer.frames.readFrame()) != nil {}
                }
            ],
            out: { loop in
                var pipe = try DescriptorPair.pipe()
                _ = pipe.takeFirst()
                return try FileStream(pipe.takeSecond(), on: loop)
            })
        #expect(outcome.failure is OutputClosed)
    }

    @Test func signalsAndSizesReachTheProcess() async throws {
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    var frames: [StreamFrame] = []
                    while frames.count < 2, let frame = try await peer.frames.readFrame() { frames.append(frame) }
                    #expect(frames == [.resize(rows: 24, columns: 80), .signal(15)])
                    try await peer.frames.write(.exit(143))
                }
            ],
            during: { session in
                session.resize(rows: 24, columns: 80)
                session.signal(15)
            })
        #expect(outcome.exit?.code == 143)
    }

    @Test func detachKeysLeaveTheProcess() async throws {
        let keys = BytePipe()
        try await keys.write([97, 0x10, 0x11])
        let outcome = try await session(
            [
                { peer in
                    try await peer.hello()
                    while (try? await peer.frames.readFrame()) != nil {}
                }
            ], input: keys, joinsLive: true, detachKeys: true)
        #expect(outcome.failure is Detached)
    }
}
