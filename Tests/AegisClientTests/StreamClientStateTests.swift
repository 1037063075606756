import AegisCore
import AegisWire
import Testing

@testable import AegisClient

@Suite struct StreamClientStateTests {
    private func hello(stdin: UInt64 = 0, stdout: UInt64 = 0, stderr: UInt64 = 0) -> StreamFrame {
        .hello(#"{"process":"p1","stdin_offset":\#(stdin),"stdout_offset":\#(stdout),"stderr_offset":\#(stderr)}"#)
    }
    private func bytes(_ count: Int, _ byte: UInt8 = 120) -> [UInt8] { [UInt8](repeating: byte, count: count) }
    private func out(_ text: String) -> StreamFrame { StreamFrame(.stdout, payload: Array(text.utf8)) }
    private func text(_ event: StreamClientState.Event) -> String? {
        guard case .output(_, let bytes) = event else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    @Test func helloStartsAndOutputFollows() throws {
        var state = StreamClientState()
        #expect(state.resume == StreamOffsets() && !state.hasStarted)
        #expect(try state.receive(hello()) == .started)
        #expect(state.hasStarted)
        #expect(text(try state.receive(out("abc"))) == "abc")
        #expect(state.resume == StreamOffsets(stdout: 3))
    }

    @Test func outputBeforeHelloAndTwoHellosAreRefused() throws {
        var state = StreamClientState()
        #expect(throws: StreamFrameError.self) { try state.receive(out("a")) }
        _ = try state.receive(hello())
        #expect(throws: StreamFrameError.self) { try state.receive(hello()) }
    }

    @Test(arguments: [StreamFrame(.stdin), .resize(rows: 1, columns: 1), .signal(2), .hello("nonsense")])
    func framesThatADaemonNeverSendsAreRefused(_ frame: StreamFrame) {
        var state = StreamClientState()
        #expect(throws: StreamFrameError.self) { try state.receive(frame) }
    }

    @Test func creditAndAcknowledgementComeAfterHalfAWindowWasWritten() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        _ = try state.receive(StreamFrame(.stdout, payload: bytes(200 << 10)))
        state.consumed(.stdout, 100 << 10)
        #expect(state.takeFrames().isEmpty)
        state.consumed(.stdout, 100 << 10)
        #expect(state.takeFrames() == [.window(200 << 10, of: .stdout), .ack(200 << 10, of: .stdout)])
    }

    @Test func moreThanTheWindowIsRefused() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        _ = try state.receive(StreamFrame(.stderr, payload: bytes(256 << 10)))
        #expect(throws: StreamFrameError.self) { try state.receive(StreamFrame(.stderr, payload: bytes(1))) }
    }

    @Test func inputGoesOutWithinCreditAndIsKeptUntilAcknowledged() throws {
        var state = StreamClientState()
        #expect(state.stdinRoom == 0)
        _ = try state.receive(hello())
        #expect(state.stdinRoom == 256 << 10)
        state.input(bytes(256 << 10)[...])
        #expect(state.takeFrames().map(\.payload.count) == [256 << 10])
        #expect(state.stdinRoom == 0)
        #expect(try state.receive(.ack(1000, of: .stdin)) == .nothing)
        #expect(state.resume?.stdin == 1000)
        #expect(try state.receive(.window(128 << 10, of: .stdin)) == .room)
        #expect(state.stdinRoom == 128 << 10)
        state.endInput()
        #expect(state.takeFrames() == [StreamFrame(.stdin, flags: .end)])
        #expect(state.takeFrames().isEmpty)
    }

