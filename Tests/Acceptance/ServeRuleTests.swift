import AegisIO
import AegisTestSupport
import Foundation
import Testing

extension DaemonFixture {
    /// All that comes back for some bytes until the other side ends the connection, by an end or a reset, or has answered with
    /// an error: a connection that was refused a WebSocket is open for other requests.
    ///
    /// Fails when the connection is open for minutes.
    fileprivate func heard(_ text: String, _ port: Int) async throws -> String {
        let loop = loop
        return try await withDeadline(.seconds(180)) {
            var heard: [UInt8] = []
            do {
                // Who is refused at once may see the reset before anything else.
                let client = try await Connect.tcp(host: "127.0.0.1", port: UInt16(port), on: loop)
                defer { client.close() }
                try await client.write(text)
                var bytes = ByteBuffer()
                while !heard.contains(UInt8(ascii: "}")), try await client.read(into: &bytes, atMost: 4096) > 0 {
                    heard += bytes.takeAll()
                }
            } catch let error as IOError {
                guard error.kind == .closed else { throw error }
            }
            return String(decoding: heard, as: UTF8.self)
        }
    }

    /// What a client of a tcp port, or of a ws port, hears.
    fileprivate func call(_ proto: String, _ port: Int) async throws -> String {
        guard proto == "ws" else { return try await heard("hello\n", port) }
        let key = "dGhlIHNhbXBsZSBub25jZQ=="
        return try await heard(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \(key)\r\n\r\n", port)
    }
}

/// The wake rules of ports that are not `http`, with bytes as they are on the line.
@Suite struct ServeRuleTests {
    /// Says something on three tcp ports, and through WebSockets on three others, and ends the connection.
    private static let server = """
        import socketserver, threading
        class Bytes(socketserver.StreamRequestHandler):
            def handle(self):
                self.rfile.readline()
                self.wfile.write(b'served\\n')
        class WebSocket(socketserver.StreamRequestHandler):
            def handle(self):
                while self.rfile.readline().strip(): pass
                # The answer to the key that the standard has as an example.
                self.wfile.write(b'HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
                                 b'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\\r\\n\\r\\n\\x81\\x07served\\n\\x88\\x02\\x03\\xe8')
        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
        print('run', flush=True)
        servers = [Server(('127.0.0.1', port), kind) for kind, ports in ((Bytes, (7, 8, 9)), (WebSocket, (87, 88, 89)))
                   for port in ports]
        for server in servers: threading.Thread(target=server.serve_forever).start()
        """

    @Test(arguments: backends, ["tcp", "ws"])
    func noConnectionWakesWhatItsPortMayNot(_ backend: String, _ proto: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "rule-\(proto)-\(backend)"
            let first = proto == "tcp" ? 7 : 87
            let specs = [
                "\(first):\(proto)", "\(first + 1):\(proto),wake=never", "\(first + 2):\(proto),cooldown=1h",
            ]
            try await f.succeed(
                words: ["instance", "start", "--name", name, "--isolation", backend, "--idle-pause", "0s"]
                    + specs.flatMap { ["--expose", $0] } + ["--", "python3", "-c", Self.server])
            let ports = try await f.served(name).expose.map(\.number)
            let (any, never, cooling) = (ports[0], ports[1], ports[2])
            func served(_ port: Int, _ when: String) async throws {
                let heard = try await f.call(proto, port)
                let isRight = proto == "tcp" ? heard == "served\n" : heard.hasPrefix("HTTP/1.1 101 ")
                #expect(isRight && heard.contains("served\n"), "\(when): \(heard)")
                try await f.eventually("it is not used") { try await f.served(name).connections == 0 }
            }
            func refused(_ port: Int, _ code: String, _ state: String) async throws {
                // Again and again: none of them changes anything.
                for _ in 0..<3 {
                    let heard = try await f.call(proto, port)
                    let isRight =
                        proto == "tcp" ? heard.isEmpty : heard.hasPrefix("HTTP/1.1 503 ") && heard.contains(code)
                    #expect(isRight, "\(code): \(heard)")
                }
                #expect(try await f.record(name).state == state, "\(code)")
            }
            // While it is awake each port is served. That is the one time in an hour for the one that cools down.
            for (port, rule) in [(any, "any"), (never, "never"), (cooling, "cooling")] { try await served(port, rule) }
            for (verb, state, runs) in [("pause", "paused", 1), ("stop", "stopped", 2)] {
                try await f.succeed("instance", verb, name)
                try await refused(never, "instance-asleep", state)
                try await refused(cooling, "instance-cooling", state)
                #expect(try await f.hasRun(name, 1))
                try await served(any, state)
                #expect(try await f.hasRun(name, runs))
                try await served(never, "never, awake again")
                try await served(cooling, "cooling, awake again")
            }
            try await f.succeed("instance", "delete", name)
        }
    }

    /// A WebSocket is asked for by a request, and where only requests wake, a connection does not.
    @Test(arguments: backends) func onlyTheRequestForAWebSocketWakes(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "asked-\(backend)"
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "87:ws,wake=http-only",
                "--expose", "88:ws,wake=never", "--", "python3", "-c", Self.server)
            let ports = try await f.served(name).expose.map(\.number)
            for (verb, state, runs) in [("pause", "paused", 1), ("stop", "stopped", 2)] {
                try await f.eventually("it has begun") { try await f.runs(name) == 1 }
                try await f.eventually("nobody holds it") { try await f.aegis("instance", verb, name).code == 0 }
                let silent = try await Connect.tcp(host: "127.0.0.1", port: UInt16(ports[0]), on: f.loop)
                // A page is no WebSocket: it is refused, and reaches and wakes nobody.
                let plain = try await f.ask("http://127.0.0.1:\(ports[0])/")
                #expect(plain.status == "426" && plain.body.contains("websocket-only"), "\(plain)")
                // By the time that this answer is there, the silent one would have had its effect.
                let refused = try await f.call("ws", ports[1])
                #expect(refused.hasPrefix("HTTP/1.1 503 ") && refused.contains("instance-asleep"), "\(refused)")
                #expect(try await f.record(name).state == state)
                let heard = try await f.call("ws", ports[0])
                #expect(heard.hasPrefix("HTTP/1.1 101 ") && heard.contains("served\n"), "\(heard)")
                silent.close()
                #expect(try await f.hasRun(name, runs))
            }
            try await f.succeed("instance", "delete", name)
        }
    }
}
