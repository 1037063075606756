internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisSandboxTypes
internal import AegisSessions
internal import AegisWire

/// One client on the stream of an instance's command; for an ephemeral instance it is the one that it lives by.
struct AttachSession: Sendable {
    let instance: Instance
    let stream: any ByteStream
    let start: Bool
    /// Leave an ephemeral instance for the client to remove (it fetches artifacts first).
    let keep: Bool
    let request: AttachRequest

    func run() async {
        let frames = FrameConnection(stream)
        let ephemeral = await instance.info.ephemeral
        if ephemeral { await instance.clientArrived() }
        let listener = instance.notices.listen { [instance] text in
            instance.afterwards("notice") {
                try? await frames.write(.notice("{\"kind\":\"pull\",\"text\":\(JSONBody.quoted(text))}"))
            }
        }
        let hold = instance.holds.hold(.connection)
        do {
            let end = try await attach(frames)
            instance.notices.leave(listener)
            if case .clientGone = end {
                if ephemeral { await instance.discard() }
            } else {
                try await conclude(end, frames, ephemeral: ephemeral)
            }
        } catch {
            instance.notices.leave(listener)
            if ephemeral { await instance.discard() }
            try? await frames.write(.error(explain(error)))
        }
        _ = consume hold
        stream.close()
    }

    private func attach(_ frames: FrameConnection) async throws -> ProcessBridge.End {
        if start, await instance.info.state == .stopped { try await instance.beginStart() }
        guard let relay = await instance.commandRelay() else { return .lost }
        let (watcher, offsets) = try relay.attach(from: request.offsets)
        defer { relay.detach(watcher) }
        let stdin = await instance.command()?.session.inputOffset(relay.number) ?? 0
        try await frames.write(
            .hello(
                "{\"process\":\(relay.number),\"stdin_offset\":\(stdin),\"stdout_offset\":\(offsets[.stdout] ?? 0),"
                    + "\"stderr_offset\":\(offsets[.stderr] ?? 0)}"))
        let instance = instance
        return await ProcessBridge(frames: frames, relay: relay, watcher: watcher) {
            _ = try? await instance.started()
            return await instance.command()?.session
        }.run()
    }

    /// Tells the client how the run ended, after the instance has come to rest (and, if it was ephemeral, is gone).
    private func conclude(_ end: ProcessBridge.End, _ frames: FrameConnection, ephemeral: Bool) async throws {
        await instance.settled()
        let outcome = await instance.outcome
        if ephemeral {
            if keep { await instance.awaitClient() } else { await instance.delete() }
        }
        if let error = outcome?.error, outcome?.reason == .bootFailed {
            return try await frames.write(.error(error))
        }
        var code = outcome?.exitCode
        if case .exited(let own) = end, outcome?.reason != .timeout { code = own }
        guard let code else {
            return try await frames.write(
                .error(
                    outcome?.error
                        ?? .failed(
                            "sandbox-lost", "the sandbox was lost: how its command ended is not known",
                            hint: "see 'aegis logs'")))
        }
        let detail =
            "{\"reason\":\"\(outcome?.reason.rawValue ?? "exited")\",\"oom_killed\":\(outcome?.oomKilled ?? false)}"
        try await frames.write(.exit(code, detail: detail))
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
