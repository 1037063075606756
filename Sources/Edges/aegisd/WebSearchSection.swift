internal import AegisConfig
internal import AegisCore
internal import AegisTools

/// `web_search`: the service that the tool of this name asks. Without it there is no such tool.
struct WebSearchSection: ConfigSection {
    static let key = "web_search"

    /// What a service speaks.
    enum Kind: String, ConfigWord {
        /// SearXNG with its JSON format switched on.
        case searxng
        /// Brave's Search API.
        case brave
        /// Any that answers a GET with JSON.
        case json
    }

    var kind: Kind?
    /// The address: of `searxng` and `brave` its beginning, of `json` all of it with `{query}`.
    var endpoint: String?
    var apiKey: Secret<String>?
    /// The header that the key goes in; of `Authorization` with `Bearer` before it.
    var keyHeader: String?
    /// Where the results are in an answer of `json`, and what their fields are called.
    var results: String
    var titleField: String
    var addressField: String
    var snippetField: String

    init(from reader: ConfigReader) {
        kind = reader.readIfPresent("type")
        endpoint = reader.readIfPresent("endpoint") { text in
            text.hasPrefix("http://") || text.hasPrefix("https://") ? nil : "must be an address such as https://host"
        }
        apiKey = reader.readSecret("api_key")
        keyHeader = reader.readIfPresent("key_header") { name in
            let isToken = name.utf8.allSatisfy {
                (97...122).contains($0) || (65...90).contains($0) || (48...57).contains($0) || $0 == 45
            }
            return isToken && (1...64).contains(name.utf8.count) ? nil : "must be the name of a header"
        }
        results = reader.read("results", default: "results")
        titleField = reader.read("title_field", default: "title")
        addressField = reader.read("url_field", default: "url")
        snippetField = reader.read("snippet_field", default: "snippet")
        guard let kind else {
            if endpoint != nil || apiKey != nil { reader.report("type is missing: searxng, brave or json") }
            return
        }
        if kind != .brave, endpoint == nil {
            reader.report(
                kind == .searxng
                    ? "endpoint is missing: where SearXNG is, as in http://127.0.0.1:8888"
                    : "endpoint is missing: an address with {query}, as in https://host/search?q={query}")
        }
        if kind == .brave, apiKey == nil { reader.report("api_key is missing: Brave wants one") }
        if kind == .json, let endpoint, !endpoint.contains("{query}") {
            reader.report("endpoint has no {query}, where the text that is looked for goes")
        }
    }

    /// The service; nil when none is configured.
    ///
    /// - Throws: `search-provider-invalid`.
    func makeProvider() throws(AegisError) -> SearchProvider? {
        guard let kind else { return nil }
        let base = String((endpoint ?? "https://api.search.brave.com").reversed().drop { $0 == "/" }.reversed())
        let header = keyHeader ?? (kind == .brave ? "X-Subscription-Token" : "Authorization")
        let headers = apiKey.map { key in
            [(name: header, value: (header.lowercased() == "authorization" ? "Bearer " : "") + key.reveal())]
        }
        switch kind {
        case .searxng:
            return try SearchProvider(
                url: "\(base)/search?q={query}&format=json", headers: headers ?? [], results: "results",
                fields: ("title", "url", "content"))
        case .brave:
            return try SearchProvider(
                url: "\(base)/res/v1/web/search?q={query}&count={count}", headers: headers ?? [],
                results: "web.results", fields: ("title", "url", "description"))
        case .json:
            return try SearchProvider(
                url: endpoint ?? "", headers: headers ?? [], results: results,
                fields: (titleField, addressField, snippetField))
        }
    }
}
