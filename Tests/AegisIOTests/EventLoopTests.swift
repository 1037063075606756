import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

/// An actor whose executor is a loop.
private actor Pinned {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }
    private var count = 0
    init(_ loop: EventLoop) { self.loop = loop }
    func add() -> (Int, Bool) {
        count += 1
        preconditionIsolated()
        return (count, loop.isCurrent)
    }
}

@Suite struct EventLoopTests {
    @Test func tasksAndTheirChildrenRunOnTheLoop() async throws {
        try await onLoop { loop in
            #expect(loop.isCurrent && EventLoop.current === loop)
            async let child = loop.isCurrent
            #expect(await child)
            let inGroup = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<10 { group.addTask { loop.isCurrent } }
                return await group.reduce(true) { $0 && $1 }
            }
            #expect(inGroup)
        }
        #expect(EventLoop.current == nil)
    }

    @Test func actorsCanLiveOnTheLoop() async throws {
        let loop = try EventLoop.startThread(name: "actor")
        defer { loop.stop() }
        let pinned = Pinned(loop)
        for round in 1...50 {
            let (count, onLoop) = await pinned.add()
            #expect(count == round && onLoop)
        }
        await loop.run { #expect(await pinned.add() == (51, true)) }
    }

    @Test func runMainReturnsWhatItsBodyReturnsOrThrows() async throws {
        // On a thread of the pool, because this test's own thread belongs to the language's runtime.
        let value = try await BlockingPool.shared.run {
            try EventLoop.runMain { loop in
                try await loop.clock.sleep(for: .milliseconds(1))
                return loop.isCurrent ? 42 : 0
            }
        }
        #expect(value == 42)
        await #expect(throws: IOError.timeout) {
            try await BlockingPool.shared.run { try EventLoop.runMain { _ in throw IOError.timeout } }
        }
    }

    @Test func idleLoopDoesNotWakeUp() async throws {
        let idle = try EventLoop.startThread(name: "idle")
        defer { idle.stop() }
        // A registered stream, a cancelled timer and a fired one must not keep it busy either.
        let (stream, peer) = try socketStreams(on: idle)
        try await idle.run {
            try await idle.clock.sleep(for: .milliseconds(1))
            let sleeper = Task(executorPreference: idle) { try await idle.clock.sleep(for: .milliseconds(2)) }
            await settle()
            sleeper.cancel()
            _ = try? await sleeper.value
            await settle()
        }
        // While another loop passes the time with real work.
        let before = try await passTime { idle.pollCount }
        let after = try await passTime { idle.pollCount }
        #expect(after == before)
        keep(stream, peer)
    }

    private func passTime(_ read: @escaping @Sendable () -> UInt64) async throws -> UInt64 {
        try await onLoop { loop in
            let (a, b) = try socketStreams(on: loop)
            async let server: Void = echo(b)
            var buffer = ByteBuffer()
            for _ in 0..<500 {
                try await a.write("x")
                _ = try await a.read(into: &buffer)
                buffer.removeAll()
            }
            try a.closeWrite()
            try await server
            return read()
        }
    }

    @Test func jobsFromManyThreadsAllRun() async throws {
        let loop = try EventLoop.startThread(name: "many")
        defer { loop.stop() }
        let counter = Shared(0)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<2000 {
                group.addTask(executorPreference: loop) {
                    await Task.yield()
                    counter.change { $0 += 1 }
                }
            }
        }
        #expect(counter.value == 2000)
    }

    @Test func stoppingEndsWaitsAndLateTasksStillRun() async throws {
        let loop = try EventLoop.startThread(name: "stopped")
        let (a, b) = try socketStreams(on: loop)
        defer { keep(b) }
        let reading = Task(executorPreference: loop) {
            var buffer = ByteBuffer()
            return try await a.read(into: &buffer)
        }
        let sleeping = Task(executorPreference: loop) { try await loop.clock.sleep(for: .seconds(1000)) }
        await loop.run { await settle() }
        loop.stop()
        #expect(await kind { try await reading.value } == .closed)
        await #expect(throws: CancellationError.self) { try await sleeping.value }
        // The loop is gone; the language's own pool takes over, and waiting on the loop says so.
        await #expect(throws: CancellationError.self) { try await loop.clock.sleep(for: .seconds(1000)) }
        #expect(await Task(executorPreference: loop) { 7 }.value == 7)
        #expect(throws: IOError.self) { try socketStreams(on: loop) }
    }

    @Test func stoppedLoopsGiveTheirDescriptorsBack() async throws {
        // Other suites run at the same time: look at this loop's own queue through a weak reference.
        weak var released: EventLoop?
        do {
            let loop = try EventLoop.startThread(name: "short")
            released = loop
            await loop.run { await settle() }
            loop.stop()
        }
        // The thread lets go of the loop right after its last round; there is no event to wait for.
        for _ in 0..<100_000 where released != nil { await Task.yield() }
        #expect(released == nil)
    }
}

