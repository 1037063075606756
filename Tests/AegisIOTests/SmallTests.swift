import AegisCore
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct ByteBufferTests {
    @Test func keepsItsBytesInOrder() {
        var buffer = ByteBuffer()
        var model: [UInt8] = []
        var random = SystemRandomNumberGenerator()
        for step in 0..<5000 {
            if UInt8.random(in: 0...2, using: &random) > 0 {
                let bytes = pattern(Int.random(in: 0...300, using: &random)).map {
                    $0 &+ UInt8(truncatingIfNeeded: step)
                }
                buffer.append(bytes)
                model += bytes
            } else {
                let count = Int.random(in: 0...model.count, using: &random)
                #expect(buffer.take(count) == Array(model.prefix(count)))
                model.removeFirst(count)
            }
            #expect(buffer.readableBytes == model.count)
        }
        #expect(Array(buffer.readable) == model)
        #expect(buffer.takeAll() == model && buffer.isEmpty)
    }

    @Test func findsOffsets() {
        var buffer = ByteBuffer(Array("xxab\ncd\n".utf8))
        buffer.consume(2)
        #expect(buffer.firstOffset(of: 10) == 2 && buffer.firstOffset(of: 10, from: 3) == 5)
        #expect(buffer.firstOffset(of: 10, from: 6) == nil && buffer.firstOffset(of: 10, from: 99) == nil)
        #expect(buffer[0] == UInt8(ascii: "a"))
        #expect(unsafe buffer.withUnsafeReadable { $0.count } == 6)
        buffer.append(Array("e".utf8).span)
        buffer.append(UInt8(ascii: "f"))
        #expect(String(bytes: buffer.takeAll()) == "ab\ncd\nef")
    }

    @Test func consumingTooMuchIsTrapped() async {
        await #expect(processExitsWith: .failure) {
            var buffer = ByteBuffer([1])
            buffer.consume(2)
        }
    }
}

@Suite struct BytePipeTests {
    @Test func writerWaitsForTheReaderStepByStep() async throws {
        let executor = ManualExecutor()
        let pipe = BytePipe(capacity: 4)
        let written = Shared(false)
        let writing = Task(executorPreference: executor) {
            try await pipe.write("0123456789")
            written.change { $0 = true }
            try pipe.closeWrite()
        }
        executor.drain()
        #expect(pipe.bufferedBytes == 4 && !written.value)
        let reading = Task(executorPreference: executor) {
            var buffer = ByteBuffer()
            _ = try await pipe.read(into: &buffer, atMost: 3)
            return buffer.takeAll()
        }
        executor.drain()
        #expect(try await reading.value == Array("012".utf8))
        #expect(pipe.bufferedBytes == 4 && !written.value)
        let rest = Task(executorPreference: executor) { try await pipe.readAll(limit: 100) }
        executor.drain()
        #expect(try await rest.value == Array("3456789".utf8))
        try await writing.value
    }

    @Test func cancellationAndClosingEndWaits() async throws {
        let executor = ManualExecutor()
        let pipe = BytePipe(capacity: 1)
        func reader() -> Task<Int, any Error> {
            Task(executorPreference: executor) {
                var buffer = ByteBuffer()
                return try await pipe.read(into: &buffer)
            }
        }
        let early = reader()
        early.cancel()
        executor.drain()
        #expect(await kind { try await early.value } == .cancelled)
        let late = reader()
        executor.drain()
        let second = reader()
        executor.drain()
        let busy = await #expect(throws: IOError.self) { try await second.value }
        #expect(busy?.errno == .busy)
        late.cancel()
        executor.drain()
        #expect(await kind { try await late.value } == .cancelled)
        let closed = reader()
        let writer = Task(executorPreference: executor) { try await pipe.write("ab") }
        executor.drain()
        #expect(try await closed.value == 1)
        executor.drain()
        let stuck = Task(executorPreference: executor) { try await pipe.write("cd") }
        executor.drain()
        pipe.close()
        executor.drain()
        _ = await kind { try await writer.value }
        #expect(await kind { try await stuck.value } == .closed)
    }

