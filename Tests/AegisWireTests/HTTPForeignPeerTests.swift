import AegisCore
import AegisIO
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

/// Clients and servers that are not ours, so that both sides of a mistake are not made by the same hand.
@Suite struct HTTPForeignPeerTests {
    private static func run(_ program: String, _ arguments: [String], input: [UInt8] = [], on loop: EventLoop)
        async throws -> String
    {
        let spec = ProcessSpec(
            executable: "/usr/bin/env", arguments: ["env", program] + arguments,
            environment: ["PATH=\(CurrentProcess.environment("PATH") ?? "/usr/bin:/bin")", "HOME=/nonexistent"])
        let result = try await runProcess(
            spec, input: input, outputLimit: 32 << 20, deadline: .seconds(60), on: loop)
        let errors = String(decoding: result.stderr, as: UTF8.self)
        try #require(result.status.shellCode == 0, "\(program) ended with \(result.status): \(errors)")
        return String(decoding: result.stdout, as: UTF8.self)
    }

    private static let service: HTTPServer.Handler = { request, writer in
        switch request.path.first {
        case "echo":
            let body = try await request.body.collect(upTo: 20 << 20)
            let expects = request.headers.first("expect") ?? "none"
            try await writer.respond(200, headers: ["X-Expect": expects], body: body)
        case "stream":
            var body = try await writer.stream(200)
            for line in 0..<1000 { try await body.write(Array("line \(line)\n".utf8)) }
            try await body.finish()
        default: throw AegisError.notFound("no-route", "nothing at \(request.path)")
        }
    }

    @Test func curlTalksToTheServerOverBothTransports() async throws {
        try await withServer(Self.service) { server in
            try await withTemporaryDirectory { directory in
                let data = pattern(10_000_000)
                try Files.writeAtomically("\(directory)/in", data)
                for transport in [
                    ["--unix-socket", server.socketPath, "http://aegis"], ["http://127.0.0.1:\(server.port)"],
                ] {
                    let base = transport[transport.count - 1]
                    let quiet = ["-sS", "--max-time", "50"] + transport.dropLast()
                    let lines = try await Self.run("curl", quiet + ["\(base)/stream"], on: server.loop)
                    #expect(lines == (0..<1000).map { "line \($0)\n" }.joined())
                    // A large body makes curl wait for 100 Continue; without a known length it sends chunks.
                    for extra in [[], ["-H", "Transfer-Encoding: chunked"]] {
                        let upload = ["--data-binary", "@\(directory)/in", "-o", "\(directory)/out"] + extra
                        let write = ["-w", "%{http_code} %header{x-expect} %{num_connects}"]
                        let told = try await Self.run(
                            "curl", quiet + upload + write + ["\(base)/echo"], on: server.loop)
                        #expect(told.hasPrefix("200 100-continue"), "\(told)")
                        #expect(try Files.read("\(directory)/out", limit: 20 << 20) == data)
                    }
                    let codes = try await Self.run(
                        "curl",
                        quiet + [
                            "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-w",
                            "%{http_code}:%{num_connects} ",
                        ]
                            + ["\(base)/stream", "\(base)/none", "\(base)/echo"], on: server.loop)
                    #expect(codes == "200:1 404:0 200:0 ")
                    let head = try await Self.run("curl", quiet + ["-I", "\(base)/echo"], on: server.loop)
                    #expect(head.hasPrefix("HTTP/1.1 200 OK") && head.lowercased().contains("content-length: 0"))
                    let old = try await Self.run("curl", quiet + ["--http1.0", "\(base)/stream"], on: server.loop)
                    #expect(old == lines)
                }
            }
        }
    }

    @Test func pythonClientTalksToTheServer() async throws {
        try await withServer(Self.service) { server in
            let program = """
                import http.client, sys
                c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
                c.request("POST", "/echo", body=b"x" * 100000)
                r = c.getresponse(); assert r.status == 200 and r.read() == b"x" * 100000
                c.request("PUT", "/echo", body=iter([b"a" * 10, b"", b"b" * 70000]), encode_chunked=True,
                          headers={"Transfer-Encoding": "chunked"})
                r = c.getresponse(); assert r.read() == b"a" * 10 + b"b" * 70000
                c.request("HEAD", "/stream"); r = c.getresponse(); assert r.read() == b""
                c.request("GET", "/stream"); r = c.getresponse(); assert len(r.read().splitlines()) == 1000
                c.request("GET", "/nothing"); r = c.getresponse()
                import json; print(r.status, json.loads(r.read())["error"]["code"])
                """
            let told = try await Self.run("python3", ["-c", program, "\(server.port)"], on: server.loop)
            #expect(told == "404 no-route\n")
        }
    }

    @Test func clientTalksToAPythonServer() async throws {
        let program = """
            import http.server
            class H(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"
                def do_POST(self):
                    if self.headers["Transfer-Encoding"] == "chunked":
                        body = b""
                        while True:
                            n = int(self.rfile.readline(), 16)
                            body += self.rfile.read(n)
                            self.rfile.readline()
                            if n == 0: break
                    else:
                        body = self.rfile.read(int(self.headers["Content-Length"]))
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    for i in range(0, len(body), 50000):
                        piece = body[i:i + 50000]
                        self.wfile.write(b"%x;a=b\\r\\n" % len(piece) + piece + b"\\r\\n")
                    self.wfile.write(b"0\\r\\nDone: yes\\r\\n\\r\\n")
                def do_GET(self):
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(b"until close")
                    self.close_connection = True
                def log_message(self, *args): pass
            s = http.server.HTTPServer(("127.0.0.1", 0), H)
            print(s.server_port, flush=True)
            s.serve_forever()
            """
        try await onLoop { loop in
            let child = try ChildProcess.spawn(
                ProcessSpec(
                    executable: "/usr/bin/env", arguments: ["env", "python3", "-c", program],
                    environment: [
                        "PATH=\(CurrentProcess.environment("PATH") ?? "/usr/bin:/bin")", "HOME=/nonexistent",
                    ],
                    stdout: .pipe, parentDeathSignal: 9), on: loop)
            let outcome: Result<Void, any Error>
            do {
                var line = ByteBuffer()
                let output = try #require(child.stdout)
                while line.firstOffset(of: 10) == nil { _ = try await output.read(into: &line) }
                let port = try #require(UInt16(String(decoding: line.readable.dropLast(), as: UTF8.self)))
                let connection = HTTPClientConnection(try await Connect.tcp(host: "127.0.0.1", port: port, on: loop))
                let data = pattern(1_000_000)
                let whole = try await connection.send(HTTPRequestHead(.post, HTTPTarget(path: [])), body: data)
                #expect(try await whole.collect(upTo: data.count) == data && whole.trailers.first("done") == "yes")
                let chunked = try await connection.send(HTTPRequestHead(.post, HTTPTarget(path: [])), length: nil) {
                    for start in stride(from: 0, to: data.count, by: 100_000) {
                        try await $0.write(data[start..<start + 100_000])
                    }
                }
                #expect(try await chunked.collect(upTo: data.count) == data && connection.isReusable)
                let closing = try await connection.send(HTTPRequestHead(.get, HTTPTarget(path: [])))
                #expect(try await closing.collect(upTo: 100) == Array("until close".utf8) && !connection.isReusable)
                outcome = .success(())
            } catch { outcome = .failure(error) }
            _ = child.signal(9)
            _ = try await child.wait()
            try outcome.get()
        }
    }
}
