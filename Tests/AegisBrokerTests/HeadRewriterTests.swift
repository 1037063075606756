import AegisCapabilities
import AegisCore
import AegisProxy
import AegisSecrets
import AegisWire
import Testing

@testable import AegisBroker

@Suite struct HeadRewriterTests {
    static let value = "real-value-123"

    static func secrets(_ bindings: String...) throws -> (BrokeredSecrets, String) {
        let parsed = try bindings.map { text -> SecretBinding in
            guard case .brokered(let binding) = try SecretArgument(parsing: text) else {
                throw HTTPError(.misuse, text)
            }
            return binding
        }
        let secret = try BrokeredSecret(parsed, value: Secret(Array(value.utf8)))
        return (BrokeredSecrets([secret]), secret.placeholder.description)
    }

    /// A head with `¬` for CR LF, rewritten, without what is always added.
    static func rewrite(
        _ text: String, _ secrets: BrokeredSecrets?, host: String = "api.example.com"
    ) throws -> (head: String, used: [String]) {
        let bytes = Array(text.replacing("¬", with: "\r\n").utf8)
        var index = HTTPRequestIndex()
        try #require(try index.scan(bytes.span))
        let method = String(decoding: bytes[index.method], as: UTF8.self)
        let path = String(decoding: bytes[index.path], as: UTF8.self)
        var rewriter = HeadRewriter(secrets, host: try #require(HostName(host)), method: method, path: path)
        let head = String(decoding: try rewriter.rewrite(index, bytes), as: UTF8.self)
        return (head.replacing("\r\n", with: "¬").replacing("Accept-Encoding: identity¬", with: ""), rewriter.used)
    }

    @Test func secretsGoIntoTheUsualHeaders() throws {
        let (secrets, placeholder) = try Self.secrets("KEY@api.example.com")
        for header in [
            "Authorization: Bearer ", "authorization: bearer ", "X-Api-Key: ", "API-KEY: ", "x-goog-api-key: ",
            "Private-Token: ",
        ] {
            let (head, used) = try Self.rewrite("GET /a?b=c HTTP/1.1¬Host: h¬\(header)\(placeholder)¬A: b¬¬", secrets)
            #expect(head == "GET /a?b=c HTTP/1.1¬Host: h¬\(header)\(Self.value)¬A: b¬¬")
            #expect(used == ["KEY"])
        }
    }

    /// The same for HTTP/2, each field as `name: value`, with `!` before what no compressor may remember.
    private static func rewrite(
        _ fields: KeyValuePairs<String, String>, _ secrets: BrokeredSecrets?, path: String = "/a"
    ) throws -> [String] {
        var all = HTTP2Fields([":method": "GET", ":scheme": "http", ":path": path])
        for (name, value) in fields { all.add(Array(name.utf8), Array(value.utf8)) }
        var rewriter = HeadRewriter(
            secrets, host: try #require(HostName("api.example.com")), method: "GET", path: path)
        let section = try rewriter.rewrite(all)
        return (0..<section.count).map { index in
            let field = section.field(index)
            let text = String(decoding: field.name, as: UTF8.self) + ": " + String(decoding: field.value, as: UTF8.self)
            return (field.neverIndex ? "!" : "") + text
        }
    }

    @Test func sectionsOfHTTP2AreWrittenAnew() throws {
        let (secrets, placeholder) = try Self.secrets("KEY@api.example.com")
        let fields: KeyValuePairs = [
            "host": "api.example.com", "authorization": "Bearer \(placeholder)", "accept-encoding": "gzip",
            "grpc-accept-encoding": "gzip", "proxy-authorization": "x", "te": "trailers", "cookie": "a=b",
        ]
        let first = [":method: GET", ":scheme: https", ":authority: api.example.com", ":path: /a"]
        #expect(
            try Self.rewrite(fields, secrets) == first + [
                "!authorization: Bearer \(Self.value)", "te: trailers", "cookie: a=b", "accept-encoding: identity",
            ])
        #expect(
            try Self.rewrite(fields, nil) == first + [
                "authorization: Bearer \(placeholder)", "accept-encoding: gzip", "grpc-accept-encoding: gzip",
                "te: trailers", "cookie: a=b",
            ])
        for (fields, path) in [
            (["cookie": placeholder], "/a"), ([:], "/\(placeholder)"), (["host": placeholder], "/a"),
            (["x-\(placeholder)": "a"], "/a"),
        ] as [(KeyValuePairs<String, String>, String)] {
            #expect(throws: BrokerRefusal.self) { try Self.rewrite(fields, secrets, path: path) }
        }
    }

