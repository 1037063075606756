/// What providers' errors have in common.
enum ProviderFailure {
    /// The family that a status tells.
    static func make(
        _ status: Int, _ words: String, retryAfter: Duration?, shownStatus: Int?? = nil
    ) -> ModelError {
        let kind: ModelError.Kind =
            switch status {
            case 401, 402, 403: .auth
            case 404, 405: .notFound
            case 408, 504: .timeout
            case 413: .contextTooLong
            case 429: .rateLimited
            // A lock that is held, and whatever is the server's own.
            case 409, 425, 500...: .overloaded
            default: isAboutLength(words) ? .contextTooLong : .invalidRequest
            }
        return ModelError(kind, status: shownStatus ?? status, retryAfter: retryAfter, words)
    }

    /// Whether a refusal means that the conversation does not fit; each server has words of its own for it.
    static func isAboutLength(_ words: String) -> Bool {
        let text = words.lowercased()
        return [
            "prompt is too long", "context length", "context_length", "maximum context", "context window",
            "too many tokens", "input is too long", "exceeds the available context", "max_model_len",
            "exceed context limit", "reduce the length of",
        ].contains { text.contains($0) }
    }

    /// What a body that is not of the dialect says: a page's title or the first words, and what it was said to be.
    static func words(_ body: [UInt8], _ headers: AnswerHeaders) -> String {
        let text = String(decoding: body.prefix(4096), as: UTF8.self)
        if headers.mediaType == "text/html" || text.lowercased().prefix(200).contains("<html") {
            guard let start = text.range(ofWord: "<title>"),
                let end = text.range(ofWord: "</title>", from: start.upperBound)
            else { return "the server answers with a web page" }
            return "the server answers with a web page: \(clean(String(text[start.upperBound..<end.lowerBound])))"
        }
        let said = clean(text)
        return said.isEmpty ? "the server gives no reason" : said
    }

    /// A server's words for logs and people: one line, without control characters, 500 characters at most.
    static func clean(_ words: String) -> String {
        var out = ""
        var wasSpace = true
        var length = 0
        for scalar in words.unicodeScalars.prefix(4000) {
            let isControl = scalar.value < 33 || (127..<160).contains(scalar.value) || scalar.properties.isBidiControl
            if isControl {
                if !wasSpace { out.append(" ") }
                wasSpace = true
            } else {
                out.unicodeScalars.append(scalar)
                wasSpace = false
            }
            length += 1
            if length >= 500 { return out + "…" }
        }
        return wasSpace && !out.isEmpty ? String(out.dropLast()) : out
    }
}

extension String {
    /// The first place of an ASCII text, whatever its case.
    fileprivate func range(ofWord word: String, from start: Index? = nil) -> Range<Index>? {
        var at = start ?? startIndex
        while at < endIndex {
            if self[at...].prefix(word.count).lowercased() == word { return at..<index(at, offsetBy: word.count) }
            at = index(after: at)
        }
        return nil
    }
}
