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
        return try reader.finish(onDelta)
    }
}

extension ModelError {
    /// What a failure below HTTP means for a question.
    init(_ error: TransportError, afterHead: Bool) {
        let kind: Kind =
            switch error.kind {
            case .badAddress: .invalidRequest
            case .name, .connect, .tls: .network
            case .timeout: .timeout
            case .closed: afterHead ? .cutStream : .network
            case .badAnswer, .stopped: .badAnswer
            case .cancelled: .cancelled
            }
        self.init(kind, error.message)
    }
}
