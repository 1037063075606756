internal import AegisBackends
internal import AegisChannel
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisImages
package import AegisSandboxTypes
internal import AegisSessions
internal import LinuxSys
internal import Synchronization

/// What a kit has an instance do at a start: files into its workspace, commands inside before and after its own.
extension Instance {
    /// The most bytes of a hook's output that an error shows.
    private static let shownOutput = 2000

    /// The MCP servers that the instance's kit brings.
    package var kitServers: [KitTool] { stored.kit?.tools ?? [] }

    // MARK: The workspace

    /// Copies the kit's files into a workspace that is empty, once. A folder of the user's is the user's.
    nonisolated func layOut(_ stored: StoredInstance, in place: HostPlaces.Place, as user: FileIdentity) async throws {
        guard let kit = stored.kit, !kit.workspace.isEmpty, kit.layout != .done, stored.workspaceKind != .host,
            stored.agent?.folder == nil
        else { return }
        let folder = place.opened
        // One that an earlier daemon had begun to fill is not empty and not whole.
        if kit.layout == nil {
            guard try await BlockingPool.shared.run({ try WorkspaceLayout.isEmpty(folder) }) else {
                return try await remember(layout: .done)
            }
            try await remember(layout: .begun)
        }
        let places = HostPlaces(services: services, stored: stored)
        let owner = place.givenTo ?? user
        for file in kit.workspace {
            let source = try await places.kitPath(file.from)
            try await BlockingPool.shared.run {
                try WorkspaceLayout.copy(source, to: file.to, in: folder, owner: owner)
            }
        }
        try await remember(layout: .done)
    }

    private func remember(layout: KitPlan.Layout) throws {
        stored.kit?.layout = layout
        try services.store.update(stored)
    }

    // MARK: Commands

    /// Runs what the kit wants to have run before the instance's command.
    ///
    /// - Throws: `hook-failed` with what the hook wrote, `hook-timeout`.
    func beforeCommand() async throws {
        for hook in stored.kit?.hooks.before ?? [] { try await run(hook: hook) }
    }

    /// Waits until the command is healthy, then runs what the kit wants to have run after it.
    ///
    /// - Throws: `not-healthy`, `hook-failed`, `hook-timeout`.
    func afterCommand() async throws {
        if let health = stored.kit?.health, let probe = health.exec { try await untilHealthy(health, probe) }
        for hook in stored.kit?.hooks.after ?? [] { try await run(hook: hook) }
    }

    /// Whether the kit has something done after the command was started, before the instance runs.
    var waitsForKit: Bool { stored.kit?.health?.exec != nil || stored.kit?.hooks.after.isEmpty == false }

    private func run(hook: KitCommand) async throws {
        let end: Finished
        do {
            end = try await finish(hook, logged: true)
        } catch let error as ProcessStartError {
            throw AegisError.failed("hook-failed", "\(name(hook)) could not be started: \(error.error.message)")
        }
        guard let code = end.code else {
            // A new instance goes with its log: what there is to know is said here.
            throw AegisError(
                .timeout, "hook-timeout", "\(name(hook)) did not end within \(hook.timeout)\(end.said)",
                hint: "the instance was not started; correct the cause, or give the hook more time in the kit")
        }
        guard code != 0 else { return }
        throw AegisError.failed(
            "hook-failed", "\(name(hook)) failed with exit code \(code)\(end.said)",
            hint: "the instance was not started; correct the cause, and start it again")
    }

    private func name(_ hook: KitCommand) -> String {
        "the hook '\(hook.command.joined(separator: " ").prefix(80))' of kit \(stored.kit?.reference ?? "")"
    }

    private func untilHealthy(_ health: KitHealth, _ probe: [String]) async throws {
        let end = uptime + health.timeout.duration
        var last = ""
        while true {
            let left = end - uptime
            guard left > .zero else {
                throw AegisError(
                    .timeout, "not-healthy",
                    "'\(probe.joined(separator: " ").prefix(80))' of kit \(stored.kit?.reference ?? "") did not succeed within \(health.timeout)\(last)",
                    hint: "'aegis run' with this kit shows what the command writes; the time is in the kit")
            }
            let milliseconds = left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000
            let command = KitCommand(command: probe, timeout: TimeSpan(milliseconds: max(1, milliseconds)))
            do {
                let result = try await finish(command, logged: false)
                if result.code == 0 { return }
                if result.code != nil || !result.said.isEmpty { last = result.said }
            } catch let error as ProcessStartError {
                last = ": \(error.error.message)"
            }
            try await services.clock.sleep(for: min(health.interval.duration, max(.zero, end - uptime)))
        }
    }

    /// How a command inside has ended.
    private struct Finished: Sendable {
        /// Nil when its time was over first.
        var code: Int32?
        /// The end of its output, put so that it can follow a sentence.
        var said: String
    }

    /// Runs a command inside to its end, and nothing of it stays.
    private func finish(_ hook: KitCommand, logged: Bool) async throws -> Finished {
        guard let session else { throw IOError.closed }
        let config = try knownImage()
        let message = StartProcess(
            kind: .exec, arguments: hook.command.map { Array($0.utf8) },
            environment: try environment(config, more: [:]), directory: Array(workingDirectory(config).utf8),
            user: Array(try config.user(overriddenBy: hook.user ?? stored.user).description.utf8),
            stdin: false, createDirectory: true)
        var random = SystemRandomNumberGenerator()
        let execID = logged ? Identifiers.exec(using: &random) : nil
        let process = try await run(message, on: session, execID: execID, logged: logged, takesInput: false)
        defer { finish(process) }
        let output = Output()
        do {
            let code = try await withDeadline(hook.timeout.duration, clock: services.clock) {
                try await Self.follow(process, into: output)
            }
            return Finished(code: code, said: output.said)
        } catch {
            // Its number is taken until it has ended.
            session.signal(process.relay.number, 9, group: true)
            _ = await process.relay.ended()
            guard let error = error as? IOError, error.kind == .timeout else { throw error }
            return Finished(code: nil, said: output.said)
        }
    }

    /// The end of what a command inside has written so far.
    private final class Output: Sendable {
        private let bytes = Mutex<[UInt8]>([])

        func add(_ more: some Sequence<UInt8>) {
            bytes.withLock { bytes in
                bytes += more
                if bytes.count > shownOutput { bytes.removeFirst(bytes.count - shownOutput) }
            }
        }

        /// Put so that it can follow a sentence.
        var said: String {
            let text = bytes.withLock { String(decoding: $0, as: UTF8.self) }.trimmedEnd
            return text.isEmpty ? "" : ": \(text)"
        }
    }

    /// - Returns: the exit code.
    private static func follow(_ process: RunningProcess, into output: Output) async throws -> Int32 {
        let (watcher, _) = try process.relay.attach(from: nil)
        defer { process.relay.detach(watcher) }
        while let piece = await process.relay.next(watcher) {
            switch piece {
            case .bytes(let kind, let offset, let bytes):
                output.add(bytes)
                process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            case .exited(let end):
                return Int32(end.code)
            case .lost:
                throw IOError.closed
            }
        }
        throw CancellationError()
    }
}

extension String {
    /// Without white space at its end.
    fileprivate var trimmedEnd: String {
        var rest = Substring(self)
        while let last = rest.last, last.isWhitespace { rest.removeLast() }
        return String(rest)
    }
}
