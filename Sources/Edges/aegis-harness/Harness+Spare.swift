import AegisChannelEmbedded
import CHarness

/// A child that has done everything that needs no word of what is to run, and waits for that word.
///
/// Making a process takes two dozen system calls; in gVisor each takes its time. Who takes a sandbox that was kept ready says so
/// some milliseconds before the command is known, in which all that can be done. Nobody sees the child: nothing else runs inside
/// until it is the command.
struct SpareProcess {
    /// The number that its process will have.
    let number: UInt16
    let pid: Int32
    let status: Int32
    let launch: OpaquePointer
    let streams: Harness.Stdio
    /// In microseconds.
    let madeAt: UInt64
}

/// What a child needs that is the same for every command, and nothing of any: made while a sandbox waits for somebody who takes it.
struct ReadyStreams {
    /// Ours are waited for already, as those of the process of this number.
    static let number = Channel.taskProcess
    let stdio: Harness.Stdio
    /// Both ends of the pipe that tells whether the program runs.
    let status: (ours: Int32, theirs: Int32)
}

extension Harness {
    /// One that is older is not used: a process shall not look as if it had started long before it was asked for.
    private static let spareAge: UInt64 = 1_000_000

    /// Does what can be done for a command before anything is known of it. It is a favour, as a spare is.
    func getReady() {
        guard ready == nil, spare == nil, processes.isEmpty, shutdown == nil else { return }
        _ = passwd.contents("/etc/passwd")
        _ = group.contents("/etc/group")
        _ = ah_is_plain_root()
        ready = openReady()
        if let ready { watch(ready, ReadyStreams.number) }
    }

    private func openReady() -> ReadyStreams? {
        var stdio = Stdio()
        var (ours, theirs): (Int32, Int32) = (-1, -1)
        guard openPipes(&stdio) >= 0, unsafe ah_pipe(&ours, &theirs) >= 0 else {
            stdio.closeAll()
            return nil
        }
        return ReadyStreams(stdio: stdio, status: (ours, theirs))
    }

    private func watch(_ ready: ReadyStreams, _ number: UInt16) {
        watch(ready.stdio.ours[0], Source.input, number)
        watch(ready.stdio.ours[1], Source.stdout, number)
        watch(ready.stdio.ours[2], Source.stderr, number)
        watch(ready.status.ours, Source.status, number)
    }

    /// What was made for a command is not for what comes. What is waited for goes at once, for its number may be somebody's next.
    func dropReady() {
        guard let ready else { return }
        self.ready = nil
        Stdio(ours: ready.stdio.ours).closeAll()
        ah_close(ready.status.ours)
        closing += ready.stdio.theirs + [ready.status.theirs]
    }

    /// Makes the spare of a process that will be started. It is a favour: nothing is said about it, and without it the process is
    /// started as any other.
    func makeSpare(_ number: UInt16, _ request: StartProcess) {
        guard spare == nil, processes.isEmpty, shutdown == nil, !request.directory.contains(0),
            !haveNUL(request.arguments), !haveNUL(request.environment)
        else { return }
        // Nothing runs until the spare does: what is read of them now is what they say then. Nor has anything since the sandbox waits.
        if number != ReadyStreams.number { dropReady() }
        _ = passwd.contents("/etc/passwd", isKnown: ready != nil)
        _ = group.contents("/etc/group", isKnown: ready != nil)
        let isWatched = ready != nil
        guard let parts = ready ?? openReady() else { return }
        ready = nil
        var stdio = parts.stdio
        let path = value(of: "PATH", in: request.environment) ?? []
        var spec = unsafe ah_spawn()
        unsafe (spec.input, spec.output, spec.error) = (stdio.theirs[0], stdio.theirs[1], stdio.theirs[2])
        var shared: OpaquePointer?
        let pid = unsafe ah_spare(
            &spec, terminated(request.directory), terminated(request.arguments[0]), Self.searchPath(path), &shared)
        if !isWatched { watch(parts, number) }
        if !request.stdin {
            // Without stdin the writing end is closed: the process reads end-of-file.
            closing.append(stdio.ours[0])
            stdio.ours[0] = -1
        }
        closing += stdio.theirs + [parts.status.theirs]
        guard pid > 0, let launch = unsafe shared else {
            ah_close(parts.status.ours)
            return Stdio(ours: stdio.ours).closeAll()
        }
        unsafe spare = SpareProcess(
            number: number, pid: Int32(pid), status: parts.status.ours, launch: launch, streams: stdio,
            madeAt: ah_now_microseconds())
    }

    /// Has the spare become what a request asks for, if there is one that can; one that cannot is ended.
    ///
    /// - Returns: whether the process is on its way.
    func startSpare(_ number: UInt16, _ request: StartProcess, _ account: Account) -> Bool {
        guard let spare else { return false }
        let isPlain = request.kind == .task || request.kind == .server || request.kind == .exec
        guard number == spare.number, isPlain, !request.terminal, request.stdin == (spare.streams.ours[0] >= 0),
            ah_now_microseconds() - spare.madeAt < Self.spareAge,
            unsafe Self.withSpec(
                request, account, spare.streams.theirs, { unsafe ah_tell_spare(spare.launch, &$0) }) >= 0
        else {
            dropSpare()
            return false
        }
        self.spare = nil
        let process = unsafe GuestProcess(
            number: number, pid: spare.pid, terminal: false, status: spare.status, launch: spare.launch,
            program: request.arguments[0], directory: request.directory)
        process.output[0].descriptor = spare.streams.ours[1]
        process.output[1].descriptor = spare.streams.ours[2]
        if request.limit > 0 { setDeadline(of: process, UInt64(request.limit) * 1000) }
        processes.append(process)
        process.input.descriptor = spare.streams.ours[0]
        return true
    }

    /// Ends a spare that is not wanted; nothing is left of it when this returns.
    func dropSpare() {
        guard let spare else { return }
        ah_end_spare(spare.pid)
        forgetSpare(spare)
    }

    /// A spare has ended: what was held for it goes.
    func forgetSpare(_ spare: SpareProcess) {
        self.spare = nil
        Stdio(ours: spare.streams.ours).closeAll()
        ah_close(spare.status)
        // SAFETY: made by ah_spare, whose child is gone; forgotten here, once.
        unsafe ah_forget_launch(spare.launch)
    }
}
