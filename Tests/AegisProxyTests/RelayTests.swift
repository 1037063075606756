import AegisIO
import AegisProxy
import AegisWire
import Testing

/// What one exchange does to heads and bodies.
@Suite struct RelayTests {
    /// What the server gets for a request.
    private func relayed(_ request: String, edits: ProxyEdits = ProxyEdits()) async throws -> String {
        let seen = Box("")
        try await withProxy(edits: edits) { peer, _ in
            let head = try await peer.head()
            seen.change { $0 = head }
            try await peer.send("HTTP/1.1 204 No Content¬¬")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send(request)
            #expect(try await client.head().hasPrefix("HTTP/1.1 204 "))
        }
        return seen.change { $0 }
    }

    private static let client = "X-Forwarded-For: 192.0.2.7¬X-Real-IP: 192.0.2.7¬X-Forwarded-Proto: http¬"
    private static let told = "\(client)X-Forwarded-Host: a:80¬¬"

    @Test(arguments: [
        // End to end fields stay as they are, in order.
        ("GET /a?b=%zz HTTP/1.1¬Host: a:80¬B: 1¬A:2 ¬¬", "GET /a?b=%zz HTTP/1.1¬Host: a:80¬B: 1¬A:2 ¬"),
        // Fields of this hop end here, also those that Connection names, but never Host or framing.
        (
            "GET / HTTP/1.1¬Connection: close, X-One, host¬X-One: 1¬Host: a:80¬Keep-Alive: 5¬Proxy-Connection: x¬"
                + "Proxy-Authorization: b¬Proxy: evil¬X-Aegis-Instance: i¬Z: 1¬¬", "GET / HTTP/1.1¬Host: a:80¬Z: 1¬"
        ),
        // What a client says about itself is not believed.
        (
            "GET / HTTP/1.1¬X-Forwarded-For: 1.1.1.1¬X-Forwarded-Anything: 1¬Forwarded: for=x¬X-Real-IP: 1.1.1.1¬"
                + "x_real-Ip: 1.1.1.1¬X-Real-IQ: 1¬Host: a:80¬¬",
            "GET / HTTP/1.1¬X-Real-IQ: 1¬Host: a:80¬"
        ),
        // Nor in a spelling that a server takes for the same; others with `_` are their own.
        (
            "GET / HTTP/1.1¬X_Forwarded_For: 1.1.1.1¬x-forwarded_proto: https¬X_FORWARDED-HOST: b¬X-Forwarded-By: 1¬"
                + "X_Forwarded: 1¬X_Other_Forwarded_For: 1¬Host: a:80¬¬",
            "GET / HTTP/1.1¬X_Forwarded: 1¬X_Other_Forwarded_For: 1¬Host: a:80¬"
        ),
        ("GET / HTTP/1.1¬TE: trailers, gzip¬Host: a:80¬¬", "GET / HTTP/1.1¬Host: a:80¬Connection: TE¬TE: trailers¬"),
        ("GET / HTTP/1.1¬TE: gzip¬Host: a:80¬¬", "GET / HTTP/1.1¬Host: a:80¬"),
        ("GET http://a:80/x HTTP/1.1¬Host: b¬¬", "GET /x HTTP/1.1¬Host: a:80¬"),
        ("GET http://a:80?x HTTP/1.1¬Host: b¬¬", "GET /?x HTTP/1.1¬Host: a:80¬"),
        ("OPTIONS * HTTP/1.1¬Host: a:80¬¬", "OPTIONS * HTTP/1.1¬Host: a:80¬"),
        ("GET /../%2e%2e/ü HTTP/1.1¬Host: a:80¬¬", "GET /../%2e%2e/ü HTTP/1.1¬Host: a:80¬"),
        // HTTP/2 is not tunnelled in, an unknown protocol with a body neither.
        ("GET / HTTP/1.1¬Host: a:80¬Connection: upgrade¬Upgrade: h2c¬¬", "GET / HTTP/1.1¬Host: a:80¬"),
        ("GET / HTTP/1.1¬Host: a:80¬Upgrade: websocket¬¬", "GET / HTTP/1.1¬Host: a:80¬"),
        (
            "GET / HTTP/1.1¬Host: a:80¬Connection: Upgrade¬Upgrade: websocket¬¬",
            "GET / HTTP/1.1¬Host: a:80¬Connection: upgrade¬Upgrade: websocket¬"
        ),
        ("POST / HTTP/1.1¬Host: a:80¬Content-Length: 0¬¬", "POST / HTTP/1.1¬Host: a:80¬Content-Length: 0¬"),
    ])
    func aRequestHeadIsPassedOn(_ request: String, _ expected: String) async throws {
        #expect(try await relayed(request) == expected + Self.told)
    }