    @Test func pairIsADuplexStream() async throws {
        let (a, b) = BytePipe.pair(capacity: 16)
        let sent = pattern(10_000)
        async let back: Void = {
            try await b.write(try await b.readAll(limit: 20_000))
            b.close()
        }()
        async let got = a.readAll(limit: 20_000)
        try await a.write(sent)
        try a.closeWrite()
        #expect(try await got == sent)
        try await back
        #expect(await kind { try await a.write("x") } == .closed)
    }
}

@Suite struct BlockingPoolTests {
    @Test func runsAwayFromTheLoopAndReturnsOrThrows() async throws {
        struct Boom: Error {}
        try await onLoop { loop in
            let elsewhere = try await BlockingPool.shared.run { loop.isCurrent == false }
            #expect(elsewhere && loop.isCurrent)
            await #expect(throws: Boom.self) { try await BlockingPool.shared.run { throw Boom() } }
        }
    }

    @Test func cancelledCallNeverStartsAndARunningOneIsAwaited() async throws {
        let pool = BlockingPool(threads: 1, queueLimit: 2)
        let gate = Gate()
        let running = Task { try await pool.run { gate.wait() } }
        await gate.started()
        let started = Shared(false)
        let waiting = Task { try await pool.run { started.change { $0 = true } } }
        waiting.cancel()
        await #expect(throws: CancellationError.self) { try await waiting.value }
        running.cancel()
        gate.open()
        try await running.value
        #expect(started.value == false)
    }

    @Test func fullQueueIsAnError() async throws {
        let pool = BlockingPool(threads: 1, queueLimit: 1)
        let gate = Gate()
        async let running: Void = pool.run { gate.wait() }
        await gate.started()
        try await onLoop { loop in
            async let queued: Void = pool.run {}
            await settle()
            let error = await #expect(throws: IOError.self) { try await pool.run {} }
            #expect(error?.errno == .wouldBlock)
            gate.open()
            try await queued
        }
        try await running
    }
}

/// Blocks a thread until a test opens it, and tells the test when it is blocked.
private final class Gate: Sendable {
    private let pipe: FileDescriptor
    private let opener: FileDescriptor
    private let begun = BytePipe(capacity: 1)

    init() {
        var pair = try? DescriptorPair.pipe()
        pipe = pair?.takeFirst() ?? FileDescriptor(owning: -1)
        opener = pair?.takeSecond() ?? FileDescriptor(owning: -1)
    }

    func wait() {
        try? begun.closeWrite()
        var byte: [UInt8] = [0]
        _ = try? pipe.read(into: &byte)
    }
    func started() async { _ = try? await begun.readAll(limit: 1) }
    func open() { _ = try? opener.write([1]) }
}

/// Signals are the whole process's: one suite at a time.
@Suite(.serialized) struct SignalSourceSerialTests {
    private func send(_ number: Int32) throws {
        let myself = try ProcessHandle(pid: CurrentProcess.pid)
        try myself.signal(number)
    }

    @Test func signalsArriveInOrderAtEverySource() async throws {
        try await onLoop { loop in
            let one = try SignalSource([10, 12], on: loop)
            let two = try SignalSource([12], on: loop)
            try send(10)
            #expect(try await one.next() == 10)
            try send(12)
            #expect(try await one.next() == 12)
            #expect(try await two.next() == 12)
        }
    }

    @Test func nextEndsByCancellationAndClosing() async throws {
        try await onLoop { loop in
            let source = try SignalSource([10], on: loop)
            let waiting = Task(executorPreference: loop) { try await source.next() }
            await settle()
            waiting.cancel()
            #expect(await kind { try await waiting.value } == .cancelled)
            async let closed = kind { try await source.next() }
            await settle()
            source.close()
            #expect(await closed == .closed)
        }
    }

