internal import AegisAudit
internal import AegisChannel
package import AegisCore
internal import AegisIO
internal import AegisImages
internal import AegisJSON
internal import AegisLogs
package import AegisSandboxTypes
internal import AegisSecrets
package import AegisSessions

/// A process that runs in an instance for a client, or a copy in or out of it.
package struct RunningProcess: Sendable {
    /// The exec id that log records carry; nil for the instance's own command.
    package var execID: String?
    package var relay: ProcessRelay
    package var session: HarnessSession
    package var startedAt: Timestamp
    /// Whether stdin is open.
    package var takesInput: Bool
    /// Keeps the instance awake while anybody has to do with the process.
    package var hold: SharedHold?
}

extension Instance {
    /// Starts a further process; wakes a paused instance.
    ///
    /// - Parameters:
    ///   - request: what is to run.
    ///   - secrets: names of secrets that this process alone gets, as variables.
    ///   - logged: whether its output is stored; that of a process with secrets of its own must not be.
    ///   - limit: after how long it is killed, whatever has become of this daemon by then; nil is never.
    /// - Returns: the process.
    /// - Throws: `instance-stopped` unless the request asks for a start; `ProcessStartError` for an unknown command;
    ///   `secret-not-found`.
    package func exec(
        _ request: ExecRequest, secrets: [String] = [], logged: Bool = true, limit: Duration? = nil
    ) async throws -> RunningProcess {
        guard !request.command.isEmpty else {
            throw AegisError.usage("a command is missing", hint: "write it after --, as in: aegis exec \(label) -- ls")
        }
        let hold = try await self.hold(request.tty == true ? .terminal : .exec, start: request.start ?? false)
        guard let session else { throw notRunning("run a command in") }
        var random = SystemRandomNumberGenerator()
        let execID = Identifiers.exec(using: &random)
        let config = try knownImage()
        let message = StartProcess(
            kind: .exec, arguments: request.command.map { Array($0.utf8) },
            environment: try environment(config, more: request.env ?? [:], secrets: secrets),
            directory: Array((request.workdir ?? workingDirectory(config)).utf8),
            user: Array(try config.user(overriddenBy: request.user ?? stored.user).description.utf8),
            terminal: request.tty ?? false,
            stdin: request.stdin ?? false, createDirectory: false, columns: request.columns ?? 80,
            rows: request.rows ?? 24, limit: limit.map { UInt32(clamping: max(1, Int64($0 / .milliseconds(1)))) } ?? 0)
        try services.audit.record(.exec(request.command, id: execID, user: request.user ?? stored.user, in: self))
        var process = try await run(
            message, on: session, execID: execID, logged: logged && secrets.isEmpty, takesInput: request.stdin ?? false)
        process.hold = SharedHold(hold)
        return process
    }

    /// The variables of a process, with secrets that it alone gets.
    private func environment(
        _ config: ImageConfig, more: [String: String], secrets names: [String]
    ) throws -> [[UInt8]] {
        let all = try environment(config, more: more)
        guard !names.isEmpty else { return all }
        let secrets = try services.secrets.resolve(names)
        try services.audit.record(
            AuditEvent(
                .secretUsed, agent: id, parent: maker,
                ("secrets", .array(secrets.map { .string($0.name) })), ("as", "environment")))
        let marks = names.map { Array("\($0)=".utf8) }
        return all.filter { entry in !marks.contains { entry.starts(with: $0) } }
            + secrets.map { Array("\($0.name)=".utf8) + $0.value.reveal() }
    }

    /// Starts to send a tree of the sandbox as a tar stream (on the process's stdout).
    package func copyOut(_ path: String) async throws -> RunningProcess {
        try await copy(.copyOut, path)
    }

    /// Starts to receive a tar stream (on the process's stdin) beneath a folder of the sandbox.
    package func copyIn(_ path: String) async throws -> RunningProcess {
        try await copy(.copyIn, path)
    }

