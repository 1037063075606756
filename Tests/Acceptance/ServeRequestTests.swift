import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What becomes of requests on their way in and of answers on their way out, and of ports that are changed meanwhile, with clients
/// that others wrote.
@Suite struct ServeRequestTests {
    /// A server that tells what it was asked and by which connection. Below `/echo` it gives back each piece as it comes, and says
    /// something after the last one; below `/set` it says what no page may say to its neighbours.
    private static let teller = """
        import http.server, json, threading
        class Web(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def pieces(self):
                if 'chunked' not in self.headers.get('Transfer-Encoding', ''):
                    yield self.rfile.read(int(self.headers.get('Content-Length') or 0))
                    return
                while size := int(self.rfile.readline().split(b';')[0], 16):
                    yield self.rfile.read(size)
                    self.rfile.readline()
                self.trailers = []
                while line := self.rfile.readline().strip(): self.trailers.append(line.decode())
            def do_GET(self):
                self.trailers = []
                if self.path == '/echo': return self.echo()
                if self.path == '/hang': threading.Event().wait()
                body = b''.join(self.pieces())
                told = {'path': self.path, 'fields': [list(pair) for pair in self.headers.items()],
                        'port': self.client_address[1], 'length': len(body), 'trailers': self.trailers}
                text = json.dumps(told).encode()
                self.send_response(200)
                if self.path == '/set':
                    self.send_header('Set-Cookie', 'a=b; Domain=aegis.localhost; Path=/')
                    self.send_header('Service-Worker-Allowed', '/')
                    self.send_header('Connection', 'X-Hop')
                    self.send_header('X-Hop', 'mine')
                if self.path == '/set': self.send_header('Location', '/there?x')
                self.send_header('Content-Length', str(len(text)))
                self.end_headers(); self.wfile.write(text)
            do_POST = do_PUT = do_GET
            def echo(self):
                self.send_response(200)
                self.send_header('Transfer-Encoding', 'chunked')
                self.send_header('Trailer', 'X-End')
                self.end_headers()
                for piece in self.pieces():
                    self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(piece), piece)); self.wfile.flush()
                text = ('got ' + ' '.join(self.trailers)).encode()
                self.wfile.write(b'%x\\r\\n%s\\r\\n' % (len(text), text))
                self.wfile.write(b'0\\r\\nX-End: there\\r\\n\\r\\n')
            def log_message(self, *words): pass
        http.server.ThreadingHTTPServer(('127.0.0.1', 80), Web).serve_forever()
        """

    private struct Told: Decodable {
        var path: String
        var fields: [[String]]
        var port: Int
        var length: Int
        var trailers: [String]

        /// All values of a field.
        func values(_ name: String) -> [String] {
            fields.filter { $0[0].lowercased() == name.lowercased() }.map { $0[1] }
        }
    }

    private func told(_ text: String) throws -> Told { try JSONDecoder().decode(Told.self, from: Data(text.utf8)) }

    private func start(_ f: DaemonFixture, _ name: String, _ backend: String) async throws {
        try await f.succeed(
            "instance", "start", "--name", name, "--isolation", backend, "--expose", "80", "--", "python3", "-c",
            Self.teller)
    }

