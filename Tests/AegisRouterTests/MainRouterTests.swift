import AegisCore
import AegisIO
import AegisRouter
import AegisSandboxTypes
import Synchronization
import Testing

/// The one address for all instances (decision D27).
@Suite struct MainRouterTests {
    private static func get(_ path: String, _ host: String, _ more: String = "") -> String {
        "GET \(path) HTTP/1.1¬Host: \(host)¬\(more)Connection: close¬¬"
    }

    /// Two instances, `web` with two ports and `api` with one.
    private func withTwo(_ test: @escaping @Sendable (Stage) async throws -> Void) async throws {
        try await withStage { stage in
            stage.source.change { $0.running = true }
            try await stage.expose("0:80:http", as: "web", id: "i-00000000000000aa")
            try await stage.expose("0:81:http", as: "api", id: "i-00000000000000bb")
            try await test(stage)
        }
    }

    @Test(
        arguments: [
            // host, path, more fields, guest's port, the path it gets
            ("web.aegis.localhost:8099", "/a", "", 80, "/a"), ("api.aegis.localhost", "/", "", 81, "/"),
            ("WEB.Aegis.Localhost.:1", "/", "", 80, "/"), ("80-web.aegis.localhost", "/", "", 80, "/"),
            ("i-00000000000000bb.aegis.localhost", "/", "", 81, "/"),
            ("localhost:8099", "/web/x?y", "", 80, "/x?y"), ("127.0.0.1", "/api", "", 81, "/"),
            ("[::1]:1", "/81-api/", "", 81, "/"),
            ("localhost", "/x", "X-Aegis-Instance: api¬", 81, "/x"),
            ("localhost", "/web/x", "X-Aegis-Instance: api¬", 81, "/web/x"),
            ("web.aegis.localhost", "/", "Accept: text/html¬Sec-Fetch-Mode: navigate¬", 80, "/"),
            ("web.aegis.localhost", "/", "X-Aegis-Instance: web¬", 80, "/"),
            ("localhost", "/", "X-Aegis-Instance: web¬x-aegis-instance: web ¬", 80, "/"),
        ] as [(String, String, String, Int, String)])
    func finds(_ host: String, _ path: String, _ more: String, _ guest: Int, _ expected: String) async throws {
        try await withTwo { stage in
            let answer = try await stage.ask(Self.get(path, host, more))
            #expect(answer.hasPrefix("HTTP/1.1 200 OK¬"), "\(answer)")
            #expect(answer.contains("¬¬\(guest) GET \(expected) HTTP/1.1¬"), "\(answer)")
            #expect(!answer.contains("X-Aegis-Instance"))
            // A page cannot set cookies for its neighbours.
            #expect(answer.contains("¬Set-Cookie: a=b¬"))
        }
    }

    @Test func aKitSetsFieldsAndAPathOfItsOwn() async throws {
        try await withStage { stage in
            stage.source.change { $0.running = true }
            let headers = KitHeaders(
                request: ["X-Kit": "one", "Accept": "text/plain"],
                response: ["X-Frame-Options": "DENY", "set-cookie": "no=1"])
            let routing = KitRouting(path: "/notes", headers: headers)
            try await stage.expose(
                "0:80:http", as: "web", id: "i-00000000000000aa", routing: routing)
            try await stage.expose("0:81:http", as: "api", id: "i-00000000000000bb")
            let fields = "x-kit: mine¬X_Kit: mine, too¬ACCEPT: a¬Accept: b¬X-Kit-2: kept¬"
            let asked = try await stage.ask(Self.get("/notes/x?y", "127.0.0.1", fields))
            #expect(asked.contains("¬¬80 GET /x?y HTTP/1.1¬") && asked.contains("¬X-Forwarded-Prefix: /notes¬"))
            #expect(asked.contains("¬X-Kit: one¬") && asked.contains("¬Accept: text/plain¬"), "\(asked)")
            #expect(!asked.contains("mine") && !asked.contains("Accept: b") && asked.contains("¬X-Kit-2: kept¬"))
            #expect(asked.contains("¬X-Frame-Options: DENY¬") && !asked.contains("a=b"), "\(asked)")
            let direct = try await stage.ask(Self.get("/notes/x", "a", fields), 80)
            #expect(direct.contains("¬¬80 GET /notes/x HTTP/1.1¬") && direct.contains("¬X-Kit: one¬"), "\(direct)")
            // Others are left alone, and a browser is sent to the instance's own host.
            let other = try await stage.ask(Self.get("/api/", "127.0.0.1", fields))
            #expect(other.contains("¬x-kit: mine¬") && !other.contains("X-Frame-Options"), "\(other)")
            let browser = try await stage.ask(Self.get("/notes/x", "localhost:1", "Sec-Fetch-Mode: navigate¬"))
            #expect(browser.contains("¬Location: http://web.aegis.localhost:1/x¬"), "\(browser)")
            // Another that wants it, too, gets it when the first has given it up.
            stage.source.change { $0.exposures[1].routing = KitRouting(path: "/notes") }
            #expect(try await stage.ask(Self.get("/notes/", "127.0.0.1")).contains("¬¬80 GET / "))
            stage.source.change { $0.exposures[0].routing = nil }
            while try await !stage.ask(Self.get("/notes/", "127.0.0.1")).contains("¬¬81 GET / ") {}
        }
    }

