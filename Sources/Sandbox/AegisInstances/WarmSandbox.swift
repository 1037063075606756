internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisImages
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSessions
internal import Synchronization

/// A sandbox that is up, with the harness waiting and nothing of anybody's in it.
///
/// It was made as that of an ephemeral instance without a name, whose id it has: host name, control group, folders and
/// workspace are those of the id already. Whoever claims it becomes the instance of that id.
final class WarmSandbox: Sendable {
    let id: String
    let sandbox: any Sandbox
    /// The image's id.
    let digest: String
    /// What it was booted with, and what that can be made.
    let limits: Limits
    let fitting: any LimitFitting
    let log: InstanceLog
    /// Whether its processes stand still: a kernel in user space has threads of its own, which would wake up now and then.
    let isFrozen: Bool
    /// Bytes that it took when it was ready.
    let memory: UInt64
    /// Its channel.
    let channel: HeldChannel
    /// Holds the layers while nobody else does.
    private let lease: ImageLease
    /// Notices its end while it waits.
    let watch = Mutex<TaskScope.Handle?>(nil)
    /// Makes it its claimer's, beside what else is to be done for the instance.
    private let waking = Mutex<(task: TaskScope.Handle?, error: (any Error)?)>((nil, nil))

    init(
        id: String, sandbox: any Sandbox, digest: String, limits: Limits, fitting: any LimitFitting, log: InstanceLog,
        isFrozen: Bool, memory: UInt64, channel: HeldChannel, lease: ImageLease
    ) {
        self.id = id
        self.sandbox = sandbox
        self.digest = digest
        self.limits = limits
        self.fitting = fitting
        self.log = log
        self.isFrozen = isFrozen
        self.memory = memory
        self.channel = channel
        self.lease = lease
    }

    /// Begins with what its claimer will wait for.
    func wake(in scope: TaskScope, _ body: @escaping @Sendable () async throws -> Void) {
        waking.withLock { waking in
            waking.task = scope.spawn("warm-wake") { [self] in
                do { try await body() } catch { self.waking.withLock { $0.error = error } }
            }
        }
    }

    /// Waits until it is its claimer's.
    ///
    /// - Throws: why it cannot be.
    func woken() async throws {
        await waking.withLock { $0.task }?.wait()
        if let error = waking.withLock({ $0.error }) { throw error }
    }

    /// From now on its end is somebody else's business.
    func unwatch() {
        watch.withLock { watch in
            watch?.cancel()
            watch = nil
        }
    }
}

/// A warm sandbox that an instance has taken, with what a start of its own would have found out.
struct WarmClaim: Sendable {
    let warm: WarmSandbox
    let image: ResolvedImage
    let ids: (uid: UInt32, gid: UInt32)
    let choice: BackendChoice
}

/// Runs a process in a sandbox that nobody has claimed, for its effect on the kernel below: in one that runs in user space
/// the first process beside the harness takes several times as long as the second.
struct WarmUp {
    let sandbox: any Sandbox
    /// Process numbers are the sandbox's; this one is free again afterwards.
    private static let number = Channel.taskProcess + 1
    /// What most commands need first, the loader and the C library of the image, comes with its shell. An image without one
    /// has the harness at least.
    /// The folders are those in which most programs are looked for before they are found: names of a folder that was looked through
    /// once are known not to be there, and else the host is asked for each.
    var commands = [
        ["sh", "-c", "echo /usr/local/sbin/* /usr/local/bin/* /usr/sbin/* >/dev/null"], WarmUp.harness,
    ]
    /// Whether the sandbox waits for somebody from there on.
    var keepsReady = true
    /// Of ours, whatever is in the sandbox.
    static let harness = ["/.aegis/harness", "--version"]
    var directory = "/workspace"
    /// Where programs inside will most likely want the guest API: opening its door takes some ten calls, each slow there.
    var door: UInt16? = GuestAPISetting.standard.port
    /// Looked for as a command is: where it is not is known then, too.
    private static let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// - Throws: what the channel says; the process itself may fail.
    func run() async throws {
        let (state, stream) = try await sandbox.channel()
        defer { stream.close() }
        let (ends, end) = AsyncStream.makeStream(of: Void.self)
        let session = HarnessSession(sink: Sink(end))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { _ = try await session.run(on: stream, known: state.processes) }
            group.addTask {
                for command in commands {
                    let message = StartProcess(
                        kind: .exec, arguments: command.map { Array($0.utf8) }, environment: [Array(Self.path.utf8)],
                        directory: Array(directory.utf8))
                    do { _ = try await session.start(Self.number, message) } catch is ProcessStartError {
                        session.forget(Self.number)
                        continue
                    }
                    for await _ in ends { break }
                    session.forget(Self.number)
                    break
                }
                if let door {
                    // Without one it is opened when the sandbox is somebody's.
                    do {
                        _ = try await session.start(Door.earlyProcess, Instance.guestDoor(door))
                    } catch is ProcessStartError {
                        session.forget(Door.earlyProcess)
                    }
                }
                try await session.health(
                    beforeKeepingReady: keepsReady && state.version >= Channel.keptReadyVersion)
            }
            // Whichever ends first: the channel only if it broke.
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    private final class Sink: SessionSink {
        private let ended: AsyncStream<Void>.Continuation
        init(_ ended: AsyncStream<Void>.Continuation) { self.ended = ended }
        func output(process: UInt16, _ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>, end: Bool) {}
        func exited(process: UInt16, _ end: ProcessExited) { ended.yield() }
    }
}
