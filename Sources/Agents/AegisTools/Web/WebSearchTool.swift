internal import AegisCapabilities
package import AegisCore
package import AegisJSON

/// A search service that answers with JSON, as the configuration describes it.
package struct SearchProvider: Sendable {
    /// Its address, with `{query}` and, where it takes a number of results, `{count}`.
    package var url: String
    /// What is sent along, keys included; never shown.
    package var headers: [(name: String, value: String)]
    /// Where the list of results is in the answer: names with dots between, as in `web.results`.
    package var results: String
    /// What the fields of a result are called.
    package var fields: (title: String, url: String, snippet: String)

    /// Describes a service.
    ///
    /// - Throws: `search-provider-invalid` when the address has no `{query}`, or is none.
    package init(
        url: String, headers: [(name: String, value: String)] = [], results: String,
        fields: (title: String, url: String, snippet: String) = ("title", "url", "snippet")
    ) throws(AegisError) {
        self.url = url
        self.headers = headers
        self.results = results
        self.fields = fields
        guard url.contains("{query}") else {
            throw AegisError(.usage, "search-provider-invalid", "the address of the search service has no '{query}'")
        }
        do { _ = try address(of: "test", count: 1) } catch {
            throw AegisError(.usage, "search-provider-invalid", "the search service: \(error.message)")
        }
    }

    /// The address that a search is sent to.
    func address(of query: String, count: Int) throws(AegisError) -> WebAddress {
        let text = url.replacing("{query}", with: Self.encoded(query)).replacing("{count}", with: "\(count)")
        return try WebAddress(parsing: text)
    }

    /// What a grant has to allow: the service's host; of one at an address that no grant can name, a name that stands for it.
    func destination(of address: WebAddress) -> Destination {
        guard isOfOperator(address), let own = Destination(host: Self.ownName, port: address.port) else {
            return address.destination
        }
        return own
    }

    /// What stands for a search service of the operator's own, as in `network: web-search.internal`.
    static let ownName = "web-search.internal"

    /// Whether the service is on this host or in a private network, by its address.
    private func isOfOperator(_ address: WebAddress) -> Bool {
        guard case .address(let own) = address.destination.host else { return address.host == "localhost" }
        return AddressClass(own) != .open
    }

    /// Whether an address may be connected to. Where the service is was said by the operator and not by a model: it may be in
    /// a private network; but a name leads to this host only if it says so.
    func admits(_ found: String, _ port: UInt16, at address: WebAddress) -> Bool {
        guard port == address.port, let found = IPAddress(found) else { return false }
        if case .address(let own) = address.destination.host { return found == own }
        if case .forbidden = AddressClass(found) { return address.host == "localhost" }
        return true
    }

    /// A text as a part of a query.
    private static func encoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var out: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e: out.append(byte)
            default: out += [0x25, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// The results of an answer.
    ///
    /// - Throws: `search-failed` when the answer has another form.
    func read(_ body: [UInt8], atMost count: Int) throws(AegisError) -> [JSONValue] {
        var here: JSONValue
        do throws(JSONError) { here = try JSONValue(parsing: body) } catch {
            throw .failed("search-failed", "the search service did not answer with JSON: \(error)")
        }
        for name in results.split(separator: ".") {
            guard let next = here[String(name)] else {
                throw .failed("search-failed", "the search service's answer has no '\(results)'")
            }
            here = next
        }
        guard let elements = here.elements else {
            throw .failed("search-failed", "'\(results)' in the search service's answer is no list")
        }
        return elements.prefix(count).compactMap { element in
            guard let url = element[fields.url]?.text else { return nil }
            return [
                "title": .string(element[fields.title]?.text ?? ""), "url": .string(url),
                "snippet": .string(Self.shortened(element[fields.snippet]?.text ?? "")),
            ]
        }
    }

    private static func shortened(_ text: String) -> String {
        let end = utf8Border(text, 1000)
        return end == text.utf8.count ? text : String(decoding: text.utf8.prefix(end), as: UTF8.self) + "…"
    }
}

/// `web_search`, by the service that the configuration names.
package struct WebSearchTool: Tool {
    package let declaration = ToolDeclaration(
        name: "web_search", description: "Searches the web; results are titles, addresses and short texts.",
        input: [
            "type": "object",
            "properties": [
                "query": ["type": "string", "minLength": 1, "maxLength": 500, "description": "What is looked for."],
                "count": ["type": "integer", "minimum": 1, "maximum": 20, "description": "How many results; 10."],
            ], "required": ["query"], "additionalProperties": false,
        ], effects: .external, isIdempotent: true, isParallelSafe: true, resources: [.network], timeLimit: .seconds(60))

    private let transport: any WebTransport
    private let provider: SearchProvider

    /// Makes the tool.
    package init(_ transport: any WebTransport, provider: SearchProvider) {
        self.transport = transport
        self.provider = provider
    }

    package func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        let query = try input.required("query")
        let destination = provider.destination(of: try provider.address(of: query, count: 10))
        return ApprovalPreview("search for: \(query)", resource: "network: \(destination)")
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let count = Int(input["count"]?.integer ?? 10)
        let address = try provider.address(of: try input.required("query"), count: count)
        let most = 1 << 20
        let admission = try context.grants.admit(
            Request(
                .connect(provider.destination(of: address), tool: declaration.name), needs: Amounts(bytes: 1),
                wants: Amounts(bytes: UInt64(most))), by: context.holder)
        let request = WebRequest(
            url: "\(address)", headers: [("Accept", "application/json"), ("User-Agent", "aegis")] + provider.headers,
            admits: { [provider] found, port in provider.admits(found, port, at: address) },
            mostBytes: Int(min(UInt64(most), admission.reserved.bytes)), timeLimit: .seconds(30))
        let answer: WebAnswer
        do { answer = try await transport.get(request) } catch let failure as WebFailure {
            admission.settle()
            // The address holds nothing secret, but the headers do: only the transport's words are told.
            let why = Escaped.line(failure.message, atMost: 300)
            throw AegisError(.unavailable, "search-failed", "the search service did not answer: \(why)")
        } catch {
            admission.settle()
            throw error
        }
        admission.settle(used: Amounts(bytes: UInt64(answer.body.count)))
        // A redirect would take the key elsewhere.
        guard (200..<300).contains(answer.status) else {
            throw AegisError(.unavailable, "search-failed", "the search service answered with status \(answer.status)")
        }
        guard !answer.isTruncated else {
            throw AegisError(.tooLarge, "search-failed", "the search service's answer has more than \(most) bytes")
        }
        let results = try provider.read(answer.body, atMost: count)
        return ToolReply(["results": .array(results), "count": .number(results.count)])
    }
}
