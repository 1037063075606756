import AegisCore
import AegisIO
import AegisProxy
import AegisWire
import Testing

/// Connections over several requests: reuse, pipelining, limits, failures.
@Suite struct ConnectionTests {
    /// Answers every request of a connection with its target.
    private static func echo(_ peer: RawPeer, _ number: Int) async throws {
        while true {
            let head = try await peer.head()
            guard !head.hasPrefix("END") else { return }
            let target = head.split(separator: " ")[1]
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: \(target.utf8.count)¬¬\(target)")
        }
    }

    private static func ok(_ body: String) -> String {
        "HTTP/1.1 200 OK¬Content-Length: \(body.utf8.count)¬¬\(body)"
    }

    @Test func connectionsAreKeptOnBothSides() async throws {
        try await withProxy(backend: Self.echo) { proxy in
            let client = try await proxy.client()
            for number in 1...20 {
                try await client.send("GET /\(number) HTTP/1.1¬Host: a¬¬")
                try await client.expect(Self.ok("/\(number)"))
            }
            #expect(proxy.upstream.dials.current == 1)
        }
    }

    /// As it is for connections beyond `waitingTasks`.
    @Test func connectionsThatHaveNoTaskBetweenRequestsServeOnAndOn() async throws {
        var limits = ProxyLimits()
        limits.waitingTasks = 0
        limits.parkTime = .zero
        try await withProxy(limits: limits, backend: Self.echo) { proxy in
            let client = try await proxy.client()
            for number in 1...20 {
                try await client.send("GET /\(number)")
                try await client.send(" HTTP/1.1¬Host: a¬¬GET /b HTTP/1.1¬Host: a¬¬")
                try await client.expect(Self.ok("/\(number)") + Self.ok("/b"))
            }
            #expect(proxy.upstream.dials.current == 1)
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await withProxy(backend: Self.echo) { proxy in
            let client = try await proxy.client()
            try await client.send(
                (1...50).map { "GET /\($0) HTTP/1.1¬Host: a¬¬" }.joined()
                    + "GET /x HTTP/1.1¬Host: a¬Connection: close¬¬")
            for number in 1...50 { try await client.expect(Self.ok("/\(number)")) }
            #expect(try await client.rest() == "HTTP/1.1 200 OK¬Content-Length: 2¬Connection: close¬¬/x")
        }
    }

    @Test func aStaleConnectionIsReplacedOnceForARequestThatMayBeRepeated() async throws {
        // The first connection serves one request and then ends on the next one without an answer.
        try await withProxy { peer, number in
            let head = try await peer.head()
            try await peer.send(Self.ok("\(number)\(head.split(separator: " ")[0])"))
            _ = try await peer.head()
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            try await client.expect(Self.ok("1GET"))
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            try await client.expect(Self.ok("2GET"))
            #expect(proxy.upstream.dials.current == 2)
            // A POST may have had its effect: it is not sent twice.
            try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 2¬¬ab")
            #expect(try await client.head().hasPrefix("HTTP/1.1 502 Bad Gateway¬"))
            #expect(proxy.upstream.dials.current == 2)
        }
    }

    @Test func aConnectionThatTheServerEndedIsNotUsed() async throws {
        let ended = Box(0)
        try await withProxy { peer, number in
            _ = try await peer.head()
            try await peer.send(Self.ok("\(number)"))
            try peer.stream.closeWrite()
            ended.change { $0 += 1 }
            _ = try await peer.rest()
        } test: { proxy in
            let client = try await proxy.client()
            for number in 1...3 {
                try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 1¬¬x")
                try await client.expect(Self.ok("\(number)"))
                // Until the relay's loop has heard of the end; then even a POST gets a new connection.
                while proxy.upstream.pool.take() != nil {}
            }
        }
    }

    @Test func aSlowHeadIsRefused() async throws {
        var limits = ProxyLimits()
        limits.headTime = .milliseconds(30)
        limits.tick = .milliseconds(10)
        try await withProxy(limits: limits, backend: Self.echo) { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬X: ")
            #expect(try await client.rest().hasPrefix("HTTP/1.1 408 Request Timeout¬"))
            // One that says nothing at all is closed without a word.
            let silent = try await proxy.client()
            #expect(try await silent.rest() == "")
            #expect(proxy.upstream.dials.current == 0)
        }
    }

    @Test func anIdleConnectionIsClosed() async throws {
        var limits = ProxyLimits()
        limits.idleTime = .milliseconds(30)
        limits.tick = .milliseconds(10)
        try await withProxy(limits: limits, backend: Self.echo) { proxy in
            let client = try await proxy.client()
            try await client.send("GET /1 HTTP/1.1¬Host: a¬¬")
            #expect(try await client.rest() == Self.ok("/1"))
        }
    }

    @Test func tooLargeHeadsAreRefused() async throws {
        try await withProxy(backend: Self.echo) { proxy in
            let long = String(repeating: "x", count: 70_000)
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬X: \(long)¬¬")
            #expect(try await client.rest().hasPrefix("HTTP/1.1 431 Request Header Fields Too Large¬"))
            let other = try await proxy.client()
            try await other.send("GET /\(long) HTTP/1.1¬Host: a¬¬")
            #expect(try await other.rest().hasPrefix("HTTP/1.1 414 URI Too Long¬"))
            let third = try await proxy.client()
            try await third.send("GET / HTTP/1.1¬Host: a¬" + String(repeating: "A: b¬", count: 200) + "¬")
            #expect(try await third.rest().hasPrefix("HTTP/1.1 431 "))
            #expect(proxy.upstream.dials.current == 0)
        }
    }

    @Test func tooManyConnectionsAreRefused() async throws {
        var limits = ProxyLimits()
        limits.connections = 1
        try await withProxy(limits: limits, backend: Self.echo) { proxy in
            let first = try await proxy.client()
            try await first.send("GET /1 HTTP/1.1¬Host: a¬¬")
            try await first.expect(Self.ok("/1"))
            let second = try await proxy.client()
            let answer = try await second.rest()
            #expect(answer.hasPrefix("HTTP/1.1 503 ") && answer.contains("too-many-connections"), "\(answer)")
        }
    }

    @Test(arguments: [
        (ErrorKind.timeout, 504), (.unavailable, 503), (.conflict, 503), (.failed, 502), (.denied, 503),
    ])
    func aServerThatCannotBeHadIsAnAnswer(_ kind: ErrorKind, _ status: Int) async throws {
        try await withProxy(backend: Self.echo) { proxy in
            proxy.upstream.refusal = AegisError(kind, "why-not", "it is <gone>", hint: "do something")
            let client = try await proxy.client()
            try await client.send(
                "POST / HTTP/1.1¬Host: a¬Content-Length: 3¬¬abcGET / HTTP/1.1¬Host: a¬Accept: text/html¬¬")
            let head = try await client.head()
            #expect(head.hasPrefix("HTTP/1.1 \(status) ") && head.contains("application/json"), "\(head)")
            #expect(!head.contains("Connection: close"))
            let body = #"{"error":{"code":"why-not","message":"it is <gone>","hint":"do something"}}"# + "\n"
            try await client.expect(body)
            let page = try await client.head()
            #expect(page.hasPrefix("HTTP/1.1 \(status) ") && page.contains("text/html"))
            try client.stream.closeWrite()
            #expect(try await client.rest().contains("it is &lt;gone&gt; (why-not)"))
        }
    }

    @Test func aServerThatResetsInTheMiddleOfABodyResetsTheClient() async throws {
        let arrived = Box(false)
        try await withProxy { peer, _ in
            _ = try await peer.head()
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: 100¬¬half")
            while !arrived.change({ $0 }) { await Task.yield() }
            peer.stream.reset()
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            #expect(try await client.head() == "HTTP/1.1 200 OK¬Content-Length: 100¬¬")
            try await client.expect("half")
            arrived.change { $0 = true }
            await #expect(throws: IOError.self) { try await client.rest() }
        }
    }

    @Test func aServerThatDiesBeforeItAnswersIs502() async throws {
        try await withProxy { peer, _ in
            _ = try await peer.head()
            peer.stream.reset()
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("POST / HTTP/1.1¬Host: a¬Content-Length: 1¬¬x")
            #expect(try await client.head().hasPrefix("HTTP/1.1 502 Bad Gateway¬"))
        }
    }

    @Test func aClientThatGoesAwayEndsItsExchange() async throws {
        var limits = ProxyLimits()
        limits.endedTime = .milliseconds(20)
        limits.tick = .milliseconds(10)
        let ended = Box(false)
        try await withProxy(limits: limits) { peer, _ in
            _ = try await peer.head()
            // The server never answers; it sees that nobody waits any more.
            _ = try? await peer.rest()
            ended.change { $0 = true }
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            while proxy.backend.count.current == 0 { await Task.yield() }
            client.stream.close()
            while !ended.change({ $0 }) { try await proxy.loop.clock.sleep(for: .milliseconds(1)) }
        }
    }

    @Test func aClientThatEndsItsSideStillGetsItsAnswer() async throws {
        try await withProxy(backend: Self.echo) { proxy in
            let client = try await proxy.client()
            try await client.send("GET /half HTTP/1.1¬Host: a¬¬")
            try client.stream.closeWrite()
            #expect(try await client.rest() == Self.ok("/half"))
        }
    }

    /// One of this host is known to wait, however long the server takes.
    @Test func aClientThatEndsItsSideIsWaitedFor() async throws {
        var limits = ProxyLimits()
        limits.endedTime = .milliseconds(1)
        limits.tick = .milliseconds(1)
        let mayAnswer = Box(false)
        try await withProxy(limits: limits) { peer, _ in
            _ = try await peer.head()
            while !mayAnswer.change({ $0 }) { try await peer.stream.loop.clock.sleep(for: .milliseconds(1)) }
            try await peer.send("HTTP/1.1 200 OK¬Content-Length: 4¬¬late")
        } test: { proxy in
            let client = try await proxy.client()
            try await client.send("GET / HTTP/1.1¬Host: a¬¬")
            while proxy.backend.count.current == 0 { await Task.yield() }
            try client.stream.closeWrite()
            // The proxy has looked at it again and again.
            let since = proxy.proxy.now
            while proxy.proxy.now < since + 50_000_000 { try await proxy.loop.clock.sleep(for: .milliseconds(1)) }
            mayAnswer.change { $0 = true }
            #expect(try await client.rest().hasSuffix("¬¬late"))
        }
    }

    @Test(arguments: [
        ("POST / HTTP/1.1¬Host: a¬Content-Length: 6¬Transfer-Encoding: chunked¬¬0¬¬G", 400),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬Content-Length: 6¬¬0¬¬G", 400),
        ("POST / HTTP/1.1¬Host: a¬Content-Length: 5¬Content-Length: 6¬¬hello", 400),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: xchunked¬¬0¬¬", 400),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: gzip, chunked¬¬0¬¬", 501),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding : chunked¬¬0¬¬", 400),
        ("POST / HTTP/1.1¬Host: a¬X: y¬ Transfer-Encoding: chunked¬¬0¬¬", 400),
        ("POST / HTTP/1.1¬Host: a¬X: y\nTransfer-Encoding: chunked¬¬0¬¬", 400),
        ("POST / HTTP/1.1¬Host: a¬Content-Length: +5¬¬hello", 400),
        ("POST / HTTP/1.0¬Transfer-Encoding: chunked¬¬0¬¬", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬Host: b¬¬", 400),
        ("GET / HTTP/1.1¬Host: a¬X: a\rb¬¬", 400),
        ("GET /\u{1} HTTP/1.1¬Host: a¬¬", 400),
        ("GET  / HTTP/1.1¬Host: a¬¬", 400),
        ("GET / HTTP/2.0¬Host: a¬¬", 505),
        ("CONNECT a:80 HTTP/1.1¬Host: a¬¬", 501),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬x¬", 400),
        ("POST / HTTP/1.1¬Host: a¬Transfer-Encoding: chunked¬¬5\nhello¬0¬¬", 400),
        ("\u{16}\u{3}\u{1}", 400),
    ])
    func whatCouldBeReadInTwoWaysIsRefused(_ request: String, _ status: Int) async throws {
        try await withProxy(backend: Self.echo) { proxy in
            let client = try await proxy.client()
            try await client.send(request + "GET /smuggled HTTP/1.1¬Host: a¬¬")
            let answer = try await client.rest()
            #expect(answer.hasPrefix("HTTP/1.1 \(status) ") && answer.contains("Connection: close"), "\(answer)")
            #expect(!answer.contains("/smuggled"))
        }
    }
}
