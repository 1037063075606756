internal import AegisAudit
internal import AegisConfig
internal import AegisCore
internal import AegisHTTPClient
internal import AegisIO
internal import AegisWire

/// `audit.witness`: what gets the heads of the ledger.
struct WitnessSetting: Sendable {
    /// The absolute path of a file.
    private(set) var file: String?
    /// A server that takes each as a POST.
    private(set) var url: WebURL?
    /// A header field with a secret for that.
    private(set) var credential: (name: String, value: Secret<String>)?

    init(from reader: ConfigReader) {
        var found: WebURL?
        let text = reader.readIfPresent("witness", as: Text.self) { given in
            guard !given.configText.hasPrefix("/") else { return nil }
            do throws(Problem) {
                found = try Self.address(given.configText)
                return nil
            } catch { return error.text }
        }?.configText
        url = found
        file = url == nil ? text : nil
        let key = reader.readSecret("witness_key")
        let header = reader.read("witness_header", default: "Authorization") { name in
            var headers = HTTPHeaders()
            headers.add(name, "x")
            return (1...64).contains(name.utf8.count) && headers.invalidField == nil
                ? nil : "must be the name of a header"
        }
        if key != nil, url == nil, text == nil || file != nil {
            reader.report("witness_key is for a witness that is a server, as https://host/heads")
        }
        credential = key.map { key in
            (header, header.lowercased() == "authorization" ? Secret("Bearer \(key.reveal())") : key)
        }
    }

    private struct Problem: Error { var text: String }

    /// A path or an address; messages show no password that somebody wrote into it.
    private struct Text: ConfigScalar {
        static var expectation: String { "a path or an address" }
        let configText: String
        init(configText: String) { self.configText = configText }
        static func quotable(_ text: String) -> String { DatabaseURL.withoutSecrets(text) }
    }

    private static func address(_ text: String) throws(Problem) -> WebURL {
        guard text.hasPrefix("https://") || text.hasPrefix("http://") else {
            throw Problem(text: "must be the absolute path of a file, or an address such as https://host/heads")
        }
        // The client's own words would quote all of it.
        guard !text.contains("@"), !text.contains("?") else {
            throw Problem(text: "must have neither '@' nor '?': a secret goes into witness_key")
        }
        guard let url = try? WebURL(text) else { throw Problem(text: "is no address such as https://host/heads") }
        guard url.isSecure || ["127.0.0.1", "::1", "localhost"].contains(url.host) else {
            throw Problem(text: "must be https: who is between could keep heads back")
        }
        return url
    }
}

/// Posts heads to a server. Certificates are checked, redirects are not followed.
struct WitnessServer: Sendable {
    private let client: HTTPClient
    private let request: ClientRequest

    /// What a server may take for one head, and what the daemon gives it for the last one at its end.
    private static let patience = Duration.seconds(10)
    static let farewell = Duration.seconds(3)

    init(_ url: WebURL, credential: (name: String, value: Secret<String>)?, authorities: [UInt8]?, on loop: EventLoop)
        throws
    {
        client = try HTTPClient(on: loop, authorities: authorities)
        var request = ClientRequest(.post, url, headers: ["Content-Type": "application/json"])
        if let credential { request.headers.add(credential.name, credential.value.reveal()) }
        request.timeouts = ClientTimeouts(
            connect: Self.patience, firstByte: Self.patience, idle: Self.patience, total: Self.patience)
        request.maximumBody = 64 << 10
        // A name of loopback is one only as long as it leads there.
        if !url.isSecure { request.admits = { address, _ in address == "::1" || address.hasPrefix("127.") } }
        self.request = request
    }

    func post(_ body: [UInt8]) async throws {
        var request = request
        request.body = body
        let answer = try await client.open(request)
        defer { answer.finishSoon() }
        guard !(200...299).contains(answer.status) else { return }
        let more = (300...399).contains(answer.status) ? "; redirects are not followed" : ""
        throw HTTPClientError(.badAnswer, "it answers \(answer.status)\(more)")
    }
}