    @Test func anHTTP10RequestGetsAHost() async throws {
        let seen = try await relayed("GET / HTTP/1.0¬¬")
        #expect(seen == "GET / HTTP/1.1¬Host: localhost¬\(Self.client)¬")
    }

    @Test(arguments: [("/web", "/"), ("/web/", "/"), ("/web/a/b?c", "/a/b?c"), ("/web?x=1", "/?x=1")])
    func aPrefixOfThePathIsTakenAway(_ path: String, _ expected: String) async throws {
        var edits = ProxyEdits()
        edits.pathPrefix = 4
        edits.forwardedPrefix = Array("/web".utf8)
        edits.tellsClient = true
        let seen = try await relayed("GET \(path) HTTP/1.1¬Host: a:80¬¬", edits: edits)
        #expect(seen.hasPrefix("GET \(expected) HTTP/1.1¬") && seen.contains("¬X-Forwarded-Prefix: /web¬"), "\(seen)")
    }

    /// What the client gets for a response.
    private func answered(
        _ response: String, to request: String = "GET / HTTP/1.1¬Host: a¬Connection: close¬¬",
        edits: ProxyEdits = ProxyEdits()
    ) async throws -> String {
        let got = Box("")
        try await withProxy(edits: edits) { peer, _ in
            _ = try await peer.head()
            try await peer.send(response)
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send(request)
            let text = try await client.rest()
            got.change { $0 = text }
        }
        return got.change { $0 }
    }

    @Test(arguments: [
        (
            "HTTP/1.1 200 Fine¬Content-Length: 2¬Connection: close, X-A¬X-A: 1¬Keep-Alive: 1¬Proxy-Authenticate: x¬B: 2¬¬ok",
            "HTTP/1.1 200 Fine¬B: 2¬Content-Length: 2¬Connection: close¬¬ok"
        ),
        // A body without a length gets chunks, so that its end can be told from a broken connection.
        ("HTTP/1.1 200 OK¬¬body", "HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬Connection: close¬¬4¬body¬0¬¬"),
        ("HTTP/1.0 200 OK¬¬body", "HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬Connection: close¬¬4¬body¬0¬¬"),
        // Chunks are written anew, without extensions; trailers pass, framing in them does not.
        (
            "HTTP/1.1 200 OK¬Transfer-Encoding: Chunked¬Trailer: X¬¬2;ext=1¬ab¬001¬c¬0¬X: 1¬Set-Cookie: a=b¬¬",
            "HTTP/1.1 200 OK¬Trailer: X¬Transfer-Encoding: chunked¬Connection: close¬¬2¬ab¬1¬c¬0¬X: 1¬¬"
        ),
        (
            "HTTP/1.1 103 Early Hints¬Link: a¬¬HTTP/1.1 204 No Content¬Content-Length: 5¬¬",
            "HTTP/1.1 103 Early Hints¬Link: a¬¬HTTP/1.1 204 No Content¬Connection: close¬¬"
        ),
        (
            "HTTP/1.1 304 Not Modified¬Content-Length: 5¬¬",
            "HTTP/1.1 304 Not Modified¬Content-Length: 5¬Connection: close¬¬"
        ),
        ("HTTP/1.1 200¬Content-Length: 0¬¬", "HTTP/1.1 200 ¬Content-Length: 0¬Connection: close¬¬"),
        (
            "HTTP/1.1 426 Upgrade Required¬Upgrade: TLS/1.0¬Content-Length: 0¬¬",
            "HTTP/1.1 426 Upgrade Required¬Upgrade: TLS/1.0¬Content-Length: 0¬Connection: close¬¬"
        ),
    ])
    func aResponseIsPassedOn(_ response: String, _ expected: String) async throws {
        #expect(try await answered(response) == expected)
    }

    @Test func aHeadResponseKeepsItsLength() async throws {
        let got = try await answered(
            "HTTP/1.1 200 OK¬Content-Length: 5¬¬", to: "HEAD / HTTP/1.1¬Host: a¬Connection: close¬¬")
        #expect(got == "HTTP/1.1 200 OK¬Content-Length: 5¬Connection: close¬¬")
    }

    @Test func anHTTP10ClientGetsNoChunksAndNoInterimResponses() async throws {
        let got = try await answered(
            "HTTP/1.1 100 Continue¬¬HTTP/1.1 200 OK¬Transfer-Encoding: chunked¬¬3¬abc¬0¬¬", to: "GET / HTTP/1.0¬¬")
        #expect(got == "HTTP/1.1 200 OK¬Connection: close¬¬abc")
    }

