internal import AegisCore
internal import AegisJSON
internal import CSodium

/// One line of a recording: a question, what was streamed, and how it ended.
struct RecordedCall: Sendable {
    /// What came of it.
    enum Answer: Sendable {
        case reply(ModelReply)
        case vectors(EmbeddingReply)

        /// The version of the format that has it first: a line says the lowest one that it can be read with.
        var version: Int {
            switch self {
            case .reply: 1
            case .vectors: 2
            }
        }
    }

    /// The format's version; a newer one is refused.
    static let version = 2

    var hash: String
    var provider: String
    var request: JSONValue
    var deltas: [ModelDelta]
    var result: Result<Answer, ModelError>

    /// The name of a question: SHA-256 of its canonical JSON.
    static func hash(of request: JSONValue) -> String {
        let bytes = request.canonical
        var out = [UInt8](repeating: 0, count: 32)
        unsafe crypto_hash_sha256(&out, bytes, UInt64(bytes.count))  // SAFETY: writes 32 bytes, reads `bytes.count`
        return out.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// The line, without its newline.
    func line() throws -> [UInt8] {
        var fields: [JSONValue.Field] = [
            .init("aegis_recording", .number((try? result.get())?.version ?? 1)), .init("hash", .string(hash)),
            .init("provider", .string(provider)), .init("request", request),
            .init("deltas", try JSONValue(encoding: deltas)),
        ]
        switch result {
        case .success(.reply(let reply)): fields.append(.init("reply", try JSONValue(encoding: reply)))
        case .success(.vectors(let reply)): fields.append(.init("vectors", try JSONValue(encoding: reply)))
        case .failure(let error): fields.append(.init("error", Self.json(error)))
        }
        return JSONValue.object(fields).compact
    }

    /// Reads a line.
    ///
    /// - Throws: what is wrong with it.
    init(line: some Collection<UInt8>) throws(ScenarioFailure) {
        do {
            let json = try JSONValue(parsing: line, duplicates: .refuse)
            guard let version = json["aegis_recording"]?.integer else {
                throw ScenarioFailure(message: "it is no line of a recording")
            }
            guard version <= Self.version else {
                throw ScenarioFailure(
                    message: "it has version \(version) of the format; this program reads \(Self.version)")
            }
            guard let hash = json["hash"]?.text, let provider = json["provider"]?.text, let request = json["request"]
            else { throw ScenarioFailure(message: "hash, provider or request is missing") }
            self.init(
                hash: hash, provider: provider, request: request,
                deltas: try json["deltas"]?.decode([ModelDelta].self) ?? [], result: try Self.result(json))
            guard Self.hash(of: request) == hash else {
                throw ScenarioFailure(message: "the request is not the one that its hash was made of")
            }
        } catch let error as ScenarioFailure {
            throw error
        } catch {
            throw ScenarioFailure(message: "\(error)")
        }
    }

    init(
        hash: String, provider: String, request: JSONValue, deltas: [ModelDelta], result: Result<Answer, ModelError>
    ) {
        self.hash = hash
        self.provider = provider
        self.request = request
        self.deltas = deltas
        self.result = result
    }

    private static func result(_ json: JSONValue) throws -> Result<Answer, ModelError> {
        if let reply = json["reply"] { return .success(.reply(try reply.decode(ModelReply.self))) }
        if let vectors = json["vectors"] { return .success(.vectors(try vectors.decode(EmbeddingReply.self))) }
        guard let error = json["error"], let word = error["kind"]?.text, let message = error["message"]?.text,
            let kind = ScenarioStatus.kinds[word]
        else { throw ScenarioFailure(message: "it has neither a reply nor an error that is known") }
        return .failure(
            ModelError(
                kind, status: error["status"]?.integer.map { Int($0) },
                retryAfter: error["retry_after_ms"]?.integer.map { .milliseconds($0) }, message))
    }

    private static func json(_ error: ModelError) -> JSONValue {
        var fields: [JSONValue.Field] = [
            .init("kind", .string(error.kind.word)), .init("message", .string(error.message)),
        ]
        if let status = error.status { fields.append(.init("status", .number(status))) }
        if let after = error.retryAfter { fields.append(.init("retry_after_ms", .number(after.milliseconds))) }
        return .object(fields)
    }
}
