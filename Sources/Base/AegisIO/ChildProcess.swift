internal import CLinux
package import LinuxSys
internal import Synchronization

/// A running child, named beyond any reuse of its number; it reaps itself on its loop, whoever still holds this value.
///
/// Dropping the value does not end the process: see `teardown`.
package final class ChildProcess: Sendable {
    /// The number, for messages and files; signals go through the process's own descriptor.
    package let pid: Int32
    /// The other ends of those standard descriptors that are pipes.
    package let stdin: FileStream?
    package let stdout: FileStream?
    package let stderr: FileStream?
    private let life: ChildLife

    private init(pid: Int32, streams: [FileStream?], life: ChildLife) {
        self.pid = pid
        stdin = streams[0]
        stdout = streams[1]
        stderr = streams[2]
        self.life = life
    }

    /// Starts a program. Blocks the calling thread until it runs (0.5 ms to 2 ms; see `spawnInBackground`).
    ///
    /// - Throws: what failed and why, for example `ENOENT` for a program that is not there; then there is no child.
    package static func spawn(_ spec: ProcessSpec, on loop: EventLoop) throws(IOError) -> ChildProcess {
        guard spec.parentDeathSignal == nil || al_thread_is_lasting() == 1 else {
            throw .system(.invalidArgument, "a parent-death signal from a thread that may end before the process")
        }
        CurrentProcess.ignoreBrokenPipes()
        var request = spec.request()
        var plan = StandardPlan()
        for (number, wanted) in [spec.stdin, spec.stdout, spec.stderr].enumerated() {
            try plan.add(Int32(number), wanted, on: loop)
        }
        request.descriptors = plan.descriptors + spec.extraDescriptors
        let life: ChildLife
        let pid: Int32
        do throws(SpawnError) {
            let spawned = try request.spawn()
            pid = spawned.pid
            life = ChildLife(spawned, on: loop)
        } catch {
            throw IOError(.system, errno: error.errno, "starting \(spec.executable): \(error)")
        }
        try life.watch()
        return ChildProcess(pid: pid, streams: plan.streams, life: life)
    }

    /// Starts a program without blocking the loop, for children that enter a cgroup (which can take 12 ms).
    package static func spawnInBackground(_ spec: ProcessSpec, on loop: EventLoop) async throws -> ChildProcess {
        try await BlockingPool.shared.run { try spawn(spec, on: loop) }
    }

    /// How it ended; nil while it runs.
    package var exitStatus: ExitStatus? { life.status }

    /// Waits for its end. Any number of tasks may wait.
    ///
    /// - Throws: `.cancelled` when the task is cancelled (the process goes on); `.closed` when the loop ends; `ECHILD` when
    ///   something else in this process reaped it.
    package func wait() async throws(IOError) -> ExitStatus {
        switch await life.wait(honoursCancellation: true, until: nil) {
        case .ended(let status): return status
        case .cancelled: throw .cancelled
        case .timedOut: throw .timeout
        case .loopEnded: throw .closed
        case .lost: throw .system(.noChild, "waiting for process \(pid)")
        }
    }

    /// Sends a signal; false when it has ended.
    @discardableResult
    package func signal(_ number: Int32) -> Bool { life.signal(number) }

    /// Sends a signal to its process group, for children with `newSession`; false when the group is gone.
    @discardableResult
    package func signalGroup(_ number: Int32) -> Bool { life.signalGroup(number, pid) }

    /// Ends it: performs the steps in order until it has ended, then kills it.
    ///
    /// Goes on when the task is cancelled, so that a cancelled task leaves nothing behind; the steps bound the time.
    ///
    /// - Returns: how it ended; nil when the kernel had not let it go 10 s after SIGKILL (a frozen cgroup, a dead disk).
    @discardableResult
    package func teardown(_ steps: [TeardownStep] = [.signal(15, allow: .seconds(5))]) async -> ExitStatus? {
        for step in steps {
            if let status = exitStatus { return status }
            let allowance: Duration
            switch step {
            case .signal(let number, let allow):
                signal(number)
                allowance = allow
            case .signalGroup(let number, let allow):
                signalGroup(number)
                allowance = allow
            case .closeInput(let allow):
                stdin?.close()
                allowance = allow
            }
            if let status = await end(within: allowance) { return status }
        }
        signal(9)
        return await end(within: .seconds(10))
    }

    private func end(within allowance: Duration) async -> ExitStatus? {
        let deadline = life.loop.clock.now.advanced(by: allowance)
        guard case .ended(let status) = await life.wait(honoursCancellation: false, until: deadline.nanoseconds) else {
            return nil
        }
        return status
    }
}

/// The parent's and the child's ends of standard descriptors, until the child has its own.
private struct StandardPlan: ~Copyable {
    var descriptors: [(childNumber: Int32, source: Int32)] = []
    var streams: [FileStream?] = []
    /// The child's ends, closed here after the spawn.
    private var childEnds: [ChildEnd] = []

    private final class ChildEnd {
        let descriptor: FileDescriptor
        init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
    }

    mutating func add(_ number: Int32, _ wanted: StandardDescriptor, on loop: EventLoop) throws(IOError) {
        var stream: FileStream?
        do throws(Errno) {
            switch wanted {
            case .inherit: descriptors.append((number, number))
            case .descriptor(let source): descriptors.append((number, source))
            case .null: keep(number, try FileDescriptor.open("/dev/null", .readWrite))
            case .pipe:
                var pipe = try DescriptorPair.pipe()
                let ours = number == 0 ? pipe.takeSecond() : pipe.takeFirst()
                keep(number, number == 0 ? pipe.takeFirst() : pipe.takeSecond())
                do throws(IOError) { stream = try FileStream(ours, on: loop) } catch {
                    throw error.errno ?? .invalidArgument
                }
            }
        } catch { throw .system(error, "preparing descriptor \(number) of a child") }
        streams.append(stream)
    }

    private mutating func keep(_ number: Int32, _ descriptor: consuming FileDescriptor) {
        let end = ChildEnd(descriptor)
        childEnds.append(end)
        descriptors.append((number, end.descriptor.raw))
    }
}
