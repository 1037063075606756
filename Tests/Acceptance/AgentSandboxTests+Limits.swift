import AegisTestSupport
import Foundation
import Testing

/// What programs of agents use up of their agents' grants.
extension AgentSandboxTests {
    /// How many bytes of an agent's grant for a place are used.
    private static func used(_ f: DaemonFixture, _ agent: String, _ place: String) async throws -> Int {
        let answer = try await AgentDoor(fixture: f).result("agent.grants", ["agent_id": agent])
        let grants = try #require(answer["grants"] as? [[String: Any]], "\(answer)")
        let record = try #require(grants.first { "\($0["terms"] ?? "")".contains(place) }, "\(answer)")
        return try #require((record["used"] as? [String: Int])?["bytes"], "\(record)")
    }

    /// What a program's connection moves in both directions counts, to the byte: it is cut in the middle, with a word of it, the next
    /// one is refused, and so are the tools of the agent, also after the daemon has died.
    @Test func theBytesOfProgramsConnectionsEnd() async throws {
        try await Self.with(isOutside: true) { f in
            let limits =
                "{grant: 'network: web.example:7', max_bytes: 20000}, {grant: 'network: web.example:80', max_bytes: 3000}"
            let id = try await Self.spawn(f, limits)
            let echo = """
                import socket, sys
                try:
                    s = socket.create_connection(('web.example', 7), 60); s.sendall(b'x' * int(sys.argv[1])); s.shutdown(1)
                    n = 0
                    while part := s.recv(65536): n += len(part)
                    print('got', n)
                except OSError: print('cut')
                """
            func echoed(_ count: Int) async throws -> String? {
                try await Self.exec(f, id, ["python3", "-c", echo, "\(count)"])["stdout"] as? String
            }
            #expect(try await echoed(5000) == "got 5000\n")
            try await f.eventually("what ended is counted", within: .seconds(100)) {
                try await Self.used(f, id, "web.example:7") == 10_000
            }
            #expect(try await echoed(100_000) == "cut\n")
            try await f.eventually("what was cut is counted", within: .seconds(100)) {
                try await Self.used(f, id, "web.example:7") == 20_000
            }
            let instance = try #require(try await Self.instances(f).first?["id"] as? String)
            let log = try await f.aegis("logs", instance)
            let text = log.out + String(decoding: log.stderr, as: UTF8.self)
            #expect(text.contains("is cut off") && text.contains("(limit-bytes-used-up)"), "\(log)")
            #expect(try await echoed(1) == "cut\n")
            // One grant, whoever uses it: plain HTTP of a program, then a tool.
            let fetch = """
                import urllib.request as r
                n = 0
                try:
                    while n < 100: r.urlopen('http://web.example/', timeout=60).read(); n += 1
                except OSError: pass
                print(n)
                """
            let fetched = try await Self.exec(f, id, ["python3", "-c", fetch])["stdout"] as? String
            #expect((1..<100).contains(Int((fetched ?? "").dropLast()) ?? 0), "\(fetched ?? "")")
            try await f.eventually("HTTP is counted", within: .seconds(100)) {
                try await Self.used(f, id, "web.example:80") == 3000
            }
            for _ in 0..<2 {
                let refused = try await Self.exec(f, id, [], ["url": "http://web.example/"], tool: "web_fetch")
                #expect(refused["code"] as? String == "limit-bytes-used-up", "\(refused)")
                try await f.crash()
                try await f.up()
                #expect(try await Self.used(f, id, "web.example:7") == 20_000)
            }
        }
    }

    /// TLS that goes through, and TLS that is looked into; a limit of calls lets through what it has admitted.
    @Test(arguments: ["max_bytes: 20000", "max_calls: 1"])
    func theLimitsOfProgramsTLSHold(_ limit: String) async throws {
        try await Self.with(isOutside: true) { f in
            let places = ["https://web.example", "https://api.example.com", "http://web.example"]
            let grants = ["web.example:443", "api.example.com:443,inspect", "web.example:80"]
                .map { "{grant: 'network: \($0)', \(limit)}" }
            let id = try await Self.spawn(f, grants.joined(separator: ", "))
            for place in places {
                let fetch = """
                    import urllib.request as r, ssl
                    c, n = ssl._create_unverified_context(), 0
                    try:
                        while n < 300: r.urlopen('\(place)/', timeout=60, context=c).read(); n += 1
                    except OSError: pass
                    except Exception: pass
                    print(n)
                    """
                let fetched = try await Self.exec(f, id, ["python3", "-c", fetch])
                let count = Int(((fetched["stdout"] as? String) ?? "").dropLast()) ?? 0
                #expect(limit.hasPrefix("max_calls") ? count == 1 : (1..<300).contains(count), "\(place): \(fetched)")
            }
        }
    }

    /// HTTP/2 that is looked into, by a client and a server that others wrote: many requests of one connection have one limit, which
    /// cuts them all, whichever way the bytes go.
    @Test(arguments: backends) func theLimitsOfProgramsHTTP2Hold(_ backend: String) async throws {
        try await Self.with(isOutside: true, peers: true) { f in
            let packages = try TestPeers.packages()
            let client = """
                import os, ssl, sys, threading
                sys.path.insert(0, '\(packages)')
                import httpx
                trust = ssl.create_default_context(cafile=os.environ['SSL_CERT_FILE'])
                web = httpx.Client(http2=True, timeout=100, verify=trust)
                body = bytes(range(250)) * 8000 if sys.argv[1] == 'up' else b''
                first = web.post('https://h2.example/v1/count', content=b'abc')
                print(first.http_version, first.status_code, first.json()['sum'], flush=True)
                def work():
                    n = 0
                    try:
                        if body: web.post('https://h2.example/v1/count', content=body)
                        else:
                            with web.stream('GET', 'https://h2.example/big') as answer:
                                for part in answer.iter_raw(): n += len(part)
                        print('whole', flush=True)
                    except httpx.TransportError: print('cut', n < 300000, flush=True)
                workers = [threading.Thread(target=work) for n in range(3)]
                for worker in workers: worker.start()
                for worker in workers: worker.join()
                work()
                """
            for way in ["down", "up"] {
                let grants =
                    "'file_read: \(packages)/**', {grant: 'network: h2.example:443,inspect', max_bytes: 300000}"
                let id = try await Self.spawn(f, grants, "sandbox: { isolation: \(backend) }", name: way)
                let answer = try await Self.exec(f, id, ["python3", "-c", client, way])
                #expect(
                    answer["stdout"] as? String == "HTTP/2 200 294\n" + String(repeating: "cut True\n", count: 4),
                    "\(way): \(answer)")
                try await f.eventually("all is counted", within: .seconds(100)) {
                    try await Self.used(f, id, "h2.example") == 300_000
                }
                let log = try await f.aegis("logs", id)
                let told = (log.out + log.err).split(separator: "\n").count {
                    $0.contains("is cut off") && $0.contains("(limit-bytes-used-up)")
                }
                #expect(told == 1, "\(log)")
                try await f.succeed("agent", "stop", id)
            }
        }
    }
}