    @Test(arguments: [
        ("/login?a=/b", "/web/login?a=/b"), ("/", "/web/"), ("http://A:80/x", "http://a:80/web/x"),
        ("http://a:80", "http://a:80/web/"), ("http://a:80?x", "http://a:80/web/?x"), ("/webs", "/web/webs"),
        // Elsewhere, relative, or by somebody who knows.
        ("//b/x", "//b/x"), ("http://a:8080/x", "http://a:8080/x"), ("https://a:80/x", "https://a:80/x"),
        ("x/y", "x/y"), ("?q", "?q"), ("/web/x", "/web/x"), ("/web?x", "/web?x"),
        ("http://a:80/web/x", "http://a:80/web/x"),
    ])
    func aClientBelowAPrefixIsSentBelowItAgain(_ said: String, _ expected: String) async throws {
        var edits = ProxyEdits()
        edits.pathPrefix = 4
        edits.forwardedPrefix = Array("/web".utf8)
        edits.origin = "http://a:80"
        try await withProxy(edits: edits) { peer, _ in
            _ = try await peer.head()
            try await peer.send("HTTP/1.1 302 Found¬A: 1¬location: \(said)¬B: 2¬Content-Length: 0¬¬")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET /web/x HTTP/1.1¬Host: a:80¬¬")
            let head = try await client.head()
            #expect(
                head.hasPrefix("HTTP/1.1 302 Found¬A: 1¬")
                    && head.lowercased().contains("¬location: \(expected)¬b: 2¬"),
                "\(head)")
        }
    }

    @Test func aGuardedOriginKeepsItsCookies() async throws {
        var edits = ProxyEdits()
        edits.guardsOrigin = true
        let got = try await answered(
            "HTTP/1.1 200 OK¬Set-Cookie: a=1; Domain=x.localhost; Path=/¬Service-Worker-Allowed: /¬Set-Cookie: b=domain¬"
                + "set-cookie: c=2;domain=y¬Content-Length: 0¬¬", edits: edits)
        #expect(
            got == "HTTP/1.1 200 OK¬Set-Cookie: a=1; Path=/¬Set-Cookie: b=domain¬Set-Cookie: c=2¬"
                + "Content-Length: 0¬Connection: close¬¬")
    }

    @Test func whatIsSetInTheHeadIsNotSaidAnewInTrailers() async throws {
        var edits = ProxyEdits()
        edits.responseFields = ProxyFields([(name: "X-Set", value: "ours")])
        let got = try await answered(
            "HTTP/1.1 200 OK¬x-set: theirs¬Transfer-Encoding: chunked¬¬1¬a¬0¬X_SET: theirs¬X-Other: 1¬x-set: theirs¬¬",
            edits: edits)
        #expect(
            got == "HTTP/1.1 200 OK¬X-Set: ours¬Transfer-Encoding: chunked¬Connection: close¬¬1¬a¬0¬X-Other: 1¬¬")
        edits.requestFields = ProxyFields([(name: "X-Set", value: "ours")])
        let body = "1¬a¬0¬X-Other: 1¬¬"
        try await withProxy(edits: edits) { peer, _ in
            #expect(try await peer.head().contains("¬X-Set: ours¬"))
            #expect(try await peer.bytes(wire(body).count) == body)
            try await peer.send("HTTP/1.1 204 No Content¬¬")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send(
                "POST / HTTP/1.1¬Host: a:80¬Transfer-Encoding: chunked¬¬1¬a¬0¬X-Set: theirs¬X-Other: 1¬¬")
            #expect(try await client.head().hasPrefix("HTTP/1.1 204 "))
        }
    }

    @Test(arguments: [
        "HTTP/1.1 200 OK¬Content-Length: 2¬Transfer-Encoding: chunked¬¬0¬¬",
        "HTTP/1.1 200 OK¬Content-Length: 2¬Content-Length: 3¬¬ok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "HTTP/1.1 200 OK¬A: b¬ folded¬¬", "nonsense¬¬", "HTTP/1.1 101 Sw¬¬",
        "HTTP/1.1 99 X¬¬", "",
    ])
    func aBrokenResponseIs502(_ response: String) async throws {
        let got = try await answered(response)
        #expect(got.hasPrefix("HTTP/1.1 502 Bad Gateway¬") && got.contains(#"{"error":{"code":"backend-"#), "\(got)")
    }
}
