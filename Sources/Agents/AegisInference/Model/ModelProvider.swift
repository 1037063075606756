/// Somebody who answers for models: a service on the network, a scenario, a recording.
package protocol ModelProvider: Sendable {
    /// The name that the configuration gives it.
    var name: String { get }

    /// Asks once; retries, fallback, budgets and turns at the queue are the caller's.
    ///
    /// - Parameters:
    ///   - request: the question; its `model` is this provider's id.
    ///   - onDelta: called for each piece as it arrives, in order, before this returns. Ids in deltas are those of the reply.
    /// - Returns: the whole answer, every piece included.
    /// - Throws: why there is none. Cancelling the task closes the connection and throws `.cancelled`.
    func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply

    /// Asks once for the vectors of texts.
    ///
    /// - Parameter question: the texts; its `model` is this provider's id.
    /// - Returns: one vector for each text, in order.
    /// - Throws: why there are none; `.invalidRequest` of a provider that gives none at all.
    func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply
}

extension ModelProvider {
    package func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
        throw ModelError(.invalidRequest, "the provider '\(name)' gives no embeddings")
    }
}

/// Why a provider gave no answer.
package struct ModelError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What family a failure belongs to: it decides about retry and fallback.
    package enum Kind: Sendable, Hashable {
        /// The key is missing, wrong or may not use this model (401, 403).
        case auth
        /// No such model or address (404).
        case notFound
        /// Too many requests or tokens (429).
        case rateLimited
        /// The provider cannot answer now (500, 502, 503, 529).
        case overloaded
        /// The provider refuses the request as it is (400, 413, 422).
        case invalidRequest
        /// The conversation does not fit the model's window.
        case contextTooLong
        /// No connection, or lost before the answer began.
        case network
        /// Connected, but too slow.
        case timeout
        /// The stream ended before the answer did.
        case cutStream
        /// An answer that is not of the dialect.
        case badAnswer
        /// An answer that is longer than is kept, if it has an end at all.
        case tooLarge
        /// The caller gave up.
        case cancelled

        /// The word for records and messages, snake_case.
        package var word: String {
            switch self {
            case .auth: "auth"
            case .notFound: "not_found"
            case .rateLimited: "rate_limited"
            case .overloaded: "overloaded"
            case .invalidRequest: "invalid_request"
            case .contextTooLong: "context_too_long"
            case .network: "network"
            case .timeout: "timeout"
            case .cutStream: "cut_stream"
            case .badAnswer: "bad_answer"
            case .tooLarge: "too_large"
            case .cancelled: "cancelled"
            }
        }
    }

    /// The family.
    package var kind: Kind
    /// The HTTP status, when there was one.
    package var status: Int?
    /// What happened, with the provider's own words where it gave some; never a key.
    package var message: String

    /// How long the provider asked to wait; nil where it did not, or where no waiting helps.
    package var retryAfter: Duration?

    /// Makes a failure; `retryAfter` counts for `.rateLimited`, `.overloaded` and `.timeout` (429 and 5xx) only.
    package init(_ kind: Kind, status: Int? = nil, retryAfter: Duration? = nil, _ message: String) {
        self.kind = kind
        self.status = status
        self.message = message
        self.retryAfter = [.rateLimited, .overloaded, .timeout].contains(kind) ? retryAfter : nil
    }

    /// Whether the same request may succeed at the same provider a moment later.
    package var isRetryable: Bool {
        switch kind {
        case .rateLimited, .overloaded, .network, .timeout, .cutStream, .badAnswer: true
        case .auth, .notFound, .invalidRequest, .contextTooLong, .tooLarge, .cancelled: false
        }
    }

    package var description: String { "\(message) (\(kind.word)\(status.map { ", HTTP \($0)" } ?? ""))" }
}
