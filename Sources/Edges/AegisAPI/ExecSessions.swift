internal import AegisChannel
internal import AegisCore
internal import AegisIO
package import AegisInstances
internal import AegisLogs
internal import AegisSandboxTypes
internal import AegisSessions
internal import AegisWire

/// One exec on an aegis-stream. The process lives by its client: when the client goes, it is hung up on.
struct ExecStream: Sendable {
    let instance: Instance
    let stream: any ByteStream
    let request: ExecRequest

    func run() async {
        let frames = FrameConnection(stream)
        do {
            try await serve(try await instance.exec(request), frames)
        } catch {
            try? await frames.write(.error(explain(error)))
        }
        stream.close()
    }

    private func serve(_ process: RunningProcess, _ frames: FrameConnection) async throws {
        let (watcher, _) = try process.relay.attach(from: nil)
        let session = process.session
        let hello =
            "{\"exec_id\":\"\(process.execID ?? "")\",\"process\":\(process.relay.number),"
            + "\"tty\":\(request.tty ?? false),\"stdin_offset\":0,\"stdout_offset\":0,\"stderr_offset\":0}"
        var end = ProcessBridge.End.clientGone
        // From here on the process runs: whatever fails, it is not left alone.
        if (try? await frames.write(.hello(hello))) != nil {
            end = await ProcessBridge(frames: frames, relay: process.relay, watcher: watcher) { session }.run()
        }
        switch end {
        case .exited(let code):
            await instance.finish(process)
            try await frames.write(.exit(code))
        case .lost:
            await instance.finish(process)
            throw AegisError.conflict("instance-stopped", "the instance was stopped while the command ran")
        case .clientGone: process.hangUp(in: instance, watcher: watcher)
        }
    }
}

extension RunningProcess {
    /// The client of a process has gone: SIGHUP, SIGKILL after 5 s; its output goes to the log only.
    package func hangUp(in instance: Instance, watcher: UInt64) {
        let process = self
        let ended = Signal()
        instance.afterwards("exec-hangup") {
            process.session.signal(process.relay.number, 1, group: true)
            await withDiscardingTaskGroup { group in
                group.addTask { await ended.wait() }
                group.addTask {
                    await instance.pauseFor(.seconds(5))
                    if !Task.isCancelled { process.session.signal(process.relay.number, 9, group: true) }
                    ended.set()
                }
                await ended.wait()
                group.cancelAll()
            }
        }
        instance.afterwards("exec-drain") {
            while let piece = await process.relay.next(watcher) {
                guard case .bytes(let kind, let offset, let bytes) = piece else { break }
                process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            }
            ended.set()
            await instance.finish(process)
        }
    }
}

/// One exec as NDJSON for scripts: a header, the records, the end.
struct ExecRecords: Sendable {
    let instance: Instance
    let request: ExecRequest

    func run(_ writer: consuming HTTPResponseWriter) async throws {
        let process: RunningProcess
        do { process = try await instance.exec(request) } catch let error as ProcessStartError { throw error.error }
        let (watcher, _) = try process.relay.attach(from: nil)
        process.session.endInput(process.relay.number)
        var isOver = false
        defer { if !isOver { process.hangUp(in: instance, watcher: watcher) } }
        var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
        let id = process.execID ?? ""
        try await body.write(Array("{\"exec_id\":\"\(id)\",\"started_at\":\"\(process.startedAt)\"}\n".utf8))
        var lines = ExecLines(execID: id)
        var end: ProcessRelay.Piece?
        while end == nil, let piece = await process.relay.next(watcher) {
            guard case .bytes(let kind, let offset, let bytes) = piece else {
                end = piece
                continue
            }
            for record in lines.feed(bytes, stream: kind == .stdout ? "stdout" : "stderr") {
                try await body.write(JSONBody.encode(record))
            }
            process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
        }
        guard let end else { throw CancellationError() }
        isOver = true
        await instance.finish(process)
        for record in lines.finish() { try await body.write(JSONBody.encode(record)) }
        var ending = "\"exit_code\":null,\"error\":\"instance-stopped\""
        if case .exited(let status) = end { ending = "\"exit_code\":\(Int32(truncatingIfNeeded: status.code))" }
        try await body.write(Array("{\"exec_id\":\"\(id)\",\(ending),\"done\":true}\n".utf8))
        try await body.finish()
    }
}