    @Test func slotsAreReusedAndOldSignalsForgotten() async throws {
        try await onLoop { loop in
            // The guard has the slot behind the one that is reused: what it has seen, that one has too. And as long as
            // it is open, a signal never does what it does by default.
            var source: SignalSource? = try SignalSource([10, 12], on: loop)
            let guardian = try SignalSource([10, 12], on: loop)
            for round in 0..<40 {
                let number: Int32 = round % 2 == 0 ? 10 : 12
                source = nil
                source = try SignalSource([10, 12], on: loop)
                try send(number)
                #expect(try await guardian.next() == number)
                #expect(try await source?.next() == number)
                // Left unread: the next owner of the slot must not see it.
                try send(22 - number)
                #expect(try await guardian.next() == 22 - number)
            }
        }
    }

    @Test func impossibleSignalsAreRefused() async throws {
        try await onLoop { loop in
            for signals in [[], [9], [0], [65]] as [[Int32]] {
                #expect(throws: IOError.self) { try SignalSource(signals, on: loop) }
            }
        }
    }
}

@Suite struct TestSupportTests {
    @Test func clockWakesSleepersInOrder() async throws {
        let clock = TestClock()
        let executor = ManualExecutor()
        let order = Shared<[Int]>([])
        for (index, delay) in [3, 1, 2].enumerated() {
            _ = Task(executorPreference: executor) {
                try await clock.sleep(for: .seconds(delay))
                order.change { $0.append(index) }
            }
        }
        executor.drain()
        #expect(clock.sleeperCount == 3)
        clock.advance(by: .seconds(2))
        executor.drain()
        #expect(order.value == [1, 2] && clock.deadlines == [.seconds(3)])
        clock.advance(by: .seconds(1))
        executor.drain()
        #expect(order.value == [1, 2, 0])
    }

    @Test func clockHonoursCancellation() async throws {
        let clock = TestClock()
        let sleeping = Task { try await clock.sleep(for: .seconds(1)) }
        await clock.sleepers(1)
        sleeping.cancel()
        await #expect(throws: CancellationError.self) { try await sleeping.value }
        #expect(clock.sleeperCount == 0)
        let early = Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            try await clock.sleep(for: .seconds(1))
        }
        await #expect(throws: CancellationError.self) { try await early.value }
    }

    @Test func temporaryDirectoryGoesWithAllThatIsInIt() async throws {
        var path = ""
        do {
            let directory = try TemporaryDirectory()
            path = directory.path
            try Files.makeDirectories(directory.path("a/b"))
            try Files.writeAtomically(directory.path("a/b/c"), [1])
        }
        #expect(!Files.exists(path))
        path = try await withTemporaryDirectory { $0 }
        #expect(!Files.exists(path))
    }
}

@Suite struct HomeFolderTests {
    @Test(
        arguments: [
            (["images", "shims"], nil), (["aegis.db", "mine"], nil), ([], nil), (["images"], "holds images)"),
            (["images", "logs"], "holds images, logs)"), (["mine", "yours"], "holds mine, yours)"),
        ] as [([String], String?)])
    func aFolderIsClosedThatNobodyElseMissesAnythingIn(_ names: [String], _ foreign: String?) throws {
        let folder = try TemporaryDirectory()
        let home = folder.path("home")
        for name in names { try Files.makeDirectories("\(home)/\(name)", mode: 0o755) }
        try Files.makeDirectories(home, mode: 0o755)
        try Files.setPermissions(home, 0o755)
        guard let foreign else {
            #expect(try HomeFolder.secure(home)?.hasSuffix("its mode is 0700 now") == true)
            return
        }
        let error = #expect(throws: AegisError.self) { try HomeFolder.secure(home) }
        #expect(error?.code == "home-unsafe" && error?.message.contains(foreign) == true)
        #expect(try Files.status(home).permissions == 0o755)
    }
}
