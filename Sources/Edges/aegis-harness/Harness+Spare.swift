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

extension Harness {
    /// One that is older is not used: a process shall not look as if it had started long before it was asked for.
    private static let spareAge: UInt64 = 1_000_000

    /// Makes the spare of a process that will be started. It is a favour: nothing is said about it, and without it the process is
    /// started as any other.
    func makeSpare(_ number: UInt16, _ request: StartProcess) {
        guard spare == nil, processes.isEmpty, shutdown == nil, !request.directory.contains(0) else { return }
        // Nothing runs until the spare does: what is read of them now is what they say then.
        _ = passwd.contents("/etc/passwd")
        _ = group.contents("/etc/group")
        var stdio = Stdio()
        var pid = open(&stdio, request, Account(uid: 0, gid: 0, groups: [], home: []))
        var status: Int32 = -1
        var shared: OpaquePointer?
        if pid >= 0 {
            var spec = unsafe ah_spawn()
            unsafe (spec.input, spec.output, spec.error) = (stdio.theirs[0], stdio.theirs[1], stdio.theirs[2])
            pid = unsafe ah_spare(&spec, terminated(request.directory), &status, &shared)
        }
        stdio.closeTheirs()
        guard pid > 0, let launch = unsafe shared else { return Stdio(ours: stdio.ours).closeAll() }
        unsafe spare = SpareProcess(
            number: number, pid: Int32(pid), status: status, launch: launch, streams: stdio,
            madeAt: ah_now_microseconds())
        if stdio.ours[0] >= 0 { watch(stdio.ours[0], Source.input, number) }
        watch(stdio.ours[1], Source.stdout, number)
        watch(stdio.ours[2], Source.stderr, number)
        watch(status, Source.status, number)
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
