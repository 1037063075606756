internal import AegisCore
internal import AegisIO
package import AegisInstances
internal import AegisSandboxTypes
internal import AegisSessions
internal import AegisWire

/// Live streams: attach to an instance's command, run further processes (decision D10).
package struct StreamRoutes: Sendable {
    private let directory: InstanceDirectory

    /// Routes over a directory.
    package init(_ directory: InstanceDirectory) { self.directory = directory }

    package var routes: [Route] {
        [
            Route(
                .post, "/v1/instances/{id}/attach", "Stream the command's input and output (Upgrade: aegis-stream/1)",
                query: ["start"]
            ) { context, writer in
                // Whoever comes back at once is not served by a daemon that cuts it off again.
                try directory.checkStays()
                let instance = try directory.find(context.parameter("id"), for: context.caller)
                let request = try await JSONBody.decode(AttachRequest.self, from: context)
                let start = try context.flag("start")
                try requireUpgrade(context)
                // Who comes back with offsets wants the end of what it has seen; who comes anew would get that of an old run.
                if !start, request.offsets == nil { try await instance.checkAttachable() }
                let stream = try await writer.upgrade(to: StreamProtocol.name)
                await AttachSession(instance: instance, stream: stream, start: start, request: request).run()
            },
            Route(
                .post, "/v1/instances/{id}/exec", "Run a process: NDJSON, or a stream with Upgrade: aegis-stream/1"
            ) { context, writer in
                let instance = try directory.find(context.parameter("id"), for: context.caller)
                let request = try await JSONBody.decode(ExecRequest.self, from: context)
                if context.request.wantsUpgrade {
                    try requireUpgrade(context)
                    let stream = try await writer.upgrade(to: StreamProtocol.name)
                    await ExecStream(instance: instance, stream: stream, request: request).run()
                } else {
                    try await ExecRecords(instance: instance, request: request).run(writer)
                }
            },
        ]
    }

    private func requireUpgrade(_ context: RequestContext) throws(AegisError) {
        guard StreamProtocol.negotiate(context.request.headers) != nil else {
            throw .usage(
                "this route speaks \(StreamProtocol.name)",
                hint: "send 'Connection: Upgrade' and 'Upgrade: \(StreamProtocol.name)'")
        }
    }
}

/// Where a client that comes back wants to go on.
struct AttachRequest: Decodable, Sendable {
    var stdoutOffset: UInt64?
    var stderrOffset: UInt64?

    enum CodingKeys: String, CodingKey, CaseIterable {
        case stdoutOffset = "stdout_offset"
        case stderrOffset = "stderr_offset"
        case stdinOffset = "stdin_offset"
    }

    init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        stdoutOffset = try c.decodeIfPresent(UInt64.self, forKey: .stdoutOffset)
        stderrOffset = try c.decodeIfPresent(UInt64.self, forKey: .stderrOffset)
    }

    var offsets: [OutputKind: UInt64]? {
        guard stdoutOffset != nil || stderrOffset != nil else { return nil }
        return [.stdout: stdoutOffset ?? 0, .stderr: stderrOffset ?? 0]
    }
}
