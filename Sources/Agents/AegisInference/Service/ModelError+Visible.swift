internal import AegisCore

extension ModelError {
    /// The failure in the shape that users see, with the code of its family.
    func visible(_ message: String, provider: String) -> AegisError {
        switch kind {
        case .auth: AegisError(.denied, "model-auth", message, hint: "check api_key of the provider '\(provider)'")
        case .notFound:
            AegisError(
                .notFound, "model-not-found", message,
                hint: "check the model's id and endpoint of the provider '\(provider)'")
        case .rateLimited:
            AegisError(
                .unavailable, "model-rate-limited", message,
                hint: "set requests_per_minute of the provider '\(provider)', or a fallback")
        case .overloaded:
            AegisError(.unavailable, "model-overloaded", message, hint: "try again later, or set a fallback")
        case .invalidRequest: AegisError(.usage, "model-invalid-request", message)
        case .contextTooLong:
            AegisError(
                .tooLarge, "context-too-long", message,
                hint: "shorten the conversation, or use a model with a larger window")
        case .network:
            AegisError(.unavailable, "model-unreachable", message, hint: "check endpoint of the provider '\(provider)'")
        case .timeout: AegisError(.timeout, "model-timeout", message)
        case .cutStream: AegisError(.unavailable, "model-stream-cut", message)
        case .badAnswer:
            AegisError(
                .failed, "model-bad-answer", message, hint: "check type and endpoint of the provider '\(provider)'")
        case .tooLarge:
            AegisError(
                .tooLarge, "model-answer-too-large", message,
                hint: "the model comes to no end: use another one, or set a fallback")
        case .cancelled: AegisError(.failed, "inference-cancelled", message)
        }
    }
}

extension ModelError {
    /// Whether a call that failed so may be on a provider's bill: one that no model worked on is not. A provider may fail in any way
    /// when a part of the answer has come already.
    func mayHaveCost(begun: Bool) -> Bool {
        switch kind {
        case .auth, .notFound, .rateLimited, .overloaded, .invalidRequest, .contextTooLong, .network: begun
        case .timeout, .cutStream, .badAnswer, .tooLarge, .cancelled: true
        }
    }
}
