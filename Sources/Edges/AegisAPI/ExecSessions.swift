internal import AegisChannel
internal import AegisCore
internal import AegisIO
internal import AegisInstances
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
            let process = try await instance.exec(request)
            let (watcher, _) = try process.relay.attach(from: nil)
            let session = process.session
            try await frames.write(
                .hello(
                    "{\"exec_id\":\"\(process.execID ?? "")\",\"process\":\(process.relay.number),\"stdin_offset\":0,\"stdout_offset\":0,\"stderr_offset\":0}"
                ))
            let end = await ProcessBridge(frames: frames, relay: process.relay, watcher: watcher) { session }.run()
            switch end {
            case .exited(let code):
                await instance.finish(process)
                try await frames.write(.exit(code))
            case .lost:
                try await frames.write(
                    .error(.conflict("instance-stopped", "the instance was stopped while the command ran")))
            case .clientGone: await hangUp(process, watcher)
            }
        } catch {
            try? await frames.write(.error(explain(error)))
        }
        stream.close()
    }

    private func hangUp(_ process: RunningProcess, _ watcher: UInt64) async {
        let instance = instance
        instance.afterwards("exec-hangup") {
            process.session.signal(process.relay.number, 1, group: true)
            await instance.pauseFor(.seconds(5))
            process.session.signal(process.relay.number, 9, group: true)
        }
        instance.afterwards("exec-drain") {
            while let piece = await process.relay.next(watcher) {
                guard case .bytes(let kind, let offset, let bytes) = piece else { break }
                process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            }
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
        var body = try await writer.stream(200, headers: ["Content-Type": "application/x-ndjson"])
        let id = process.execID ?? ""
        try await body.write(Array("{\"exec_id\":\"\(id)\",\"started_at\":\"\(process.startedAt)\"}\n".utf8))
        var lines = ExecLines(execID: id)
        var code: Int32?
        loop: while let piece = await process.relay.next(watcher) {
            switch piece {
            case .bytes(let kind, let offset, let bytes):
                for record in lines.feed(bytes, stream: kind == .stdout ? "stdout" : "stderr") {
                    try await body.write(JSONBody.encode(record))
                }
                process.relay.consumed(watcher, kind, upTo: offset + UInt64(bytes.count))
            case .exited(let end):
                code = Int32(truncatingIfNeeded: end.code)
                break loop
            case .lost: break loop
            }
        }
        for record in lines.finish() { try await body.write(JSONBody.encode(record)) }
        await instance.finish(process)
        let ending = code.map { "\"exit_code\":\($0)" } ?? "\"exit_code\":null,\"error\":\"instance-stopped\""
        try await body.write(Array("{\"exec_id\":\"\(id)\",\(ending),\"done\":true}\n".utf8))
        try await body.finish()
    }
}