    @Test(arguments: [
        ("evil.example", "/web/", ""), ("evil.example:8099", "/", "X-Aegis-Instance: web¬"),
        ("aegis.localhost", "/", ""),
        ("169.254.169.254", "/", ""), ("web.aegis.localhost.evil.example", "/", ""),
        // A page of one instance asks for another's under its own name.
        ("web.aegis.localhost", "/", "X-Aegis-Instance: api¬"),
    ])
    func misdirects(_ host: String, _ path: String, _ more: String) async throws {
        try await withTwo { stage in
            let answer = try await stage.ask(Self.get(path, host, more))
            #expect(answer.hasPrefix("HTTP/1.1 421 Misdirected Request¬"), "\(answer)")
        }
    }

    @Test(arguments: ["localhost", "web.aegis.localhost"])
    func whoNamesTwoInstancesMeansNeither(_ host: String) async throws {
        try await withTwo { stage in
            let answer = try await stage.ask(
                Self.get("/", host, "X-Aegis-Instance: web¬A: 1¬X-Aegis-Instance: api¬"))
            #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request¬"), "\(answer)")
            #expect(answer.contains("ambiguous-instance"))
        }
    }

    @Test(arguments: [
        ("/web/a?b", "Accept: text/html¬", "http://web.aegis.localhost:99/a?b"),
        ("/web", "Sec-Fetch-Site: none¬", "http://web.aegis.localhost:99/"),
        ("/web//evil.example", "Accept: text/html¬", "http://web.aegis.localhost:99//evil.example"),
        ("/x", "Sec-Fetch-Mode: cors¬X-Aegis-Instance: api¬", "http://api.aegis.localhost:99/x"),
    ])
    func browsersAreSentToTheHostForm(_ path: String, _ more: String, _ location: String) async throws {
        try await withTwo { stage in
            let answer = try await stage.ask(Self.get(path, "localhost:99", more))
            #expect(answer.hasPrefix("HTTP/1.1 307 Temporary Redirect¬"), "\(answer)")
            #expect(answer.contains("¬Location: \(location)¬"), "\(answer)")
        }
    }

    @Test func theOnlyInstanceNeedsNoName() async throws {
        try await withStage { stage in
            let none = try await stage.ask(Self.get("/", "localhost"))
            #expect(none.hasPrefix("HTTP/1.1 404 ") && none.contains("--expose"))
            stage.source.change { $0.running = true }
            try await stage.expose("0:81:http", "0:7:tcp", as: "only")
            #expect(try await stage.ask(Self.get("/x", "localhost")).contains("¬¬81 GET /x HTTP/1.1¬"))
            let page = try await stage.ask(Self.get("/x", "localhost:5", "Accept: text/html¬"))
            #expect(page.contains("¬Location: http://only.aegis.localhost:5/x¬"))
        }
    }

    @Test func whatIsNotThereIsAListOfWhatIs() async throws {
        try await withTwo { stage in
            for (host, path) in [
                ("localhost", "/"), ("localhost", "/nope/x"), ("nope.aegis.localhost", "/"),
                ("99-web.aegis.localhost", "/"),
            ] {
                let answer = try await stage.ask(Self.get(path, host))
                #expect(
                    answer.hasPrefix("HTTP/1.1 404 Not Found¬") && answer.contains("there are: web, api"), "\(answer)")
            }
            let page = try await stage.ask(Self.get("/", "localhost", "Accept: text/html¬"))
            #expect(
                page.hasPrefix("HTTP/1.1 404 ")
                    && page.contains(#"<a href="http://web.aegis.localhost:\#(stage.main)/">"#))
        }
    }

    @Test func aWebSocketGoesThrough() async throws {
        try await withTwo { stage in
            let client = Peer(try await Connect.tcp(host: "127.0.0.1", port: stage.main, on: stage.loop))
            try await client.send(
                "GET / HTTP/1.1¬Host: web.aegis.localhost¬Connection: Upgrade¬Upgrade: websocket¬¬")
            #expect(try await client.head().hasPrefix("HTTP/1.1 101 Switching Protocols¬"))
            client.stream.close()
        }
    }
}

/// A value that tests of one after another share.
final class Mutexed<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: Value) { mutex = Mutex(value) }
    var value: Value {
        get { mutex.withLock { $0 } }
        set { mutex.withLock { $0 = newValue } }
    }
}