    @Test func inputThatIsNeverAcknowledgedIsKeptForTwoWindowsOnly() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        for _ in 0..<64 {
            state.input(bytes(128 << 10)[...])
            #expect(state.takeFrames().map(\.payload.count) == [128 << 10])
            #expect(try state.receive(.window(128 << 10, of: .stdin)) == .room)
        }
        #expect(state.resume?.stdin == 64 * (128 << 10) - (512 << 10))
        #expect(try state.receive(.window(0, of: .stdin)) == .nothing)
    }

    @Test func anAcknowledgementOfForgottenInputChangesNothing() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        for _ in 0..<8 {
            state.input(bytes(128 << 10)[...])
            _ = state.takeFrames()
            _ = try state.receive(.window(128 << 10, of: .stdin))
        }
        let base: UInt64 = 8 * (128 << 10) - (512 << 10)
        #expect(state.resume?.stdin == base)
        for late in [0, 1, base - 1, base] as [UInt64] {
            #expect(try state.receive(.ack(late, of: .stdin)) == .nothing)
            #expect(state.resume?.stdin == base)
        }
        // Those that come after it count as ever, and what was not sent is not acknowledged.
        #expect(try state.receive(.ack(base + 1000, of: .stdin)) == .nothing)
        #expect(state.resume?.stdin == base + 1000)
        #expect(throws: StreamFrameError.self) { try state.receive(.ack(8 * (128 << 10) + 1, of: .stdin)) }
    }

    @Test func acknowledgingUnsentInputIsRefused() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        #expect(throws: StreamFrameError.self) { try state.receive(.ack(1, of: .stdin)) }
    }

    @Test func aResumedStreamGoesOnAtTheExactByte() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        _ = try state.receive(out("hello "))
        state.input(Array("0123456789".utf8)[...])
        _ = state.takeFrames()
        _ = try state.receive(.ack(2, of: .stdin))
        state.endInput()
        _ = state.takeFrames()
        state.disconnected()
        #expect(state.takeFrames().isEmpty && state.stdinRoom == 0)
        #expect(state.resume == StreamOffsets(stdin: 2, stdout: 6))
        // The daemon has five bytes of input, and begins two bytes of output too early.
        #expect(try state.receive(hello(stdin: 5, stdout: 4)) == .started)
        #expect(
            state.takeFrames() == [StreamFrame(.stdin, payload: Array("56789".utf8)), StreamFrame(.stdin, flags: .end)])
        #expect(text(try state.receive(out("o world"))) == "world")
        #expect(state.lost == 0)
        #expect(state.resume?.stdout == 11)
    }

    @Test func aRepeatedFrameThatIsAllKnownPrintsNothing() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        _ = try state.receive(out("abcdef"))
        state.disconnected()
        _ = try state.receive(hello(stdout: 0))
        #expect(try state.receive(out("abc")) == .nothing)
        #expect(text(try state.receive(out("defg"))) == "g")
    }

    @Test func missingOutputIsCounted() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        state.disconnected()
        _ = try state.receive(hello(stdout: 100, stderr: 1))
        #expect(state.lost == 101)
    }

    @Test func inputThatTheDaemonCannotNameIsRefused() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        state.input(bytes(10)[...])
        _ = state.takeFrames()
        _ = try state.receive(.ack(8, of: .stdin))
        state.disconnected()
        #expect(throws: StreamFrameError.self) { try state.receive(hello(stdin: 7)) }
        var other = state
        #expect(throws: StreamFrameError.self) { try other.receive(hello(stdin: 11)) }
    }

    @Test func bytesFromAnEarlierConnectionGrantNoCreditOnTheNext() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        _ = try state.receive(StreamFrame(.stdout, payload: bytes(200 << 10)))
        state.disconnected()
        _ = try state.receive(hello(stdout: 200 << 10))
        _ = try state.receive(StreamFrame(.stdout, payload: bytes(256 << 10)))
        state.consumed(.stdout, 200 << 10)
        #expect(state.takeFrames().isEmpty)
        state.consumed(.stdout, 256 << 10)
        #expect(state.takeFrames() == [.window(256 << 10, of: .stdout), .ack(456 << 10, of: .stdout)])
    }

    @Test func joiningLiveTakesTheDaemonsOffsets() throws {
        var state = StreamClientState(joinsLive: true)
        #expect(state.resume == nil)
        _ = try state.receive(
            .hello(#"{"process":"p","tty":true,"stdout_offset":1000,"stderr_offset":5,"stdin_offset":7}"#))
        #expect(state.hasTerminal && state.lost == 0)
        _ = try state.receive(out("abc"))
        #expect(state.resume == StreamOffsets(stdin: 7, stdout: 1003, stderr: 5))
    }

    @Test func exitCarriesCodeReasonAndError() throws {
        var state = StreamClientState()
        _ = try state.receive(hello())
        let detail = #"{"reason":"timeout","error":{"code":"x","message":"m","hint":"h"}}"#
        let exit = StreamExit(code: -1, reason: "timeout", error: AegisError(.failed, "x", "m", hint: "h"))
        #expect(try state.receive(.exit(-1, detail: detail)) == .exited(exit))
        #expect(state.isFinished)
        #expect(throws: StreamFrameError.self) { try state.receive(out("late")) }
    }

    @Test func errorAndNoticeAreUnderstood() throws {
        var state = StreamClientState()
        #expect(
            try state.receive(.notice(#"{"kind":"pull","text":"layer 1"}"#)) == .notice(kind: "pull", text: "layer 1"))
        #expect(try state.receive(.notice("garbage!")) == .nothing)
        #expect(
            try state.receive(.error(.notFound("image-not-found", "no image")))
                == .failed(.failed("image-not-found", "no image")))
    }
}

@Suite struct DetachKeysTests {
    @Test(
        arguments: [
            ([1, 2, 3], [1, 2, 3]), ([0x10], []), ([0x10, 1], [0x10, 1]), ([0x10, 0x10, 1], [0x10, 0x10, 1]),
            ([0x11], [0x11]), ([1, 0x10, 0x11, 2], nil), ([0x10, 0x10, 0x11], nil),
        ] as [([UInt8], [UInt8]?)])
    func onlyTheTwoKeysTogetherLeave(_ typed: [UInt8], _ passed: [UInt8]?) {
        var keys = DetachKeys()
        #expect(keys.filter(typed) == passed)
    }

    @Test func theKeysMayComeApart() {
        var keys = DetachKeys()
        #expect(keys.filter([0x10]) == [])
        #expect(keys.filter([0x11]) == nil)
    }
}