    private func copy(_ kind: ProcessKind, _ path: String) async throws -> RunningProcess {
        guard path.hasPrefix("/") else {
            throw AegisError.usage("'\(path)' is not an absolute path inside", hint: "write it as \(label):/path")
        }
        let hold: Hold
        if kind == .copyOut, try await isLingering() {
            hold = holds.hold(.copy)
        } else {
            hold = try await self.hold(.copy)
        }
        guard let session else { throw notRunning("copy files of") }
        let message = StartProcess(
            kind: kind, arguments: [Array(path.utf8)], environment: [], directory: Array("/".utf8),
            stdin: kind == .copyIn)
        try services.audit.record(
            AuditEvent(
                .filesCopied, agent: id, ("direction", kind == .copyOut ? "out" : "in"), ("path", .string(path))))
        var process = try await run(message, on: session, execID: nil, logged: false, takesInput: kind == .copyIn)
        process.hold = SharedHold(hold)
        return process
    }

    func run(
        _ message: StartProcess, on session: HarnessSession, execID: String?, logged: Bool, takesInput: Bool
    ) async throws -> RunningProcess {
        guard let number = processes.freeNumber() else {
            throw AegisError.conflict("process-limit", "\(label) has too many processes", hint: "end some of them")
        }
        let table = processes
        let relay = ProcessRelay(
            number: number, journal: logged ? journal(execID) : nil, holdsForWatcher: true
        ) { kind, offset in session.acknowledge(number, kind, upTo: offset) }
        table.add(relay)
        do {
            _ = try await session.start(number, message)
        } catch {
            table.remove(number)
            throw error is IOError ? notRunning("run") : error
        }
        return RunningProcess(execID: execID, relay: relay, session: session, startedAt: .now(), takesInput: takesInput)
    }

    /// Keeps the instance awake for a client at its command that types. Who only watches keeps nothing awake that a port can
    /// wake: it sees what comes when it comes.
    package func attachHold() async -> SharedHold? {
        let types = stored.tty || stored.stdin
        guard types || stored.info.expose.isEmpty else { return nil }
        let hold = holds.hold(.terminal)
        if types, machine.phase == .paused || machine.phase == .freezing { _ = try? await resume() }
        return SharedHold(hold)
    }

    /// The end of a process was handled: its number is free again.
    package func finish(_ process: RunningProcess) {
        processes.remove(process.relay.number)
        process.session.forget(process.relay.number)
        if let execID = process.execID { note(log.forget(LogProcess(run: log.run, execID: execID))) }
    }

    /// The instance's own command, for attaching.
    package func command() -> RunningProcess? {
        guard let relay = processes[Channel.taskProcess], let session else { return nil }
        return RunningProcess(
            execID: nil, relay: relay, session: session, startedAt: stored.info.startedAt ?? stored.info.createdAt,
            takesInput: stored.stdin)
    }

    /// Whether the command has a terminal.
    package var hasTerminal: Bool { stored.tty }

    /// Finds out whether there is a command to attach to, or will be; an end that is under way is waited for.
    ///
    /// - Throws: `instance-stopped`.
    package func checkAttachable() async throws {
        try await wait { $0.phase != .recording && $0.phase != .releasing }
        if machine.phase == .stopped { throw notRunning("attach to") }
    }

    /// The relay of the command, there from the moment a start begins, and the number of that start.
    package func commandRelay() -> (relay: ProcessRelay?, attempt: UInt64) {
        (processes[Channel.taskProcess], machine.attempt)
    }

    /// Whether the last run wrote more than a client has got.
    package func hasOutput(beyond offsets: [OutputKind: UInt64]) -> Bool {
        let process = LogProcess(run: log.run, execID: nil)
        return log.savedOffset(process, .stdout) > offsets[.stdout] ?? 0
            || log.savedOffset(process, .stderr) > offsets[.stderr] ?? 0
    }

    /// Whether its sandbox stays for its files, although its command has ended.
    private func isLingering() async throws -> Bool {
        try await wait { $0.phase != .quiescing }
        return machine.phase == .lingering
    }

    /// The error of who needs it running and does not ask for a start; `deed` is what cannot be done, in whole words.
    func stopped(_ deed: String) -> AegisError {
        .conflict(
            "instance-stopped", "\(label) is stopped: cannot \(deed)",
            hint:
                "start it with 'aegis instance start \(label)'; 'exec --start' does so and runs its command again"
        )
    }
}