    /// Nothing is said for longer than the instance would be awake by itself: another one, of the same rules, sleeps thrice meanwhile.
    @Test(arguments: backends) func anAnswerThatIsSilentHoldsItsInstanceAwake(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "hushed-\(backend)"
            let rules = ["--idle-pause", "200ms", "--idle-stop", "0s"]
            let guest = try await f.guest(name, backend, ["80:http"], rules[0], rules[1], rules[2], rules[3])
            try guest.go()
            let port = try #require(UInt16(try await f.number(name, 80)))
            let client = try await Connect.tcp(host: "127.0.0.1", port: port, on: f.loop)
            try await client.write("GET /late HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            var answer = ByteBuffer()
            while !String(decoding: answer.readable, as: UTF8.self).hasSuffix("\r\n\r\n") {
                try #require(try await client.read(into: &answer) > 0)
            }
            #expect(String(decoding: answer.readable, as: UTF8.self).hasPrefix("HTTP/1.1 200 "))
            try await f.succeed(
                words: ["instance", "start", "--name", "\(name)-other", "--isolation", backend, "--expose", "80"]
                    + rules
                    + ["--", "sleep", "100000"])
            for _ in 0..<3 {
                try await f.eventually("the other sleeps") {
                    try await f.record("\(name)-other").state == "paused"
                }
                try await f.succeed("exec", "\(name)-other", "--", "true")
            }
            #expect(try await f.record(name).state == "running")
            #expect(try await f.served(name).connections == 1)
            try await f.refuse("instance", "pause", name, code: 5, error: "instance-held")
            try guest.tell()
            #expect(String(decoding: try await client.readAll(limit: 4096), as: UTF8.self) == "late\n")
            client.close()
            try await f.eventually("it sleeps") { try await f.record(name).state == "paused" }
            #expect(try await f.hasRun(name, 1))
            try await f.succeed("instance", "delete", "\(name)-other")
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func aRequestArrivesAsAGoodProxySendsIt(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await start(f, "web", backend)
            let url = try await f.url("web")
            let router = String(try await f.shell("$AEGIS status | sed -n 's/^Port router: *//p'").out.dropLast())
            let port = try #require(router.split(separator: ":").last)
            let fields = [
                "-H", "X-Forwarded-For: 1.1.1.1", "-H", "X_Forwarded_For: 2.2.2.2", "-H", "X-Forwarded-By: me", "-H",
                "X-Real-IP: 3.3.3.3", "-H",
                "Forwarded: for=x", "-H", "Connection: X-Hop, close", "-H",
                "X-Hop: mine", "-H", "Keep-Alive: 5", "-H", "Proxy-Authorization: b", "-H", "X-Kept: 1", "-H",
                "X-Kept: 2",
            ]
            func ask(_ url: String, _ more: String...) async throws -> Told {
                let result = try await f.run(
                    "/usr/bin/curl", ["-sS", "--max-time", "60", "--fail"] + fields + more + [url])
                #expect(result.code == 0, "\(url): \(result)")
                return try told(result.out)
            }
            let ways = [
                (url, "", "/a?b"), ("http://web.aegis.localhost:\(port)", "", "/a?b"),
                ("http://\(router)", "X-Aegis-Instance: web", "/a?b"), ("http://\(router)/web", "", "/a?b"),
            ]
            for (base, field, path) in ways {
                let seen = try await ask(base + "/a?b", "-H", field.isEmpty ? "X-Other: 1" : field)
                #expect(seen.path == path, "\(base): \(seen)")
                #expect(seen.values("X-Forwarded-For") == ["127.0.0.1"] && seen.values("X-Forwarded-Proto") == ["http"])
                #expect(seen.values("X-Real-IP") == ["127.0.0.1"])
                let host = base.dropFirst("http://".count).split(separator: "/")[0]
                #expect(seen.values("Host") == [String(host)] && seen.values("X-Forwarded-Host") == [String(host)])
                #expect(seen.values("X-Kept") == ["1", "2"])
                #expect(seen.values("X-Forwarded-Prefix") == (base.hasSuffix("/web") ? ["/web"] : []))
                for name in [
                    "Forwarded", "X_Forwarded_For", "X-Forwarded-By", "X-Hop", "Keep-Alive", "Proxy-Authorization",
                    "X-Aegis-Instance",
                ] {
                    #expect(seen.values(name).isEmpty, "\(base): \(name): \(seen)")
                }
            }
            // What a page may not say to its neighbours.
            let set = try await f.get("http://web.aegis.localhost:\(port)/set", "-i")
            #expect(set.contains("\r\nSet-Cookie: a=b;") && !set.contains("Domain="), "\(set)")
            #expect(!set.contains("Service-Worker-Allowed") && !set.contains("X-Hop"), "\(set)")
            // Who was sent on from below the path comes there again; who was not, is not.
            #expect(set.contains("\r\nLocation: /there?x\r\n"), "\(set)")
            let below = try await f.get("http://\(router)/web/set", "-i")
            #expect(below.contains("\r\nLocation: /web/there?x\r\n"), "\(below)")
            // A browser gets an origin of the instance's own.
            let page = try await f.run(
                "/usr/bin/curl", ["-sS", "-i", "-H", "Sec-Fetch-Mode: navigate", "http://localhost:\(port)/web/x?y"])
            #expect(
                page.out.hasPrefix("HTTP/1.1 307 ")
                    && page.out.contains("\r\nLocation: http://web.aegis.localhost:\(port)/x?y\r\n"), "\(page)")
        }
    }

