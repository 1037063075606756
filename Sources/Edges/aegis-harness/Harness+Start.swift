import AegisChannelEmbedded
import CHarness

extension Harness {
    /// Starts what a `start` frame asks for, or says why not.
    func start(_ number: UInt16, _ payload: [UInt8]) {
        guard let request = try? StartProcess(decoding: payload), !request.arguments[0].isEmpty else {
            return refuse(number, .other, Code.invalid, bytes("the request to start a process is malformed"))
        }
        if request.kind == .spare { return makeSpare(number, request) }
        dropReady()
        guard shutdown == nil else { return refuse(number, .other, 0, bytes("the sandbox is shutting down")) }
        if request.kind == .door && process(number) == nil { return openDoor(number, request) }
        guard processes.count < Channel.liveLimit, process(number) == nil, door?.number != number else {
            return refuse(number, .limit, 0, bytes("the sandbox runs as many processes for Aegis as it may"))
        }
        guard !haveNUL(request.arguments), !haveNUL(request.environment), !request.directory.contains(0) else {
            return refuse(number, .other, Code.invalid, bytes("an argument, variable or path contains a NUL"))
        }
        guard request.directory.isEmpty || request.directory[0] == 0x2f else {
            return refuse(number, .badDirectory, Code.invalid, request.directory + bytes(": not an absolute path"))
        }
        let account: Account
        do throws(AccountError) {
            account = try Accounts.resolve(
                request.user, passwd: passwd.contents("/etc/passwd", isKnown: spare != nil),
                group: group.contents("/etc/group", isKnown: spare != nil))
        } catch {
            let what: [UInt8]
            switch error {
            case .noUser: what = bytes(": no such user in the sandbox's /etc/passwd")
            case .noGroup: what = bytes(": no such group in the sandbox's /etc/group")
            case .malformed: what = bytes(": not of the form USER or USER:GROUP")
            }
            return refuse(number, .unknownUser, 0, request.user + what)
        }
        if startSpare(number, request, account) { return }
        var stdio = Stdio()
        let opened = open(&stdio, request, account)
        guard opened >= 0 else {
            stdio.closeAll()
            return refuse(number, .limit, -opened, bytes("no descriptors for its streams: ") + errorText(-opened))
        }
        launch(number, request, account, stdio)
    }

    func refuse(_ number: UInt16, _ reason: StartFailure, _ code: Int, _ text: [UInt8]) {
        let short = Array(text.prefix(Channel.reportLimit - 64))
        let failure = ProcessFailed(reason: reason, errno: UInt32(truncatingIfNeeded: code), text: short)
        outgoing.appendFrame(.failed, stream: number, failure.encoded())
    }

    /// Both sides of a process's streams.
    struct Stdio {
        /// The process's: stdin, stdout, stderr.
        var theirs: [Int32] = [-1, -1, -1]
        /// Ours.
        var ours: [Int32] = [-1, -1, -1]

        func closeTheirs() {
            for i in 0..<3 where theirs[i] >= 0 && !theirs[..<i].contains(theirs[i]) { ah_close(theirs[i]) }
        }
        func closeAll() {
            closeTheirs()
            for i in 0..<3 where ours[i] >= 0 && !ours[..<i].contains(ours[i]) { ah_close(ours[i]) }
        }
    }

    func open(_ stdio: inout Stdio, _ request: StartProcess, _ account: Account) -> Int {
        if request.terminal && request.kind != .copyIn && request.kind != .copyOut {
            if terminalsLackSignals == nil { terminalsLackSignals = ah_terminals_lack_signals() != 0 }
            var master: Int32 = -1
            var slave: Int32 = -1
            let result = unsafe ah_open_terminal(&master, &slave, request.columns, request.rows)
            guard result >= 0 else { return result }
            // Programs that give up root still want to open their terminal.
            ah_chown_descriptor(slave, account.uid, account.gid)
            stdio.theirs = [slave, slave, slave]
            stdio.ours = [master, master, -1]
            return 0
        }
        let result = openPipes(&stdio)
        // Without stdin the writing end is closed at once: the process reads end-of-file.
        if result >= 0 && !request.stdin {
            ah_close(stdio.ours[0])
            stdio.ours[0] = -1
        }
        return result
    }

    func openPipes(_ stdio: inout Stdio) -> Int {
        var result = unsafe ah_pipe(&stdio.theirs[0], &stdio.ours[0])
        if result >= 0 { result = unsafe ah_pipe(&stdio.ours[1], &stdio.theirs[1]) }
        if result >= 0 { result = unsafe ah_pipe(&stdio.ours[2], &stdio.theirs[2]) }
        return result
    }

