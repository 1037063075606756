internal import AegisChannel
package import AegisCore

/// A value in a shown message.
package enum ChannelValue: Sendable, Equatable, Encodable {
    case number(UInt64)
    case flag(Bool)
    case text(String)
    case texts([String])

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .number(let value): try container.encode(value)
        case .flag(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        case .texts(let value): try container.encode(value)
        }
    }
}

/// One message of a channel as it is shown: a JSON object of `at`, `from`, `method`, `process` and the message's own fields.
///
/// Bytes of processes are counted, never shown; of an environment only the names are; texts are cut at `textLimit`, and what
/// the run's secrets are is masked in them.
package struct ChannelRecord: Sendable, Equatable, Encodable {
    /// The most bytes of one text, and the most texts of one list.
    static let textLimit = 1024
    static let listLimit = 64

    /// When it passed the daemon.
    package var at: Timestamp
    /// daemon, harness or keeper
    package var from: String
    package var method: String
    /// The process that it is about; nil for none.
    package var process: UInt16?
    package var fields: [String: ChannelValue]

    /// About how much memory it takes, in bytes.
    var weight: Int {
        fields.values.reduce(200) { sum, value in
            switch value {
            case .number, .flag: sum + 50
            case .text(let text): sum + 50 + text.utf8.count
            case .texts(let texts): texts.reduce(sum + 50) { $0 + 16 + $1.utf8.count }
            }
        }
    }

    private struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(at, forKey: Key(stringValue: "at"))
        try container.encode(from, forKey: Key(stringValue: "from"))
        try container.encode(method, forKey: Key(stringValue: "method"))
        if let process { try container.encode(process, forKey: Key(stringValue: "process")) }
        for (name, value) in fields { try container.encode(value, forKey: Key(stringValue: name)) }
    }
}

/// Makes records of frames.
struct ChannelDescriber {
    /// Hides secrets in bytes; nil when nobody knows them, so that everything is hidden.
    var mask: ([UInt8]) -> [UInt8]?

    /// Describes a frame; one that does not decode is told by its length alone.
    func record(_ header: FrameHeader, _ payload: [UInt8], from side: String, at time: Timestamp) -> ChannelRecord {
        var record = ChannelRecord(
            at: time, from: header.type == .ended ? "keeper" : side, method: Self.method(header.type, payload),
            process: header.stream == 0 ? nil : header.stream, fields: [:])
        do throws(ChannelError) { record.fields = try fields(header, payload) } catch {
            record.fields = ["malformed_bytes": .number(UInt64(payload.count))]
        }
        return record
    }

    /// The method's name: what is started says what it is.
    private static func method(_ type: FrameType, _ payload: [UInt8]) -> String {
        switch type {
        case .start:
            switch payload.first.flatMap(ProcessKind.init(rawValue:)) {
            case .task?: "runTask"
            case .server?: "startServer"
            case .exec?: "exec"
            case .copyIn?: "copyIn"
            case .copyOut?: "copyOut"
            case .door?: "openDoor"
            case .spare?: "makeSpare"
            case nil: "start"
            }
        default: "\(type)"
        }
    }

    private func fields(_ header: FrameHeader, _ payload: [UInt8]) throws(ChannelError) -> [String: ChannelValue] {
        switch header.type {
        case .stdin, .stdout, .stderr:
            var reader = FieldReader(payload, type: header.type)
            return data(try reader.u64(), payload.count - 8, header.flags & Channel.endFlag != 0)
        case .ack:
            let names = ["stdin", "stdout", "stderr"]
            let stream = Int(header.flags) < names.count ? names[Int(header.flags)] : "\(header.flags)"
            return ["stream": .text(stream), "offset": .number(try Acknowledgement(decoding: payload).offset)]
        case .hello:
            let hello = try Hello(decoding: payload)
            return [
                "version": .number(UInt64(hello.version)), "build": text(hello.build),
                "quirks": .number(UInt64(hello.quirks)),
            ]
        case .start: return start(try StartProcess(decoding: payload))
        case .started: return ["pid": .number(UInt64(try ProcessStarted(decoding: payload).pid))]
        case .failed:
            let failure = try ProcessFailed(decoding: payload)
            return [
                "reason": .text("\(failure.reason)"), "errno": .number(UInt64(failure.errno)),
                "text": text(failure.text),
            ]
        case .exited:
            let end = try ProcessExited(decoding: payload)
            return [
                "code": .number(UInt64(end.code)), "signal": .number(UInt64(end.signal)),
                "stdout_bytes": .number(end.stdoutBytes), "stderr_bytes": .number(end.stderrBytes),
            ]
        case .signal:
            return [
                "signal": .number(UInt64(try ProcessSignal(decoding: payload).number)),
                "group": .flag(header.flags & ProcessSignal.groupFlag != 0),
            ]
        case .resize:
            let size = try TerminalSize(decoding: payload)
            return ["columns": .number(UInt64(size.columns)), "rows": .number(UInt64(size.rows))]
        case .health, .healthy:
            var reader = FieldReader(payload, type: header.type)
            return ["nonce": .number(try reader.u64())]
        case .shutdown:
            let shutdown = try Shutdown(decoding: payload)
            return ["grace_ms": .number(UInt64(shutdown.grace)), "stays": .flag(shutdown.stays)]
        case .ended:
            let end = try SandboxEnded(decoding: payload)
            return [
                "code": .number(UInt64(end.code)), "signal": .number(UInt64(end.signal)),
                "requested": .flag(end.requested), "reason": text(end.reason),
            ]
        case .forget, .attach, .release, .kill: return [:]
        case .state, .boot, .booted, .bootFailed: return ["bytes": .number(UInt64(payload.count))]
        }
    }

    /// Bytes of a process, without them.
    func data(_ offset: UInt64, _ count: Int, _ end: Bool) -> [String: ChannelValue] {
        ["offset": .number(offset), "bytes": .number(UInt64(count)), "end": .flag(end)]
    }

    private func start(_ message: StartProcess) -> [String: ChannelValue] {
        // Of a variable the name is shown, of a secret not even whether it is one.
        let environment = message.environment.map { entry in Array(entry.prefix { $0 != 0x3d }) + Array("=***".utf8) }
        var fields: [String: ChannelValue] = [
            "arguments": texts(message.arguments), "environment": texts(environment),
            "directory": text(message.directory), "user": text(message.user), "tty": .flag(message.terminal),
            "stdin": .flag(message.stdin),
        ]
        if message.limit > 0 { fields["limit_ms"] = .number(UInt64(message.limit)) }
        if message.terminal {
            fields["columns"] = .number(UInt64(message.columns))
            fields["rows"] = .number(UInt64(message.rows))
        }
        return fields
    }

    private func text(_ bytes: [UInt8]) -> ChannelValue { .text(shown(bytes)) }

    private func texts(_ all: [[UInt8]]) -> ChannelValue {
        let more = all.count - ChannelRecord.listLimit
        return .texts(all.prefix(ChannelRecord.listLimit).map(shown) + (more > 0 ? ["… \(more) more"] : []))
    }

    /// Masked first and cut then: a secret at the cut would not be found any more.
    private func shown(_ bytes: [UInt8]) -> String {
        guard let safe = mask(bytes) else { return "***" }
        guard safe.count > ChannelRecord.textLimit else { return String(decoding: safe, as: UTF8.self) }
        return String(decoding: safe.prefix(ChannelRecord.textLimit), as: UTF8.self) + "… \(safe.count) bytes"
    }
}
