package import AegisCore
import AegisIO
package import AegisWire

/// The request that a connection serves now, for those who decide where it goes.
///
/// One object serves the requests of a connection until it is parked, and then those of another, on the proxy's loop only (hence
/// `@unchecked Sendable`); what it tells is about the present one and only until that is under way.
package final class ProxyRequest: @unchecked Sendable {
    var buffer = ByteBuffer()
    /// Where the parts of the head are.
    package internal(set) var index: HTTPRequestIndex
    /// Who asks.
    package internal(set) var client: ProxyClient

    init(client: ProxyClient, limits: HTTPLimits) {
        self.client = client
        index = HTTPRequestIndex(limits: limits)
    }

    /// The value of the first field with a name, which must be given in lower case.
    package func header(_ name: StaticString) -> String? { index.table.text(name, in: buffer.readable.span) }

    /// Whether fields of one name (in lower case) say different things.
    package func disagrees(on name: StaticString) -> Bool {
        let bytes = buffer.readable
        guard let first = index.table.position(of: name, in: bytes.span) else { return false }
        var start = first + 1
        while let other = index.table.position(of: name, in: bytes.span, from: start) {
            let values = [first, other].map { HTTPText.string(bytes.span, index.table.value($0)) }
            if values[0] != values[1] { return true }
            start = other + 1
        }
        return false
    }

    /// Whether a field is there.
    package func has(_ name: StaticString) -> Bool {
        index.table.position(of: name, in: buffer.readable.span) != nil
    }

    /// Whom the request is for: the authority of an absolute target, else `Host`.
    package var host: String? {
        if let authority = index.authority { return HTTPText.string(buffer.readable.span, authority) }
        return header("host")
    }

    /// Path and query as they were sent.
    package var path: String { HTTPText.string(buffer.readable.span, index.path) }

    /// The head as it was sent, with its empty line.
    package var head: ArraySlice<UInt8> { buffer.readable.prefix(index.length) }

    /// Whether it is a page load or one of a page's own requests: only browsers send these fields.
    package var isFromBrowser: Bool {
        prefersHTML || has("sec-fetch-mode") || has("sec-fetch-site") || has("sec-fetch-dest") || has("sec-fetch-user")
    }

    /// Whether a person reads the answer: a GET that asks for HTML.
    package var prefersHTML: Bool {
        guard index.verb == .get else { return false }
        let bytes = buffer.readable
        var start = 0
        while let field = index.table.position(of: "accept", in: bytes.span, from: start) {
            if HTTPText.mentions(bytes.span, index.table.value(field), "text/html") { return true }
            start = field + 1
        }
        return false
    }

    /// Whether it asks for a WebSocket.
    package var isWebSocket: Bool {
        guard index.wantsUpgrade, index.verb == .get else { return false }
        let bytes = buffer.readable
        guard let field = index.table.position(of: "upgrade", in: bytes.span) else { return false }
        return HTTPText.equal(bytes.span, index.table.value(field), "websocket")
    }
}

/// An answer that is made here.
package struct ProxyAnswer: Sendable {
    /// 200 to 599.
    package var status: Int
    /// Without the fields that frame the message.
    package var headers: HTTPHeaders
    /// Small.
    package var body: [UInt8]

    /// Makes an answer.
    package init(_ status: Int, headers: HTTPHeaders, body: [UInt8]) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    /// The answer for a failure: a small page for a person, else the error body of the API.
    package init(_ error: AegisError, status: Int, html: Bool) {
        let body = html ? HTMLPage.failure(error, status: status) : error.jsonBody
        let type = html ? "text/html; charset=utf-8" : "application/json"
        self.init(status, headers: ["Content-Type": type, "Cache-Control": "no-store"], body: body)
        if status == 503, !Self.lasting.contains(error.code) { headers.add("Retry-After", "1") }
    }

    /// What another request a second later would not change: who is told to ask again would be kept asking for nothing.
    private static let lasting: Set<String> = [
        "crash-loop", "instance-asleep", "instance-cooling", "instance-disabled",
    ]

    /// What travels.
    package func encoded(isHead: Bool, keepAlive: Bool, version: HTTPVersion) -> [UInt8] {
        var out = Array("HTTP/1.1 \(status) \(HTTPResponseHead.reason(status))\r\n".utf8)
        headers.encode(into: &out)
        out += Array("Content-Length: \(body.count)\r\n".utf8)
        if !keepAlive {
            out += Array("Connection: close\r\n".utf8)
        } else if version == .http10 {
            out += Array("Connection: keep-alive\r\n".utf8)
        }
        out += [13, 10]
        if !isHead { out += body }
        return out
    }
}

/// Small pages that need neither scripts nor other files.
package enum HTMLPage {
    /// A page with a title and paragraphs; texts are escaped.
    ///
    /// - Parameters:
    ///   - title: also the heading.
    ///   - paragraphs: plain text.
    ///   - refresh: reload after so many seconds.
    ///   - links: shown as a list.
    /// - Returns: the page.
    package static func make(
        title: String, paragraphs: [String], refresh: Int? = nil, links: [(text: String, target: String)] = []
    ) -> [UInt8] {
        var page = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        page += "<meta name=\"viewport\" content=\"width=device-width\">"
        if let refresh { page += "<meta http-equiv=\"refresh\" content=\"\(refresh)\">" }
        page += "<title>\(escaped(title))</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:36em;"
        page += "margin:15vh auto;padding:0 1em}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}"
        page += "a{color:#8bf}}</style></head>\n<body><h1>\(escaped(title))</h1>\n"
        for paragraph in paragraphs { page += "<p>\(escaped(paragraph))</p>\n" }
        if !links.isEmpty {
            let items = links.map { "<li><a href=\"\(escaped($0.target))\">\(escaped($0.text))</a></li>" }
            page += "<ul>\(items.joined())</ul>\n"
        }
        return Array((page + "</body></html>\n").utf8)
    }

    static func failure(_ error: AegisError, status: Int) -> [UInt8] {
        make(
            title: "\(status) \(HTTPResponseHead.reason(status))",
            paragraphs: ["\(error.message) (\(error.code))"] + (error.hint.map { [$0] } ?? []))
    }

    private static func escaped(_ text: String) -> String {
        var out = ""
        for character in text {
            switch character {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "'": out += "&#39;"
            default: out.append(character)
            }
        }
        return out
    }
}

/// What is to be done with a request.
package enum ProxyDecision: Sendable {
    /// Pass it on.
    case relay(any ProxyUpstream, ProxyEdits)
    /// Answer it here.
    case answer(ProxyAnswer)
}

/// Decides for each request of a connection where it goes; called on the proxy's loop.
package protocol ProxyDirector: Sendable {
    /// The decision, where it needs no waiting; nil for those that `direct` makes. To ask costs less than to wait.
    func decide(_ request: ProxyRequest) -> ProxyDecision?

    /// The decision; the request is read no further meanwhile.
    func direct(_ request: ProxyRequest) async -> ProxyDecision
}

extension ProxyDirector {
    package func decide(_ request: ProxyRequest) -> ProxyDecision? { nil }
}
