internal import AegisJSON

/// One question to a provider on the network.
enum Exchange {
    /// Thrown to the transport to end an exchange early; what it means is kept beside it.
    private struct Stop: Error {}

    /// Sends a request and reads the reply.
    ///
    /// - Throws: `ModelError`.
    static func run<Decoder: ReplyDecoder>(
        _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
        over transport: any ModelTransport, decoder: Decoder, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        let reader = AnswerReader(decoder)
        try await fill(reader, url, headers, body, timeouts, transport, onDelta)
        return try reader.finish(onDelta)
    }

    /// Sends a request whose answer is one JSON value and no stream.
    ///
    /// - Throws: `ModelError`.
    static func value<Decoder: ReplyDecoder>(
        _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
        over transport: any ModelTransport, decoder: Decoder
    ) async throws(ModelError) -> JSONValue {
        let reader = AnswerReader(decoder)
        try await fill(reader, url, headers, body, timeouts, transport) { _ in }
        return try reader.value()
    }

    private static func fill<Decoder: ReplyDecoder>(
        _ reader: AnswerReader<Decoder>, _ url: String, _ headers: [(String, String)], _ body: [UInt8],
        _ timeouts: TransportTimeouts, _ transport: any ModelTransport, _ onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) {
        var failure: ModelError?
        var hasHead = false
        do throws(TransportError) {
            try await transport.post(
                url, headers: headers, body: body, timeouts: timeouts,
                onHead: { status, fields in
                    hasHead = true
                    do throws(ModelError) { try reader.head(status, fields) } catch {
                        failure = error
                        throw Stop()
                    }
                },
                onBody: { bytes in
                    do throws(ModelError) { try reader.take(bytes, onDelta) } catch {
                        failure = error
                        throw Stop()
                    }
                    if reader.isDone { throw Stop() }
                })
        } catch {
            if let failure { throw failure }
            guard error.kind == .stopped, reader.isDone else { throw ModelError(error, afterHead: hasHead) }
        }
        if let failure { throw failure }
    }
}

extension ModelError {
    /// What a failure below HTTP means for a question.
    init(_ error: TransportError, afterHead: Bool) {
        let kind: Kind =
            switch error.kind {
            case .badAddress: .invalidRequest
            case .name, .connect, .tls, .timeout(.connect): .network
            case .timeout: .timeout
            case .closed: afterHead ? .cutStream : .network
            case .badAnswer, .stopped: .badAnswer
            case .tooLarge: .tooLarge
            case .cancelled: .cancelled
            }
        self.init(kind, error.message)
    }
}
