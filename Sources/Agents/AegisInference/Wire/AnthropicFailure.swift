internal import AegisJSON

extension AnthropicDecoder {
    func failure(_ status: Int, _ headers: AnswerHeaders, _ body: [UInt8]) -> ModelError {
        let answer = (try? JSONValue(parsing: body)) ?? .null
        guard let error = answer["error"], error.fields != nil else {
            return ProviderFailure.make(status, ProviderFailure.words(body, headers), retryAfter: headers.retryAfter)
        }
        return Self.failure(error, status: status, retryAfter: headers.retryAfter)
    }

    /// What an error object means, in an answer of its own or in the middle of a stream.
    static func failure(_ error: JSONValue, status: Int?, retryAfter: Duration?) -> ModelError {
        let type = error["type"]?.text ?? ""
        let said = error["message"]?.text ?? type
        let words = ProviderFailure.clean(said.isEmpty ? "the provider gives no reason" : said)
        let kind: ModelError.Kind
        switch type {
        case "authentication_error", "permission_error", "billing_error": kind = .auth
        case "not_found_error": kind = .notFound
        // Out of money: the status is that of too many requests, and no waiting helps.
        case "rate_limit_error" where error["details"]?["error_code"]?.text?.hasSuffix("spend_limit_reached") == true:
            kind = .auth
        case "rate_limit_error": kind = .rateLimited
        case "overloaded_error", "api_error": kind = .overloaded
        case "timeout_error": kind = .timeout
        case "request_too_large": kind = .contextTooLong
        // Out of money in advance: the status is that of a bad request.
        case "invalid_request_error" where said.lowercased().contains("credit balance is too low"): kind = .auth
        case "invalid_request_error":
            kind = ProviderFailure.isAboutLength(said) ? .contextTooLong : .invalidRequest
        default:
            return ProviderFailure.make(status ?? 500, words, retryAfter: retryAfter, shownStatus: status)
        }
        return ModelError(kind, status: status, retryAfter: retryAfter, words)
    }
}
