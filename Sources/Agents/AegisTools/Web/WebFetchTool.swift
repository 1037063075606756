internal import AegisCapabilities
internal import AegisCore
package import AegisJSON

/// `web_fetch`: one page, with every host on the way to it asked for by itself.
package struct WebFetchTool: Tool {
    package let declaration = ToolDeclaration(
        name: "web_fetch",
        description: "Fetches a text from the web by GET. An answer whose status is not 2xx is an error.",
        input: [
            "type": "object",
            "properties": [
                "url": ["type": "string", "minLength": 1, "description": "An http or https address."],
                "max_bytes": [
                    "type": "integer", "minimum": 1, "maximum": 1_000_000,
                    "description": "How much of the body is read; 50000.",
                ],
            ], "required": ["url"], "additionalProperties": false,
        ], effects: .external, isIdempotent: true, isParallelSafe: true, resources: [.network], timeLimit: .seconds(60),
        outputLimit: 2 << 20)

    /// Redirects that are followed.
    static let mostRedirects = 5
    /// How long one request may take.
    static let requestTime = Duration.seconds(30)

    private let transport: any WebTransport
    private let pages: (any PageReader)?

    /// Makes the tool.
    ///
    /// - Parameters:
    ///   - transport: what speaks HTTP.
    ///   - pages: what makes text of HTML; without it HTML is given as it is.
    package init(_ transport: any WebTransport, pages: (any PageReader)? = nil) {
        self.transport = transport
        self.pages = pages
    }

    package func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        let address = try WebAddress(parsing: try input.required("url"))
        let request = Request(.connect(address.destination, tool: declaration.name))
        let set = context.grants.grants(of: context.holder)
        if case .deny(let denial) = evaluate(request, with: set, at: .now()) { throw denial }
        return ApprovalPreview("GET \(address)", resource: "network: \(address.destination)")
    }

    package func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        var address = try WebAddress(parsing: try input.required("url"))
        let most = Int(input["max_bytes"]?.integer ?? 50_000)
        for redirects in 0...Self.mostRedirects {
            let answer = try await get(address, most, context)
            guard let next = try redirect(answer, from: address) else {
                return try await reply(address, answer, redirects: redirects)
            }
            address = next
        }
        throw AegisError.failed(
            "too-many-redirects", "more than \(Self.mostRedirects) redirects, the last to '\(address)'")
    }

    /// One request: admitted before it is sent, counted by what came.
    private func get(_ address: WebAddress, _ most: Int, _ context: ToolContext) async throws -> WebAnswer {
        let wants = Amounts(bytes: UInt64(most))
        let admission = try context.grants.admit(
            Request(
                .connect(address.destination, tool: declaration.name), needs: Amounts(bytes: 1), wants: wants),
            by: context.holder)
        let request = WebRequest(
            url: "\(address)",
            headers: [("Accept", "text/*, application/json, application/xml;q=0.9"), ("User-Agent", "aegis")],
            admits: { found, port in port == address.port && address.admits(found) },
            mostBytes: Int(min(UInt64(most), admission.reserved.bytes)), timeLimit: Self.requestTime)
        do {
            let answer = try await transport.get(request)
            admission.settle(used: Amounts(bytes: UInt64(answer.body.count)))
            return answer
        } catch let failure as WebFailure {
            admission.settle()
            throw error(failure, address, context)
        } catch {
            admission.settle()
            throw error
        }
    }

    private func error(_ failure: WebFailure, _ address: WebAddress, _ context: ToolContext) -> any Error {
        let what = "'\(address)' cannot be fetched"
        let why = Escaped.line(failure.message, atMost: 300)
        switch failure.kind {
        case .unresolved: return AegisError.notFound("host-not-found", "\(what): \(why)")
        case .refusedAddress:
            return Denial(
                .outOfReach,
                message: "\(what): '\(address.host)' leads to an address that is not on the public internet",
                hint: "private networks are reached by address, with a grant for it")
        case .connection: return AegisError(.unavailable, "connection-failed", "\(what): \(why)")
        case .certificate: return AegisError(.denied, "certificate-invalid", "\(what): \(why)")
        case .timeout: return AegisError(.timeout, "fetch-timeout", "\(what) in time: \(why)")
        }
    }

    /// Where an answer leads to; nil when it is one to be read.
    private func redirect(_ answer: WebAnswer, from address: WebAddress) throws(AegisError) -> WebAddress? {
        guard [301, 302, 303, 307, 308].contains(answer.status), let location = answer.header("location") else {
            return nil
        }
        let next = try address.following(location)
        guard next.isEncrypted || !address.isEncrypted else {
            throw AegisError(
                .denied, "redirect-unsafe", "'\(address)' leads from https to http, to '\(next)'",
                hint: "fetch that address itself if it is what you want")
        }
        return next
    }

    private func reply(_ address: WebAddress, _ answer: WebAnswer, redirects: Int) async throws -> ToolReply {
        let type = answer.header("content-type") ?? ""
        let kind = WebContent(type)
        guard kind != .other || answer.body.isEmpty else {
            throw AegisError(
                .usage, "content-not-text",
                "'\(address)' is '\(Escaped.line(type, atMost: 100))', and only text can be fetched")
        }
        var isExtracted = false
        var text: String
        if kind == .page, let pages {
            text = try await pages.text(of: answer.body, contentType: type)
            isExtracted = true
        } else {
            text = try WebContent.decode(answer.body, type, isTruncated: answer.isTruncated)
        }
        if text.unicodeScalars.contains("\0") { text = text.replacing("\0", with: "\u{fffd}") }
        return ToolReply(
            [
                "url": .string("\(address)"), "status": .number(answer.status), "content_type": .string(type),
                "body": .string(text), "bytes_read": .number(answer.body.count), "truncated": .bool(answer.isTruncated),
                "extracted": .bool(isExtracted), "redirects": .number(redirects),
            ], isError: !(200..<300).contains(answer.status))
    }
}