@Suite struct LoopClockTests {
    @Test func timersFireInTheOrderOfTheirDeadlines() async throws {
        let order = try await onLoop { loop in
            let order = Shared<[Int]>([])
            let start = loop.clock.now
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, delay) in [4, 1, 3, 0, 2].enumerated() {
                    group.addTask {
                        try await loop.clock.sleep(until: start.advanced(by: .milliseconds(delay)))
                        #expect(loop.clock.now >= start.advanced(by: .milliseconds(delay)))
                        order.change { $0.append(index) }
                    }
                }
                try await group.waitForAll()
            }
            return order.value
        }
        #expect(order == [3, 1, 4, 2, 0])
    }

    @Test func timersFireWhateverWasTakenBackBeforeThem() async throws {
        try await onLoop { loop in
            for _ in 0..<20 {
                // The alarm stands at the time of one that is gone when a later and then an earlier one are set.
                let gone = Task(executorPreference: loop) { try await loop.clock.sleep(for: .milliseconds(3)) }
                await settle()
                gone.cancel()
                _ = await gone.result
                async let late: Void = loop.clock.sleep(for: .milliseconds(5))
                try await loop.clock.sleep(for: .milliseconds(1))
                try await late
            }
        }
    }

    @Test func equalDeadlinesFireInTheOrderTheyWereSet() async throws {
        try await onLoop { loop in
            let order = Shared<[Int]>([])
            let when = loop.clock.now.advanced(by: .milliseconds(1))
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<50 {
                    group.addTask {
                        try await loop.clock.sleep(until: when)
                        order.change { $0.append(index) }
                    }
                }
                try await group.waitForAll()
            }
            #expect(order.value == Array(0..<50))
        }
    }

    @Test func cancelledSleepEndsAtOnce() async throws {
        try await onLoop { loop in
            for wait in [0, 4] {
                let sleeping = Task(executorPreference: loop) { try await loop.clock.sleep(for: .seconds(10_000)) }
                for _ in 0..<wait { await Task.yield() }
                sleeping.cancel()
                await #expect(throws: CancellationError.self) { try await sleeping.value }
            }
        }
    }

    @Test func sleepFromAnotherThreadWakesAnIdleLoop() async throws {
        let loop = try EventLoop.startThread(name: "timers")
        defer { loop.stop() }
        for _ in 0..<20 { try await loop.clock.sleep(for: .microseconds(200)) }
    }

    @Test func instantsClampAtTheirEnds() {
        let zero = LoopClock.Instant(nanoseconds: 0)
        #expect(zero.advanced(by: .seconds(-5)) == zero)
        #expect(LoopClock.Instant(nanoseconds: .max).advanced(by: .seconds(5)).nanoseconds == .max)
        #expect(zero.advanced(by: .seconds(Int64.max)).nanoseconds == UInt64(Int64.max))
        let later = zero.advanced(by: .milliseconds(5))
        #expect(zero.duration(to: later) == .milliseconds(5) && later.duration(to: zero) == .milliseconds(-5))
    }
}

@Suite struct DeadlineTests {
    @Test func valueInTimeIsReturned() async throws {
        let value = try await onLoop { _ in try await withDeadline(.seconds(100)) { 5 } }
        #expect(value == 5)
    }

    @Test func timeoutCancelsTheBodyAndWaitsForIt() async throws {
        let clock = TestClock()
        let ended = Shared(false)
        async let outcome = kind {
            try await withDeadline(.seconds(3), clock: clock) {
                defer { ended.change { $0 = true } }
                try await clock.sleep(for: .seconds(1000))
            }
        }
        await clock.sleepers(2)
        #expect(clock.deadlines == [.seconds(3), .seconds(1000)])
        clock.advance(by: .seconds(3))
        #expect(await outcome == .timeout)
        #expect(ended.value && clock.sleeperCount == 0)
    }

    @Test func bodysOwnErrorIsKept() async throws {
        struct Boom: Error {}
        await #expect(throws: Boom.self) { try await withDeadline(.seconds(3), clock: TestClock()) { throw Boom() } }
    }

    @Test func cancellationFromOutsideIsNoTimeout() async throws {
        let clock = TestClock()
        let task = Task {
            try await withDeadline(.seconds(3), clock: clock) { try await clock.sleep(for: .seconds(9)) }
        }
        await clock.sleepers(2)
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
    }
    /// The times of a loop have no task that waits for them; all else is the same.
    @Test func aTimeOfTheLoopCancelsTheBodyAndWaitsForIt() async throws {
        let ended = Shared(false)
        let outcome = try await onLoop { loop in
            await kind {
                try await withDeadline(.milliseconds(1)) {
                    defer { ended.change { $0 = true } }
                    try await loop.clock.sleep(for: .seconds(100_000))
                }
            }
        }
        #expect(outcome == .timeout && ended.value)
        // What comes to its end in spite of it has happened.
        let value = try await onLoop { loop in
            try await withDeadline(.milliseconds(1)) {
                try? await loop.clock.sleep(for: .seconds(100_000))
                return 5
            }
        }
        #expect(value == 5)
    }

    @Test func cancellationOnALoopIsNoTimeout() async throws {
        try await onLoop { loop in
            let (asleep, fallAsleep) = AsyncStream.makeStream(of: Void.self)
            let task = Task(executorPreference: loop) {
                try await withDeadline(.seconds(100_000)) {
                    fallAsleep.yield()
                    try await loop.clock.sleep(for: .seconds(100_000))
                }
            }
            for await _ in asleep { break }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }
}
