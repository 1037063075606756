internal import CLinux
package import LinuxSys
internal import Synchronization

/// One thread that waits for descriptors and timers and runs the tasks that use them.
///
/// It is the task executor (and the serial executor of actors) of what runs on it, so that a task that waits for I/O is
/// resumed without changing threads. Everything here may be called from any thread.
package final class EventLoop: TaskExecutor, SerialExecutor, @unchecked Sendable {
    // `local`, `batch`, `alarm` and `quiet` belong to the thread that runs the loop; the rest is immutable or behind a Mutex.
    private let poller: Poller
    private let inbox = Mutex(Inbox())
    private let targets = Mutex(TargetTable())
    private let timers = Mutex(TimerHeap<TimerAction>())
    private var local: [UnownedJob] = []
    private var batch: [UnownedJob] = []
    /// When the poller wakes the loop; nil while it does not.
    private var alarm: UInt64?
    private let polls = Atomic<UInt64>(0)
    private var quiet: (watch: QuietWatch, action: @Sendable () -> Void)?
    /// How long it must have been quiet before a burst counts as over.
    private static var quietTime: UInt64 { 1_000_000_000 }

    private struct Inbox {
        var jobs: [UnownedJob] = []
        var signalled = false
        var stopping = false
        var ended = false
    }

    /// What a timer does: gets true when it is due, false when the loop ends before.
    typealias TimerAction = @Sendable (Bool) -> Void

    /// Jobs that run before descriptors are looked at again, so that busy tasks cannot starve I/O.
    private static var jobsPerRound: Int { 256 }

    private init() throws(Errno) {
        CurrentProcess.ignoreBrokenPipes()
        poller = try Poller()
    }

    /// Starts a loop on a thread of its own; it runs until `stop()`.
    ///
    /// - Parameter name: the thread's name, cut at 15 bytes.
    /// - Returns: the running loop.
    /// - Throws: the error of the system call.
    package static func startThread(name: String) throws(Errno) -> EventLoop {
        let loop = try EventLoop()
        try SystemThread.start(name: name) { loop.run() }
        return loop
    }

    /// Runs a loop on the calling thread until `body`, which runs as a task on it, has ended.
    ///
    /// The main actor does not work meanwhile when this is called on the main thread.
    package static func runMain<T: Sendable>(
        _ body: @escaping @Sendable (EventLoop) async throws -> T
    ) throws -> T {
        let loop = try EventLoop()
        let outcome = Mutex<Result<T, any Error>?>(nil)
        // Unstructured because this is where the structure begins: the caller's thread waits for it in `run`.
        Task(executorPreference: loop) {
            let result: Result<T, any Error>
            do { result = .success(try await body(loop)) } catch { result = .failure(error) }
            outcome.withLock { $0 = result }
            loop.stop()
        }
        loop.run()
        guard let result = outcome.withLock({ $0 }) else { throw IOError.closed }
        return try result.get()
    }

    /// The loop that runs on the calling thread.
    package static var current: EventLoop? {
        guard let raw = unsafe al_thread_value() else { return nil }
        // SAFETY: the pointer is set while `run` holds the loop, and cleared before it returns.
        return unsafe Unmanaged<EventLoop>.fromOpaque(raw).takeUnretainedValue()
    }

    /// Whether the caller is on this loop's thread.
    package var isCurrent: Bool { unsafe al_thread_value() == Unmanaged.passUnretained(self).toOpaque() }

    /// Whether the loop runs nothing any more: what belongs on it runs elsewhere from then on.
    package var hasEnded: Bool { inbox.withLock { $0.ended } }

    /// The loop's clock: its sleeps are timers of the loop.
    package var clock: LoopClock { LoopClock(loop: self) }

    /// How often the loop has asked the kernel; an idle loop does not.
    package var pollCount: UInt64 { polls.load(ordering: .relaxed) }

    /// Runs `body` on this loop, as a part of the calling task, and comes back.
    package func run<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async rethrows -> T {
        try await withTaskExecutorPreference(self) {
            // The compiler drops a change of threads that only a call to a caller-isolated closure would follow: without
            // this line `body` starts on the old thread.
            arrive()
            return try await body()
        }
    }

    private func arrive() {
        if !isCurrent, !hasEnded { preconditionFailure("a task did not reach its event loop") }
    }

    /// Ends the loop once the jobs that are ready have run; streams close, sleepers are cancelled.
    package func stop() {
        inbox.withLock { $0.stopping = true }
        poller.wake()
    }

    // MARK: Executor

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if isCurrent {
            local.append(job)
            return
        }
        enum Next { case nothing, wake, elsewhere }
        let next = inbox.withLock { inbox -> Next in
            if inbox.ended { return .elsewhere }
            inbox.jobs.append(job)
            if inbox.signalled { return .nothing }
            inbox.signalled = true
            return .wake
        }
        switch next {
        case .nothing: break
        case .wake: poller.wake()
        case .elsewhere: Self.runElsewhere(job)
        }
    }

    package func asUnownedSerialExecutor() -> UnownedSerialExecutor { unsafe UnownedSerialExecutor(ordinary: self) }
    package func checkIsolated() { precondition(isCurrent, "not on this event loop") }
    package func isIsolatingCurrentContext() -> Bool? { isCurrent }

    /// A job that comes after the loop's end still has to run, or its task would hang for ever.
    private static func runElsewhere(_ job: UnownedJob) {
        globalConcurrentExecutor.enqueue(job)
    }

    // MARK: The loop

    private func run() {
        precondition(EventLoop.current == nil, "a loop runs on this thread already")
        unsafe al_thread_set_value(Unmanaged.passUnretained(self).toOpaque())
        // A program stops its loop only when it ends: children that die with the thread die with the program.
        al_thread_set_lasting(1)
        var stopping = false
        while !(stopping && local.isEmpty) {
            runJobs()
            setAlarm()
            polls.add(1, ordering: .relaxed)
            let outcome = poller.wait(blocks: local.isEmpty && !stopping) { token, readiness in
                targets.withLock { $0.target(of: token) }?.becameReady(readiness)
            }
            if outcome.isWoken { stopping = takeInbox() || stopping }
            if outcome.isAlarm { fireTimers() }
        }
        end()
        al_thread_set_value(nil)
    }

    private func runJobs() {
        let executor = unsafe asUnownedTaskExecutor()
        var count = 0
        while !local.isEmpty, count < Self.jobsPerRound {
            swap(&batch, &local)
            for job in batch { unsafe job.runSynchronously(on: executor) }
            count += batch.count
            batch.removeAll(keepingCapacity: true)
        }
        if quiet?.watch.ran(count) == true { lookForQuiet() }
    }

    /// Calls `action` on the loop about a second after each burst of work. Between bursts nothing wakes the loop.
    ///
    /// May be called once, by a task that runs on the loop.
    package func afterBursts(_ action: @escaping @Sendable () -> Void) {
        precondition(isCurrent && quiet == nil, "not on the loop, or called twice")
        quiet = (QuietWatch(), action)
    }

    private func lookForQuiet() {
        _ = schedule(at: SystemTime.monotonic + Self.quietTime) { [weak self] isDue in
            guard isDue, let self else { return }
            switch quiet?.watch.due() {
            case .quiet: quiet?.action()
            case .lookAgain: lookForQuiet()
            case nil: break
            }
        }
    }

    private func takeInbox() -> Bool {
        inbox.withLock { inbox in
            local.append(contentsOf: inbox.jobs)
            inbox.jobs.removeAll(keepingCapacity: true)
            inbox.signalled = false
            return inbox.stopping
        }
    }

    private func end() {
        for target in targets.withLock({ $0.removeAll() }) { target.loopEnded() }
        for action in timers.withLock({ $0.removeAll() }) { action(false) }
        let late = inbox.withLock { inbox in
            inbox.ended = true
            defer { inbox.jobs = [] }
            return inbox.jobs
        }
        for job in local + late { Self.runElsewhere(job) }
        local = []
    }

    // MARK: Timers

    /// Sees to it that the loop wakes up for the earliest timer; without timers it sleeps until something happens.
    ///
    /// The alarm stays as it is while timers come and go behind it: a timer for each wait is set and taken back twice per
    /// relayed request, which takes longer than parsing it. One that comes too early means an empty round, once.
    private func setAlarm() {
        let earliest = timers.withLock { $0.earliest }
        if let earliest {
            if let alarm, alarm <= earliest { return }
        } else if alarm == nil {
            return
        }
        alarm = earliest
        poller.setAlarm(at: earliest)
    }

    private func fireTimers() {
        alarm = nil
        let now = SystemTime.monotonic
        while let action = timers.withLock({ $0.popDue(now: now) }) { action(true) }
    }

    /// Calls `action` on the loop's thread at a time of `SystemTime.monotonic`, or with false when the loop ends before.
    func schedule(at deadline: UInt64, _ action: @escaping TimerAction) -> TimerID {
        let (id, isFirst) = timers.withLock { timers in
            let id = timers.insert(deadline: deadline, action)
            return (id, timers.earliest == deadline)
        }
        if hasEnded {
            if let action = timers.withLock({ $0.remove(id) }) { action(false) }
        } else if isFirst, !isCurrent {
            poller.wake()
        }
        return id
    }

    /// Takes a timer back; false when it has fired.
    @discardableResult
    func cancelTimer(_ id: TimerID) -> Bool { timers.withLock { $0.remove(id) } != nil }

    // MARK: Descriptors

    /// Watches a descriptor. The target is kept alive until it is removed.
    ///
    /// - Returns: nil for a descriptor that is always ready (a regular file).
    func add(_ descriptor: Int32, _ target: any PollTarget) throws(Errno) -> PollToken? {
        let token = targets.withLock { $0.insert(target) }
        do { try poller.add(descriptor, token: token.raw) } catch {
            targets.withLock { $0.remove(token) }
            if error == .notPermitted { return nil }
            throw error
        }
        guard hasEnded else { return token }
        remove(descriptor, token)
        throw .shutDown
    }

    /// Stops watching; must come before the descriptor is closed.
    func remove(_ descriptor: Int32, _ token: PollToken) {
        poller.remove(descriptor)
        targets.withLock { $0.remove(token) }
    }
}
