import AegisIO
import AegisTestSupport
import Foundation
import Testing

extension DaemonFixture {
    /// Address and port of the router for all instances.
    func router() async throws -> (address: String, port: String) {
        let address = String(try await shell("$AEGIS status | sed -n 's/^Port router: *//p'").out.dropLast())
        return (address, String(try #require(address.split(separator: ":").last)))
    }

    /// All that comes back for some bytes until the other side ends the connection.
    fileprivate func say(_ text: String, to port: String) async throws -> String {
        let client = try await Connect.tcp(host: "127.0.0.1", port: try #require(UInt16(port)), on: loop)
        // What is refused early need not be taken whole.
        try? await client.write(text)
        return String(decoding: try await client.readAll(limit: 1 << 20), as: UTF8.self)
    }

    /// The same for a client that goes on sending a letter now and then; fails when the connection is open for minutes.
    fileprivate func trickle(_ text: String, to port: String) async throws -> String {
        let client = try await Connect.tcp(host: "127.0.0.1", port: try #require(UInt16(port)), on: loop)
        try await client.write(text)
        async let letters: Void = {
            while (try? await client.write("a")) != nil { try? await Task.sleep(for: .milliseconds(200)) }
        }()
        let answer: Result<[UInt8], any Error>
        do {
            answer = .success(
                try await withDeadline(.seconds(180)) {
                    var bytes = ByteBuffer()
                    do { while try await client.read(into: &bytes, atMost: 64 << 10) > 0 {} } catch let error as IOError
                    {
                        // A letter that crosses the end of the connection resets it, which is an end as well. Anything else is
                        // not, above all that the time was over.
                        guard error.kind == .closed else { throw error }
                    }
                    return bytes.takeAll()
                })
        } catch { answer = .failure(error) }
        client.close()
        await letters
        return String(decoding: try answer.get(), as: UTF8.self)
    }
}

/// The router of a real daemon: where it leads, and what it lets through.
@Suite struct RouterTests {
    @Test(arguments: backends) func oneAddressLeadsToEveryInstance(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let script = """
                echo run; for p in 80 81; do mkdir /tmp/$p; echo port $p > /tmp/$p/index.html; done
                python3 -m http.server 81 -d /tmp/81 & exec python3 -m http.server 80 -d /tmp/80
                """
            try await f.succeed(
                "instance", "start", "--name", "web", "--isolation", backend, "--expose", "80", "--expose", "81", "--",
                "sh", "-c", script)
            let router = try await f.router()
            // The only one that serves needs no name.
            #expect(try await f.get("http://\(router.address)/") == "port 80\n")
            #expect(try await f.get("http://web.aegis.localhost:\(router.port)/") == "port 80\n")
            #expect(try await f.get("http://81-web.aegis.localhost:\(router.port)/") == "port 81\n")
            #expect(try await f.get("http://\(router.address)/81-web/index.html") == "port 81\n")
            try await f.serve("api", backend)
            let none = try await f.ask("http://\(router.address)/")
            #expect(none.status == "404" && none.body.contains("not-served"), "\(none)")
            #expect(none.body.contains("web") && none.body.contains("api"), "\(none)")
            #expect(try await f.get("http://\(router.address)/", "-H", "X-Aegis-Instance: api") == "hello\n")
            #expect(try await f.get("http://\(router.address)/api/index.html") == "hello\n")
            #expect(try await f.ask("http://\(router.address)/api/", "-H", "Host: evil.example").status == "421")
            // Whoever is called by name is woken.
            try await f.succeed("instance", "stop", "web")
            #expect(try await f.get("http://81-web.aegis.localhost:\(router.port)/") == "port 81\n")
            #expect(try await f.hasRun("web", 2))
        }
    }

    /// Requests that two servers could read in two ways, ones that are too large and ones that never end: no server inside
    /// sees any of them. (It takes the fifteen seconds that a head may take.)
    @Test(arguments: backends) func whatIsNoRequestReachesNobody(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "guarded-\(backend)"
            let server = """
                import http.server
                class Web(http.server.BaseHTTPRequestHandler):
                    protocol_version = 'HTTP/1.1'
                    def do_GET(self):
                        print('saw', self.path, flush=True)
                        self.rfile.read(int(self.headers.get('Content-Length') or 0))
                        self.send_response(200)
                        self.send_header('Content-Length', '3'); self.end_headers(); self.wfile.write(b'ok\\n')
                    do_POST = do_GET
                    def log_message(self, *words): pass
                http.server.ThreadingHTTPServer(('127.0.0.1', 80), Web).serve_forever()
                """
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "80", "--", "python3", "-c",
                server)
            let ports = [try await f.number(name, 80), try await f.router().port]
            let host = "Host: \(name).aegis.localhost\r\n"
            let second = "GET /second HTTP/1.1\r\n\(host)\r\n"
            let (length, hex) = (second.utf8.count, String(second.utf8.count, radix: 16))
            let chunked = "Transfer-Encoding: chunked\r\n"
            let probes = [
                "Content-Length: \(length + 5)\r\n\(chunked)\r\n0\r\n\r\n\(second)",
                "\(chunked)Content-Length: \(hex.count + 2)\r\n\r\n\(hex)\r\n\(second)\r\n0\r\n\r\n",
                "Content-Length: 0\r\nContent-Length: \(length)\r\n\r\n\(second)",
                "X: y\r\n Content-Length: \(length)\r\n\r\n\(second)",
                "X: y\nContent-Length: \(length)\r\n\r\n\(second)", "Content-Length: \(length)\n\n\(second)",
                "Content-Length: 0\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n\(second)",
            ]
            for port in ports {
                for probe in probes {
                    let answer = try await f.say("POST /first HTTP/1.1\r\n\(host)\(probe)", to: port)
                    #expect(answer.hasPrefix("HTTP/1.1 400 "), "\(probe): \(answer)")
                    #expect(answer.components(separatedBy: "HTTP/1.1 ").count == 2, "\(probe): \(answer)")
                }
                let large = String(repeating: "a", count: 70_000)
                let answer = try await f.say("GET /large HTTP/1.1\r\n\(host)X: \(large)\r\n\r\n", to: port)
                #expect(answer.hasPrefix("HTTP/1.1 431 "), "\(answer)")
            }
            let slow = try await withThrowingTaskGroup(of: String.self) { group in
                for port in ports {
                    group.addTask { try await f.trickle("GET /slow HTTP/1.1\r\n\(host)X: ", to: port) }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(slow.allSatisfy { $0.isEmpty || $0.hasPrefix("HTTP/1.1 408 ") }, "\(slow)")
            for port in ports { #expect(try await f.get("http://\(name).aegis.localhost:\(port)/last") == "ok\n") }
            try await f.eventually("both were seen") {
                try await f.succeed("logs", name).out.contains("saw /last\nsaw /last\n")
            }
            #expect(try await f.succeed("logs", name).out == "saw /last\nsaw /last\n")
            try await f.succeed("instance", "delete", name)
        }
    }
}
