internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisSandboxTypes
internal import AegisSessions
internal import AegisWire
internal import Synchronization

/// One client on the stream of an instance's command; for an ephemeral instance it is the one that it lives by.
struct AttachSession: Sendable {
    let instance: Instance
    let stream: any ByteStream
    let start: Bool
    let request: AttachRequest

    func run() async {
        let frames = FrameConnection(stream)
        let ephemeral = await instance.info.ephemeral
        if ephemeral { await instance.clientArrived() }
        let notices = NoticePump(frames)
        let listener = instance.notices.listen { [instance] text in
            if notices.take(text) { instance.afterwards("notice") { await notices.send() } }
        }
        let hold = await instance.attachHold()
        do {
            let (end, attempt) = try await attach(frames)
            instance.notices.leave(listener)
            if case .clientGone = end {
                await leave(ephemeral)
            } else {
                try await conclude(end, of: attempt, frames, ephemeral: ephemeral)
            }
        } catch {
            instance.notices.leave(listener)
            await leave(ephemeral)
            // Whoever is cut off by the end of the daemon comes back to the next one.
            if !(error is CancellationError) { try? await frames.write(.error(explain(error))) }
        }
        _ = consume hold
        stream.close()
        await instance.saidFarewell()
    }

    /// The client has gone: what lived by it goes too, unless another client is there or the daemon itself goes and
    /// leaves its sandboxes alone.
    private func leave(_ ephemeral: Bool) async {
        guard ephemeral, await instance.clientLeft(), !Task.isCancelled, !instance.gate.leavesAlone else { return }
        await instance.discard()
    }

    /// - Returns: how it ended, and the start of the instance that it was about.
    private func attach(_ frames: FrameConnection) async throws -> (ProcessBridge.End, attempt: UInt64) {
        if start { try await instance.beginFirstStart() }
        let (known, attempt) = await instance.commandRelay()
        guard let relay = known else {
            // How it ended is known from the record; what it wrote last went with the daemon that had it.
            if let offsets = request.offsets, await instance.hasOutput(beyond: offsets) {
                throw AegisError.failed(
                    "output-lost", "the command has ended, and the end of its output was lost with the daemon")
            }
            return (.lost, attempt)
        }
        // A daemon that leaves its instances alone cuts its clients off: they come back to the next one. An end that is
        // known is for this client to hear from this daemon.
        let stream = stream
        let cut = instance.gate.onLeaving { if !relay.hasEnded { stream.close() } }
        defer { instance.gate.forget(cut) }
        let (watcher, offsets) = try relay.attach(from: request.offsets)
        defer { relay.detach(watcher) }
        // Without a session nobody takes input any more: the client's own count stands.
        let stdin = await instance.command()?.session.inputOffset(relay.number).map { "\"stdin_offset\":\($0)," } ?? ""
        try await frames.write(
            .hello(
                "{\"process\":\"\(relay.number)\",\"tty\":\(await instance.hasTerminal),\(stdin)\"stdout_offset\":\(offsets[.stdout] ?? 0),"
                    + "\"stderr_offset\":\(offsets[.stderr] ?? 0)}"))
        let instance = instance
        let end = await ProcessBridge(frames: frames, relay: relay, watcher: watcher) {
            _ = try? await instance.started()
            return await instance.command()?.session
        }.run()
        return (end, attempt)
    }

    /// Tells the client how the run ended: at once when the command of an ephemeral instance ended by itself, else after
    /// the instance has come to rest (and, if it was ephemeral, is gone or stays for its files).
    private func conclude(
        _ end: ProcessBridge.End, of attempt: UInt64, _ frames: FrameConnection, ephemeral: Bool
    ) async throws {
        if ephemeral, !instance.lingers, case .exited(let code) = end,
            let isOutOfMemory = try await instance.leave(attempt)
        {
            let reason: InstanceLifecycle.StopReason = isOutOfMemory && code == 137 ? .oom : .exited
            return try await frames.write(
                .exit(code, detail: "{\"reason\":\"\(reason.rawValue)\",\"oom_killed\":\(isOutOfMemory)}"))
        }
        // Only the end of the sandbox says how this one ended.
        await instance.saidFarewell()
        let outcome = try await instance.end(of: attempt)
        if ephemeral, await instance.clientLeft() {
            // One that lingers is left for the client to remove: it fetches artifacts first.
            if instance.lingers { await instance.awaitClient() } else { await instance.delete() }
        }
        if let error = outcome?.error, outcome?.reason == .bootFailed {
            return try await frames.write(.error(error))
        }
        var code = outcome?.exitCode
        if case .exited(let own) = end, outcome?.reason != .timeout { code = own }
        guard let code else {
            return try await frames.write(
                .error(
                    outcome?.error ?? daemonStopped(outcome)
                        ?? .failed(
                            "sandbox-lost", "the sandbox was lost: how its command ended is not known",
                            hint: "see 'aegis logs'")))
        }
        let reason = daemonStopped(outcome)?.code ?? outcome?.reason.rawValue ?? "exited"
        var fields =
            "\"reason\":\"\(reason)\",\"oom_killed\":\(outcome?.oomKilled ?? false)"
        // {"error":{...}} without its braces.
        if let error = outcome?.error { fields += "," + Self.inner(error) }
        let detail = "{\(fields)}"
        try await frames.write(.exit(code, detail: detail))
    }
}

extension AttachSession {
    /// Why the run ended, if it did not by itself and the daemon stops all instances.
    private func daemonStopped(_ outcome: InstanceLifecycle.Outcome?) -> AegisError? {
        guard instance.gate.isClosed, outcome?.reason == .stopped || outcome?.reason == .deleted else { return nil }
        return AegisError(
            .unavailable, "daemon-stopped", "the daemon was stopped, and the command with it",
            hint: "start the daemon again with 'aegis up'")
    }

    /// The error's JSON body as a field of a larger object.
    private static func inner(_ error: AegisError) -> String {
        let body = String(decoding: error.jsonBody, as: UTF8.self)
        return String(
            body[(body.firstIndex(of: "{").map(body.index(after:)) ?? body.startIndex)...].prefix { $0 != "\n" }
                .dropLast())
    }
}

/// Hands notices to one client: the last one counts, and one is under way at a time, however slow the client is.
private final class NoticePump: Sendable {
    private struct State {
        var text: String?
        var isSending = false
    }
    private let state = Mutex(State())
    private let frames: FrameConnection

    init(_ frames: FrameConnection) { self.frames = frames }

    /// Takes a text; true when the caller has to see to it that `send` runs.
    func take(_ text: String) -> Bool {
        state.withLock { state in
            state.text = text
            defer { state.isSending = true }
            return !state.isSending
        }
    }

    func send() async {
        while let text = next() {
            try? await frames.write(.notice("{\"kind\":\"pull\",\"text\":\(JSONBody.quoted(text))}"))
        }
    }

    private func next() -> String? {
        state.withLock { state in
            defer { state.text = nil }
            if state.text == nil { state.isSending = false }
            return state.text
        }
    }
}

func explain(_ error: any Error) -> AegisError {
    switch error {
    case let error as AegisError: error
    case let error as ProcessStartError: error.error
    case let error as HTTPError: error.aegisError
    default: .failed("internal-error", "\(error)")
    }
}