    /// Clients that each make one request share connections to the server inside.
    @Test(arguments: backends) func connectionsToTheServerAreKept(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "kept-\(backend)"
            try await start(f, name, backend)
            let url = try await f.url(name)
            var ports: [Int] = []
            for _ in 0..<20 { ports.append(try told(try await f.get(url)).port) }
            #expect(Set(ports).count < 5, "\(ports)")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// The server answers what it has before the client has sent the rest: neither side is waited for. And much of it arrives.
    @Test(arguments: backends) func bodiesAreStreamedBothWays(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "streamed-\(backend)"
            try await start(f, name, backend)
            let url = try await f.url(name)
            // curl does not look at an answer while it waits for more to send.
            let script = """
                import socket, sys
                s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 60)
                heard = b''
                def until(word):
                    global heard
                    while word not in heard:
                        part = s.recv(65536)
                        assert part, heard
                        heard += part
                s.sendall(b'PUT /echo HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\nTE: trailers\\r\\n\\r\\n')
                s.sendall(b'5\\r\\nfirst\\r\\n')
                until(b'first')
                s.sendall(b'6\\r\\nsecond\\r\\n0\\r\\nX-Sum: 1\\r\\n\\r\\n')
                until(b'second')
                until(b'got X-Sum: 1')
                until(b'X-End: there')
                print('ok')
                """
            let port = try #require(url.split(separator: ":").last)
            let streamed = try await f.run("/usr/bin/env", ["python3", "-c", script, String(port)])
            #expect(streamed.out == "ok\n", "\(streamed)")
            let large = try await f.shell(
                "head -c 67108864 /dev/zero | curl -sS --max-time 100 -T - -X POST '\(url)/large'")
            #expect(try told(large.out).length == 67_108_864, "\(large)")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// A port that is given up is closed, with what came by it; the others, and the number, go on.
    @Test(arguments: backends) func portsComeAndGoWhileTheInstanceRuns(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "moving-\(backend)"
            try await start(f, name, backend)
            let url = try await f.url(name)
            #expect(try told(try await f.get(url + "/x")).path == "/x")
            try await f.succeed("instance", "unexpose", name, "80")
            try await f.eventually("nobody listens") {
                try await f.run("/usr/bin/curl", ["-s", "--max-time", "5", url]).code == 7
            }
            let number = try #require(url.split(separator: ":").last)
            try await f.succeed("instance", "expose", name, "\(number):80:tcp")
            let hanging = try f.begin(program: "/usr/bin/curl", ["-sS", "--max-time", "100", url + "/hang"])
            try await f.eventually("it is open") { try await f.served(name).connections == 1 }
            try await f.succeed("instance", "unexpose", name, "80")
            // 18 = a part of it, 52 = nothing, 56 = the connection was reset.
            #expect([18, 52, 56].contains(try await hanging.result().code))
            try await f.eventually("nothing is open") { try await f.served(name).connections == 0 }
            // Of one that sleeps, too.
            try await f.succeed("instance", "pause", name)
            try await f.succeed("instance", "expose", name, "\(number):80:http")
            #expect(try told(try await f.get(url + "/x")).path == "/x")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// While it is paused nothing in it moves, and it takes no time of any processor; afterwards it goes on where it was.
    @Test(arguments: backends) func aPausedInstanceDoesNothing(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "still-\(backend)"
            let folder = try TemporaryDirectory()
            let script = """
                import os
                file, count = os.open('/workspace/count', os.O_CREAT | os.O_WRONLY), 0
                while True:
                    count += 1
                    os.pwrite(file, b'%20d' % count, 0)
                """
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--workspace", folder.path, "--",
                "python3",
                "-c", script)
            func count() -> Int {
                let text = (try? Files.read(folder.path("count"), limit: 64)) ?? []
                return Int(String(decoding: text, as: UTF8.self).filter(\.isNumber)) ?? 0
            }
            try await f.eventually("it counts") { count() > 1000 }
            let id = try await f.record(name).id
            try await f.succeed("instance", "pause", name)
            let before = (count(), try ticks(f, id))
            // Some time goes by.
            for _ in 0..<10 { #expect(try await f.record(name).state == "paused") }
            #expect(count() == before.0)
            #expect(try ticks(f, id) == before.1)
            try await f.succeed("instance", "resume", name)
            try await f.eventually("it goes on") { count() > before.0 + 1000 }
            try await f.succeed("instance", "delete", name)
        }
    }

    /// Processor time of all processes of a sandbox but its keeper, in ticks.
    private func ticks(_ f: DaemonFixture, _ id: String) throws -> Int {
        try f.processes(of: id).reduce(0) { sum, pid in
            let text = try kernelText("/proc/\(pid)/stat")
            let fields = text[(try #require(text.lastIndex(of: ")")))...].split(separator: " ")
            return sum + (Int(fields[12]) ?? 0) + (Int(fields[13]) ?? 0)
        }
    }

    /// Somebody at the instance's terminal keeps it awake, however little he does.
    @Test(arguments: backends) func aTerminalHoldsItAwake(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "looked-at-\(backend)"
            try await f.succeed(
                "instance", "start", "-it", "--name", name, "--isolation", backend, "--expose", "80", "--idle-pause",
                "1s",
                "--idle-stop", "0s", "--", "sh")
            for command in [["attach", name], ["exec", "-it", name, "--", "sh"]] {
                try await f.eventually("it sleeps") { try await f.record(name).state == "paused" }
                let words = ["-c", "import pty, sys; pty.spawn(sys.argv[1:])", DaemonFixture.cli] + command
                let session = try f.begin(program: "/usr/bin/python3", words)
                try await f.eventually("it is awake") { try await f.record(name).state == "running" }
                try await f.eventually("it is held") {
                    let pause = try await f.aegis("instance", "pause", name)
                    return pause.code == 5 && pause.err.contains("instance-held")
                }
                #expect(try await f.record(name).state == "running")
                try await f.succeed("instance", "stop", name)
                _ = try await session.result()
                try await f.succeed("instance", "start", "--name", name)
            }
            try await f.succeed("instance", "delete", name)
        }
    }
}
