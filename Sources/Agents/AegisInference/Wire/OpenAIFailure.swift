internal import AegisJSON

extension OpenAIDecoder {
    func failure(_ status: Int, _ headers: AnswerHeaders, _ body: [UInt8]) -> ModelError {
        let answer = (try? JSONValue(parsing: body)) ?? .null
        // Gateways wrap the object in a list.
        let object = answer.elements?.first ?? answer
        for name in ["error", "detail", "message", "errors"] {
            guard let error = object[name], error != .null else { continue }
            // vLLM's older form is the error object itself.
            let whole = name == "message" ? object : error
            return Self.failure(whole, status: status, retryAfter: headers.retryAfter)
        }
        return ProviderFailure.make(status, ProviderFailure.words(body, headers), retryAfter: headers.retryAfter)
    }

    /// What an error means, in an answer of its own or in the middle of a stream: an object, a text or a list.
    static func failure(_ error: JSONValue, status: Int?, retryAfter: Duration?) -> ModelError {
        let words = ProviderFailure.clean(text(error))
        let marks = [error["code"]?.text, error["type"]?.text].compactMap(\.self)
        let code = error["code"]?.integer.map { Int(clamping: $0) }
        func made(_ kind: ModelError.Kind) -> ModelError {
            ModelError(kind, status: status, retryAfter: retryAfter, words)
        }
        if marks.contains("context_length_exceeded") { return made(.contextTooLong) }
        if marks.contains("string_above_max_length") {
            // Only a message's own text gets shorter when the conversation does; a name or an id does not.
            return made(
                error["param"]?.text.map { $0.hasSuffix("content") } ?? true ? .contextTooLong : .invalidRequest)
        }
        if marks.contains(where: { ["insufficient_quota", "billing_hard_limit_reached"].contains($0) }) {
            // 429 as well, but no waiting helps.
            return made(.auth)
        }
        if marks.contains("rate_limit_exceeded") { return made(.rateLimited) }
        if marks.contains("model_not_found") { return made(.notFound) }
        if marks.contains("invalid_api_key") { return made(.auth) }
        if ProviderFailure.isAboutLength(words), (status ?? 400) < 500, status != 429 { return made(.contextTooLong) }
        let told = status ?? code.flatMap { (400...599).contains($0) ? $0 : nil }
        if told == nil, marks.contains("server_error") || marks.isEmpty { return made(.overloaded) }
        return ProviderFailure.make(told ?? 500, words, retryAfter: retryAfter, shownStatus: status)
    }

    private static func text(_ error: JSONValue) -> String {
        if let text = error.text { return text }
        if let list = error.elements {
            // A list of what is wrong with the fields of a request.
            return list.prefix(5).map { item in
                let place = (item["loc"]?.elements ?? []).compactMap { $0.text ?? $0.integer.map(String.init) }
                return place.joined(separator: ".") + (place.isEmpty ? "" : ": ") + (item["msg"]?.text ?? text(item))
            }.joined(separator: "; ")
        }
        if let said = error["message"] { return said.text ?? text(said) }
        let said = error["type"]?.text ?? error["code"]?.text ?? ""
        return said.isEmpty ? "the server gives no reason" : said
    }
}
