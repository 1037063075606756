package import AegisCapabilities
internal import AegisCore
package import AegisJSON

/// `web_fetch`: one page, with every host on the way to it asked for by itself.
package struct WebFetchTool: Tool {
    package let declaration = ToolDeclaration(
        name: "web_fetch",
        description:
            "Fetches a text from the web by GET. Of an HTML page you get the readable text, with headings, lists, code and links. "
            + "An answer whose status is not 2xx is an error.",
        input: [
            "type": "object",
            "properties": [
                "url": ["type": "string", "minLength": 1, "description": "An http or https address."],
                "max_bytes": [
                    "type": "integer", "minimum": 1, "maximum": 1_000_000,
                    "description": "How much of the text you get; 50000.",
                ],
                "raw": ["type": "boolean", "description": "The source of an HTML page instead of its text."],
            ], "required": ["url"], "additionalProperties": false,
        ], effects: .external, isIdempotent: true, isParallelSafe: true, resources: [.network], timeLimit: .seconds(60),
        outputLimit: 2 << 20)

    /// Redirects that are followed.
    static let mostRedirects = 5
    /// How much of a page is read to make text of it.
    static let pageBytes = 1_000_000
    /// How long one request may take.
    static let requestTime = Duration.seconds(30)

    private let transport: any WebTransport
    private let pages: (any PageReader)?
    private let place: @Sendable (IPAddress) -> AddressPlace

    /// Makes the tool.
    ///
    /// - Parameters:
    ///   - transport: what speaks HTTP.
    ///   - pages: what makes text of HTML; without it the source is given.
    ///   - place: where an address is. Asked before each connection.
    package init(
        _ transport: any WebTransport, pages: (any PageReader)? = nil,
        place: @escaping @Sendable (IPAddress) -> AddressPlace
    ) {
        self.transport = transport
        self.pages = pages
        self.place = place
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
        let wish = Wish(
            most: Int(input["max_bytes"]?.integer ?? 50_000), isRaw: pages == nil || input["raw"]?.flag == true)
        for redirects in 0...Self.mostRedirects {
            let answer = try await get(address, wish, context)
            guard let next = try redirect(answer, from: address) else {
                return try await reply(address, answer, wish, redirects: redirects)
            }
            address = next
        }
        throw AegisError.failed(
            "too-many-redirects", "more than \(Self.mostRedirects) redirects, the last to '\(address)'")
    }

    /// What the caller wants of an answer.
    private struct Wish {
        /// Bytes of the text.
        var most: Int
        /// Whether HTML is given as it is.
        var isRaw: Bool
    }

    /// One request: admitted before it is sent, counted by what came.
    private func get(_ address: WebAddress, _ wish: Wish, _ context: ToolContext) async throws -> WebAnswer {
        let pageBytes = wish.isRaw ? wish.most : max(wish.most, Self.pageBytes)
        let wants = Amounts(bytes: UInt64(pageBytes))
        let admission = try context.grants.admit(
            Request(
                .connect(address.destination, tool: declaration.name), needs: Amounts(bytes: 1), wants: wants),
            by: context.holder)
        let request = WebRequest(
            url: "\(address)",
            headers: [("Accept", "text/*, application/json, application/xml;q=0.9"), ("User-Agent", "aegis")],
            admits: rule(for: address, admission.capability, context),
            mostBytes: Int(min(UInt64(wish.most), admission.reserved.bytes)),
            mostPageBytes: Int(min(UInt64(pageBytes), admission.reserved.bytes)), timeLimit: Self.requestTime)
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

    /// Which addresses may be connected to for one that was admitted.
    private func rule(
        for address: WebAddress, _ capability: Capability, _ context: ToolContext
    ) -> WebRequest.AddressRule {
        // A name that was admitted says nothing of the addresses that it leads to.
        let admitted: Capability? = if case .address = address.destination.host { capability } else { nil }
        let tool = declaration.name
        return { [place, grants = context.grants, holder = context.holder] found, port in
            guard port == address.port else { return false }
            return address.admits(found) {
                grants.grants(of: holder).refusal(
                    of: $0, port: port, by: tool, at: place($0), admitted: admitted, now: .now())
            }
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
                message: "\(what): '\(address.host)' leads to an address that is not on the public internet, "
                    + "or to a neighbour of this host",
                hint: "private networks are reached by address, neighbours by name as well, with a grant for "
                    + "addresses of that network")
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

    private func reply(
        _ address: WebAddress, _ answer: WebAnswer, _ wish: Wish, redirects: Int
    ) async throws -> ToolReply {
        let type = answer.header("content-type") ?? ""
        let kind = WebContent(type)
        guard kind != .other || answer.body.isEmpty else {
            throw AegisError(
                .usage, "content-not-text",
                "'\(address)' is '\(Escaped.line(type, atMost: 100))', and only text can be fetched")
        }
        var fields: [JSONValue.Field] = [
            .init("url", .string("\(address)")), .init("status", .number(answer.status)),
            .init("content_type", .string(type)),
        ]
        let text = kind == .page ? WebContent.charset(ofPage: answer.body, type) : type
        let source = try WebContent.decode(answer.body, text, isTruncated: answer.isTruncated)
            .replacing("\0", with: "\u{fffd}")
        let page = kind == .page && !wish.isRaw ? try await readable(source, address, wish.most) : nil
        if let page, !page.title.isEmpty { fields.append(.init("title", .string(page.title))) }
        fields += [
            .init("body", .string(page?.text ?? source)), .init("bytes_read", .number(answer.body.count)),
            .init("truncated", .bool(answer.isTruncated || page?.isTruncated == true)),
            .init("extracted", .bool(page != nil)), .init("redirects", .number(redirects)),
        ]
        return ToolReply(.object(fields), isError: !(200..<300).contains(answer.status))
    }

    private func readable(
        _ source: String, _ address: WebAddress, _ most: Int
    ) async throws -> (title: String, text: String, isTruncated: Bool)? {
        try await pages?.read(source, at: "\(address)", limit: most)
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

    /// The type of a page with the character set that it says itself, where its sender said none.
    static func charset(ofPage bytes: [UInt8], _ type: String) -> String {
        guard !type.lowercased().contains("charset=") else { return type }
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { return type + "; charset=utf-8" }
        let head = String(decoding: bytes.prefix(1024).map { $0 < 0x80 ? $0 : 0x3f }, as: UTF8.self).lowercased()
        guard let found = head.firstRange(of: "charset=") else { return type }
        let name = head[found.upperBound...].drop { $0 == "\"" || $0 == "'" || $0 == " " }
            .prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-" || $0 == "_") }
        return name.isEmpty ? type : type + "; charset=\(name)"
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