/// What kind of content a type is of.
enum WebContent {
    case text, page, other

    init(_ type: String) {
        let name = Self.name(type)
        let isText =
            name.hasPrefix("text/") || name.hasSuffix("+json") || name.hasSuffix("+xml")
            || [
                "application/json", "application/xml", "application/javascript", "application/x-javascript",
                "application/yaml", "application/x-yaml", "application/toml", "application/x-ndjson",
                "application/graphql", "application/sql",
            ].contains(name)
        self = name == "text/html" || name == "application/xhtml+xml" ? .page : isText || name.isEmpty ? .text : .other
    }

    private static func name(_ type: String) -> String {
        type.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
    }

    /// A body as text.
    ///
    /// - Throws: `content-not-text` when it is in an encoding that is not known, or is no text although its type says so.
    static func decode(_ bytes: [UInt8], _ type: String, isTruncated: Bool) throws(AegisError) -> String {
        let parameter = type.lowercased().split(separator: ";").dropFirst()
            .map { $0.filter { $0 != " " && $0 != "\"" } }.first { $0.hasPrefix("charset=") }
        let charset = parameter.map { String($0.dropFirst(8)) } ?? "utf-8"
        switch charset {
        case "utf-8", "utf8", "us-ascii", "ascii":
            // A page without a type may be anything; text has no zero bytes.
            guard !bytes.prefix(1024).contains(0) else {
                throw AegisError(.usage, "content-not-text", "the body is binary, and only text can be fetched")
            }
            var end = bytes.count
            // The cut may go through a character.
            if isTruncated { while end > max(0, bytes.count - 3), bytes[end - 1] & 0xc0 == 0x80 { end -= 1 } }
            if isTruncated, end > 0, bytes[end - 1] & 0xc0 == 0xc0 { end -= 1 } else { end = bytes.count }
            return String(decoding: bytes[..<end], as: UTF8.self)
        case "iso-8859-1", "latin1", "windows-1252":
            return String(String.UnicodeScalarView(bytes.map { Unicode.Scalar($0) }))
        default:
            throw AegisError(
                .usage, "content-not-text",
                "the body is in '\(Escaped.line(charset, atMost: 40))', which is not read here")
        }
    }
}