    @Test func basicAuthenticationIsDecoded() throws {
        let (secrets, placeholder) = try Self.secrets("KEY@api.example.com")
        for (plain, expected) in [
            ("git:\(placeholder)", "git:\(Self.value)"), ("\(placeholder):", "\(Self.value):"),
            (placeholder + ":x", Self.value + ":x"), ("user:other", "user:other"),
        ] {
            let text = String(decoding: Base64.encode(Array(plain.utf8)), as: UTF8.self)
            let (head, _) = try Self.rewrite("GET / HTTP/1.1¬Host: h¬Authorization: Basic \(text)¬¬", secrets)
            let wanted = String(decoding: Base64.encode(Array(expected.utf8)), as: UTF8.self)
            #expect(head == "GET / HTTP/1.1¬Host: h¬Authorization: Basic \(wanted)¬¬")
        }
    }

    @Test func aNamedHeaderIsTheOnlyOne() throws {
        let (secrets, placeholder) = try Self.secrets("KEY@api.example.com,header=Cookie")
        let (head, _) = try Self.rewrite("GET / HTTP/1.1¬Host: h¬Cookie: a=b; s=\(placeholder); c=d¬¬", secrets)
        #expect(head == "GET / HTTP/1.1¬Host: h¬Cookie: a=b; s=\(Self.value); c=d¬¬")
        #expect(throws: BrokerRefusal.self) {
            try Self.rewrite("GET / HTTP/1.1¬Host: h¬Authorization: Bearer \(placeholder)¬¬", secrets)
        }
    }

    @Test func otherSchemesNeedTheHeaderByName() throws {
        let (usual, first) = try Self.secrets("KEY@api.example.com")
        let head = "GET / HTTP/1.1¬Host: h¬Authorization: "
        for value in ["token \(first)", first, "Digest x=\(first)", "AWS4 \(first)"] {
            #expect(throws: BrokerRefusal.self) { try Self.rewrite("\(head)\(value)¬¬", usual) }
        }
        let (named, second) = try Self.secrets("KEY@api.example.com,header=authorization")
        #expect(try Self.rewrite("\(head)token \(second)¬¬", named).head == "\(head)token \(Self.value)¬¬")
        #expect(try Self.rewrite("\(head)\(second)¬¬", named).head == "\(head)\(Self.value)¬¬")
    }

    @Test func placeMethodAndPathMustFit() throws {
        let (secrets, placeholder) = try Self.secrets("KEY@api.example.com/v1,methods=GET", "KEY@b.example.com")
        func reason(_ line: String, host: String = "api.example.com") -> String? {
            do {
                _ = try Self.rewrite("\(line) HTTP/1.1¬Host: h¬X-Api-Key: \(placeholder)¬¬", secrets, host: host)
                return nil
            } catch { return (error as? BrokerRefusal)?.reason }
        }
        for line in ["GET /v1", "GET /v1/a", "GET /v1/a?b=%2e%2e/"] { #expect(reason(line) == nil) }
        for line in [
            "POST /v1", "GET /v10", "GET /", "GET /v1/../keys", "GET /v1/%2e%2e/keys", "GET /v1//x", "GET /V1",
            "get /v1", "GET /x?/v1",
        ] {
            #expect(reason(line) == "secret-not-bound", "\(line)")
        }
        #expect(reason("POST /anything", host: "b.example.com") == nil)
        #expect(reason("GET /v1", host: "c.example.com") == "secret-not-bound")
        #expect(reason("GET /v1", host: "x.api.example.com") == "secret-not-bound")
    }

    @Test func everywhereElseItIsRefused() throws {
        let (secrets, p) = try Self.secrets("KEY@api.example.com,header=x-key", "KEY@api.example.com")
        let encoded = p.utf8.map { "%" + String($0, radix: 16) }.joined()
        let escaped = p.utf8.map { "\\u00" + String($0, radix: 16) }.joined()
        let base64 = String(decoding: Base64.encode(Array(("x" + p).utf8)), as: UTF8.self)
        for text in [
            "GET /\(p) HTTP/1.1¬Host: h¬¬", "GET /?k=\(p) HTTP/1.1¬Host: h¬¬", "GET /?k=\(encoded) HTTP/1.1¬Host: h¬¬",
            "GET / HTTP/1.1¬Host: h¬User-Agent: \(p)¬¬", "GET / HTTP/1.1¬Host: h¬Cookie: \(p)¬¬",
            "GET / HTTP/1.1¬Host: h¬\(p): x¬¬", "GET / HTTP/1.1¬Host: h¬X: \(escaped)¬¬",
            "GET / HTTP/1.1¬Host: h¬X: \(base64)¬¬", "GET / HTTP/1.1¬Host: h¬X-Api-Key: \(base64)¬¬",
            "GET / HTTP/1.1¬Host: h¬X-Api-Key: \(p) \(encoded)¬¬", "GET / HTTP/1.1¬Host: h¬Referer: https://h/\(p)¬¬",
            "GET / HTTP/1.1¬Host: h¬Authorization: Bearer \(base64)¬¬",
            "GET / HTTP/1.1¬Host: h¬Proxy-Authorization: Bearer \(p)¬¬",
        ] {
            do {
                _ = try Self.rewrite(text, secrets)
                Issue.record("it went out: \(text)")
            } catch { #expect((error as? BrokerRefusal)?.reason == "secret-misplaced", "\(text)") }
        }
    }

    @Test func oldPlaceholdersAreSaid() throws {
        let (secrets, _) = try Self.secrets("KEY@api.example.com")
        do {
            _ = try Self.rewrite("GET / HTTP/1.1¬Host: h¬X-Api-Key: \(Placeholder())¬¬", secrets)
            Issue.record("it went out")
        } catch { #expect((error as? BrokerRefusal)?.reason == "secret-unknown") }
    }

    @Test func responsesStayReadable() throws {
        let (secrets, _) = try Self.secrets("KEY@api.example.com")
        let head =
            "GET / HTTP/1.1¬Host: h¬Accept-Encoding: gzip, br¬Sec-WebSocket-Extensions: permessage-deflate¬A: b¬¬"
        #expect(try Self.rewrite(head, secrets).head == "GET / HTTP/1.1¬Host: h¬A: b¬¬")
        // Without secrets nothing is changed.
        #expect(try Self.rewrite(head, nil).head == head)
        let upgrade = "GET / HTTP/1.1¬Host: h¬Connection: upgrade¬Upgrade: "
        #expect(try Self.rewrite("\(upgrade)h2c¬¬", nil).head == "GET / HTTP/1.1¬Host: h¬Connection: upgrade¬¬")
        #expect(try Self.rewrite("\(upgrade)WebSocket¬¬", nil).head == "\(upgrade)WebSocket¬¬")
    }

    @Test func severalSecretsDoNotMix() throws {
        let one = try BrokeredSecret([Self.binding("ONE@a.example")], value: Secret(Array("value-of-one".utf8)))
        let two = try BrokeredSecret([Self.binding("TWO@a.example")], value: Secret(Array("value-of-two".utf8)))
        let both = BrokeredSecrets([one, two])
        let pair = "\(one.placeholder):\(two.placeholder)"
        let text = String(decoding: Base64.encode(Array(pair.utf8)), as: UTF8.self)
        let (head, used) = try Self.rewrite(
            "GET / HTTP/1.1¬Host: h¬Authorization: Basic \(text)¬¬", both, host: "a.example")
        let wanted = String(decoding: Base64.encode(Array("value-of-one:value-of-two".utf8)), as: UTF8.self)
        #expect(head.contains(wanted) && used == ["ONE", "TWO"])
        #expect(both.environment.map(\.value) == [one.placeholder.description, two.placeholder.description])
    }

    static func binding(_ text: String) throws -> SecretBinding {
        guard case .brokered(let binding) = try SecretArgument(parsing: text) else { throw HTTPError(.misuse, text) }
        return binding
    }

    @Test(arguments: ["", "a\nb", "a\u{7f}", " a", "a "])
    func valuesThatNoHeaderHoldsAreRefused(_ value: String) throws {
        let binding = try Self.binding("KEY@a.example")
        #expect(throws: AegisError.self) { try BrokeredSecret([binding], value: Secret(Array(value.utf8))) }
    }

    @Test func placeholdersAreRandomAndPlain() {
        let many = Set((0..<200).map { _ in Placeholder() })
        #expect(many.count == 200)
        for one in many {
            #expect(one.description.utf8.count == Placeholder.length && one.description.hasPrefix(Placeholder.prefix))
            #expect(one.description.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber) })
        }
    }
}