    private func launch(_ number: UInt16, _ request: StartProcess, _ account: Account, _ stdio: Stdio) {
        let isCopy = request.kind == .copyIn || request.kind == .copyOut
        var status: Int32 = -1
        var shared: OpaquePointer?
        let pid: Int
        if isCopy {
            pid = ah_fork(stdio.theirs[0], stdio.theirs[1], stdio.theirs[2])
            if pid == 0 { copy(request, account) }
        } else {
            pid = unsafe Self.withSpec(request, account, stdio.theirs) { unsafe ah_spawn(&$0, &status, &shared) }
        }
        stdio.closeTheirs()
        guard pid > 0 else {
            Stdio(ours: stdio.ours).closeAll()
            let isLimit = pid == -Code.again || pid == -Code.noMemory || pid == -Code.tooManyFiles
            return refuse(number, isLimit ? .limit : .other, -pid, bytes("no new process: ") + errorText(-pid))
        }
        let process = unsafe GuestProcess(
            number: number, pid: Int32(pid), terminal: stdio.ours[0] >= 0 && stdio.ours[0] == stdio.ours[1],
            status: status, launch: shared, program: request.arguments[0], directory: request.directory)
        process.input.descriptor = stdio.ours[0]
        process.output[0].descriptor = stdio.ours[1]
        process.output[1].descriptor = stdio.ours[2]
        if request.limit > 0 { setDeadline(of: process, UInt64(request.limit) * 1000) }
        processes.append(process)
        if process.input.descriptor >= 0 && !process.terminal { watch(stdio.ours[0], Source.input, number) }
        watch(stdio.ours[1], Source.stdout, number)
        if process.output[1].isOpen { watch(stdio.ours[2], Source.stderr, number) }
        if status >= 0 { watch(status, Source.status, number) } else { reportStart(process) }
    }

    private func copy(_ request: StartProcess, _ account: Account) -> Never {
        if request.kind == .copyOut { ah_exit(CopyOut().run(request.arguments[0])) }
        var copy = CopyIn(owner: (account.uid, account.gid))
        ah_exit(copy.run(into: request.arguments[0]))
    }

    /// Where programs are looked for with this value of PATH, for C.
    static func searchPath(_ path: [UInt8]) -> [UInt8] {
        terminated(path.isEmpty ? bytes("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin") : path)
    }

    /// Calls `body` with a request in the words of C.
    static func withSpec(
        _ request: StartProcess, _ account: Account, _ stdio: [Int32], _ body: (inout ah_spawn) -> Int
    ) -> Int {
        var environment = request.environment
        if value(of: "HOME", in: environment) == nil { environment.append(bytes("HOME=") + account.home) }
        let arguments = blob(request.arguments)
        let variables = blob(environment)
        let search = searchPath(value(of: "PATH", in: environment) ?? [])
        let directory = terminated(request.directory)
        var result = 0
        unsafe arguments.withUnsafeBytes { arguments in
            unsafe variables.withUnsafeBytes { variables in
                unsafe search.withUnsafeBytes { search in
                    unsafe directory.withUnsafeBytes { directory in
                        unsafe account.groups.withUnsafeBufferPointer { groups in
                            var spec = unsafe ah_spawn()
                            unsafe spec.arguments = arguments.baseAddress
                            unsafe spec.argument_count = UInt32(request.arguments.count)
                            unsafe spec.environment = variables.baseAddress
                            unsafe spec.environment_count = UInt32(environment.count)
                            unsafe spec.search = search.baseAddress
                            unsafe spec.directory = directory.baseAddress
                            unsafe spec.groups = groups.baseAddress
                            unsafe spec.group_count = UInt32(groups.count)
                            unsafe spec.uid = account.uid
                            unsafe spec.gid = account.gid
                            unsafe spec.input = stdio[0]
                            unsafe spec.output = stdio[1]
                            unsafe spec.error = stdio[2]
                            unsafe spec.terminal = request.terminal ? 1 : 0
                            unsafe spec.create_directory = request.createDirectory ? 1 : 0
                            result = unsafe body(&spec)
                        }
                    }
                }
            }
        }
        return result
    }

    // MARK: Whether it runs

    /// At the end of its pipe the child has left our memory, and in it where it failed, if it did.
    func resolveStart(_ process: GuestProcess, isDecided: Bool = false) {
        guard process.status >= 0 else { return }
        var nothing: UInt8 = 0
        if !isDecided, unsafe ah_read(process.status, &nothing, 1) == -Code.again { return }
        closing.append(process.status)
        let report = process.endStart()
        guard report.step != 0 else { return reportStart(process) }
        let code = Int(report.code)
        let (reason, text) = Self.explain(report, process)
        refuse(process.number, reason, code, text)
        forget(process)
    }

    private func reportStart(_ process: GuestProcess) {
        process.isStarted = true
        let record = ProcessStarted(pid: UInt32(bitPattern: process.pid))
        outgoing.appendFrame(.started, stream: process.number, record.encoded())
    }

    private static func explain(_ report: ah_start_error, _ process: GuestProcess) -> (StartFailure, [UInt8]) {
        let code = Int(report.code)
        let because = bytes(": ") + errorText(code)
        switch Int(report.step) {
        case AH_STEP_TERMINAL: return (.other, bytes("its terminal") + because)
        case AH_STEP_DIRECTORY: return (.badDirectory, bytes("working directory ") + process.directory + because)
        case AH_STEP_USER: return (.other, bytes("changing to its user") + because)
        case AH_STEP_EXEC:
            let name = process.program
            if report.detail == 2 { return (.notExecutable, name + bytes(": is a folder")) }
            if code == Code.noEntry || code == Code.notDirectory {
                if report.detail == 1 { return (.notFound, name + bytes(": its interpreter does not exist")) }
                let isPath = name.contains(0x2f)
                return (.notFound, name + (isPath ? because : bytes(": no such program in PATH")))
            }
            if code == Code.execFormat {
                return (.notExecutable, name + bytes(": not a program of this machine (exec format error)"))
            }
            if code == Code.again || code == Code.noMemory { return (.limit, name + because) }
            return (.notExecutable, name + because)
        default: return (.other, bytes("preparing the process") + because)
        }
    }
}
