import AegisBroker
import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy
import AegisSecrets
import AegisTLS
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

/// curl inside, an inspector in the middle, python's server outside: all with real TLS over loopback.
@Suite struct InspectorTests {
    static let value = "real-value/123+x"

    /// Everything that a test needs; `curl` speaks to `api.example.com` through the inspector.
    struct World: Sendable {
        let loop: EventLoop
        let folder: TemporaryDirectory
        let port: UInt16
        let placeholder: String
        let events: Notes<InspectEvent>
        let server: PythonServer
        let proxy: HTTPProxy

        func curl(_ arguments: [String], input: [UInt8] = []) async throws -> (code: Int32, out: String, error: String)
        {
            try await runTool(
                "curl",
                [
                    "-sS", "-m", "40", "--cacert", "instance.pem", "--connect-to",
                    "api.example.com:443:127.0.0.1:\(port)",
                ] + arguments, input: input, in: folder.path, on: loop)
        }

        /// What the server says that it was sent.
        func sent(_ arguments: [String]) async throws -> String {
            let result = try await curl(arguments)
            #expect(result.code == 0, "\(result)")
            return result.out
        }

        var refusals: [String] {
            events.all.compactMap { if case .refused(let refusal, _) = $0 { refusal.reason } else { nil } }
        }
    }

    static func world(
        bindings: [String] = ["KEY@api.example.com/v1"], certificate: String = "good", trusted: Bool = true,
        protocols: String? = nil, limits: ProxyLimits = ProxyLimits(),
        authorise: @escaping @Sendable (InspectedRequest) -> InspectRefusal? = { _ in nil },
        recordUse: @escaping @Sendable ([String], InspectedRequest) -> InspectRefusal? = { _, _ in nil },
        _ body: @escaping @Sendable (World) async throws -> Void
    ) async throws {
        try await onLoop { loop in
            let tools = try await ToolAuthority(on: loop)
            try await tools.issue("good", names: "DNS:api.example.com")
            try await tools.issue("old", names: "DNS:api.example.com", until: "20210101000000Z")
            let server: PythonServer
            if let protocols {
                server = try await PythonServer(
                    InspectorHTTP2Tests.peer(), ["serve", certificate, protocols], in: tools.directory.path,
                    packages: try TestPeers.packages(), on: loop)
            } else {
                server = try await PythonServer(Self.python, [certificate], in: tools.directory.path, on: loop)
            }
            let authority = try CertificateAuthority(name: "Aegis test")
            try Files.writeAtomically(tools.directory.path("instance.pem"), Array(authority.certificate.utf8))
            let stranger = try CertificateAuthority(name: "stranger")
            let proxy = HTTPProxy(on: loop, limits: limits)
            let inspector = try Inspector(
                authorities: trusted ? tools.certificate : Array(stranger.certificate.utf8), proxy: proxy)
            let parsed = try bindings.map { try HeadRewriterTests.binding($0) }
            let secrets = parsed.isEmpty ? [] : [try BrokeredSecret(parsed, value: Secret(Array(value.utf8)))]
            let brokered = BrokeredSecrets(secrets)
            let events = Notes<InspectEvent>()
            let upstream = server.port
            let rules = InspectRules(
                host: try #require(HostName("api.example.com")), port: 443, authority: authority,
                authorise: authorise, secrets: { parsed.isEmpty ? nil : brokered },
                dial: { try await Connect.tcp(host: "127.0.0.1", port: upstream, on: loop) },
                report: { events.add($0) }, recordUse: recordUse)
            let listener = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            let port = try listener.localPort()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await proxy.run() }
                group.addTask {
                    await withDiscardingTaskGroup { connections in
                        while let guest = try? await listener.accept() {
                            connections.addTask { await inspector.inspect(guest, rules: rules) }
                        }
                    }
                }
                try await body(
                    World(
                        loop: loop, folder: tools.directory, port: port,
                        placeholder: secrets.first?.placeholder.description ?? "", events: events, server: server,
                        proxy: proxy))
                listener.close()
                group.cancelAll()
            }
            await server.stop()
        }
    }

    /// Says what it was sent, and answers in many ways.
    static let python = #"""
        import base64, gzip, http.server, json, ssl, sys, urllib.parse
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *a): pass
            def body(self):
                if self.headers.get("Transfer-Encoding") == "chunked":
                    data = b""
                    while True:
                        size = int(self.rfile.readline(), 16)
                        piece = self.rfile.read(size); self.rfile.readline()
                        if size == 0: return data
                        data += piece
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            def answer(self, data, **fields):
                self.send_response(200)
                for name, text in fields.items(): self.send_header(name.replace("_", "-"), text)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                body = self.body()
                key = self.headers.get("X-Api-Key", "")
                if path == "/v1/count":
                    good = key == "real-value/123+x"
                    self.answer(json.dumps({"good": good, "length": len(body), "sum": sum(body)}).encode())
                elif path == "/v1/echo":
                    forms = [key, urllib.parse.quote(key, safe=""), json.dumps({"k": key}).replace("/", "\\/"),
                        base64.b64encode(b"ab" + key.encode()).decode(), "done"]
                    self.answer("\n".join(forms).encode(), X_Echo=key, Location="/?" + urllib.parse.quote(key, safe=""))
                elif path == "/v1/chunks":
                    self.send_response(200); self.send_header("Transfer-Encoding", "chunked")
                    self.send_header("Trailer", "X-End"); self.end_headers()
                    for letter in "<" + key + ">":
                        self.wfile.write(b"1\r\n" + letter.encode() + b"\r\n")
                    self.wfile.write(b"0\r\nX-End: " + key.encode() + b"\r\n\r\n")
                elif path == "/v1/close":
                    self.close_connection = True
                    self.send_response(200); self.send_header("Connection", "close"); self.end_headers()
                    self.wfile.write(b"until the end " + key.encode())
                    self.wfile.flush()
                    self.connection.unwrap()
                elif path == "/v1/gzip":
                    self.answer(gzip.compress(key.encode()), Content_Encoding="gzip")
                elif path == "/big": self.answer(bytes(range(256)) * (4096 * 4))
                elif path == "/hang":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"); self.close_connection = True
                else:
                    fields = {name.lower(): text for name, text in self.headers.items()}
                    self.answer(json.dumps({"path": self.path, "method": self.command, "fields": fields}).encode())
            do_POST = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = do_GET
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1] + ".pem", sys.argv[1] + ".key")
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        print(server.server_address[1], flush=True)
        server.serve_forever()
        """#

    @Test func aSecretIsUsedAndNotSeen() async throws {
        try await Self.world { world in
            let key = "X-Api-Key: \(world.placeholder)"
            let good = try await world.sent(["-H", key, "https://api.example.com/v1/count"])
            #expect(good.contains(#""good": true"#))
            let echo = try await world.curl(["-i", "-H", key, "https://api.example.com/v1/echo"])
            #expect(echo.code == 0 && echo.out.hasSuffix("\ndone"), "\(echo)")
            #expect(!echo.out.contains("real-value") && !echo.out.contains("123+x"), "\(echo.out)")
            #expect(echo.out.contains("X-Echo: ****************"))
            for path in ["chunks", "close"] {
                let result = try await world.curl(["-i", "-H", key, "https://api.example.com/v1/\(path)"])
                #expect(result.code == 0 && !result.out.contains("real-value"), "\(result)")
                #expect(result.out.contains("****************"))
            }
            #expect(world.refusals == [])
            let uses = world.events.all.filter { if case .used(["KEY"], _) = $0 { true } else { false } }
            #expect(uses.count == 4)
        }
    }

    @Test(arguments: [nil, "h2"]) func whatCannotBeRecordedDoesNotGoOut(_ protocols: String?) async throws {
        let refuse: @Sendable ([String], InspectedRequest) -> InspectRefusal? = { names, _ in
            InspectRefusal(reason: "audit-disk-full", message: "no room to record \(names)", hint: nil)
        }
        try await Self.world(protocols: protocols, recordUse: refuse) { world in
            let url = "https://api.example.com/v1/count"
            let result = try await world.curl(["-w", "%{http_code}", "-H", "X-Api-Key: \(world.placeholder)", url])
            #expect(result.out.hasSuffix("403") && result.out.contains("audit-disk-full"), "\(result)")
            #expect(!world.events.all.contains { if case .used = $0 { true } else { false } })
            // What carries none needs no record.
            #expect(try await world.curl(["-w", "%{http_code}", url]).out.hasSuffix("200"))
        }
    }

    @Test func elsewhereItIsRefused() async throws {
        try await Self.world { world in
            let p = world.placeholder
            for (arguments, reason) in [
                (["-H", "X-Api-Key: \(p)", "https://api.example.com/v2"], "secret-not-bound"),
                (["https://api.example.com/v1?k=\(p)"], "secret-misplaced"),
                (["-A", p, "https://api.example.com/v1"], "secret-misplaced"),
                (["-d", "k=\(p)", "https://api.example.com/v1"], "secret-misplaced"),
                (
                    ["-H", "Transfer-Encoding: chunked", "-d", "k=\(p)", "https://api.example.com/v1"],
                    "secret-misplaced"
                ),
                (["-u", "x:\(Placeholder())", "https://api.example.com/v1"], "secret-unknown"),
            ] {
                let result = try await world.curl(["-w", "%{http_code}"] + arguments)
                #expect(result.out.hasSuffix("403") && result.out.contains(reason), "\(arguments) \(result)")
                #expect(world.refusals.last == reason)
            }
            // Deep in a large body, across the borders of whatever it is cut into.
            var body = [UInt8](repeating: UInt8(ascii: "A"), count: 1_000_001)
            body += Array(p.utf8) + body
            for fields in [["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked", "-H", "Expect:"]] {
                let result = try await world.curl(
                    fields + ["--data-binary", "@-", "https://api.example.com/v1/count"], input: body)
                #expect(result.out.contains("secret-misplaced") || result.code != 0, "\(result)")
                #expect(!result.out.contains("length"))
                #expect(world.refusals.last == "secret-misplaced")
            }
        }
    }

    @Test func bodiesGoThroughWhole() async throws {
        try await Self.world { world in
            let body = scrambled(1_500_000)
            let sum = body.reduce(0) { $0 + Int($1) }
            for fields in [["-H", "X: y"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]] {
                let result = try await world.curl(
                    fields + [
                        "-H", "X-Api-Key: \(world.placeholder)", "--data-binary", "@-",
                        "https://api.example.com/v1/count",
                    ], input: body)
                #expect(result.out == #"{"good": true, "length": 1500000, "sum": \#(sum)}"#, "\(result)")
            }
            let big = try await world.curl(["-o", "big", "https://api.example.com/big", "--limit-rate", "4M"])
            #expect(big.code == 0, "\(big)")
            let bytes = try Files.read(world.folder.path("big"), limit: 64 << 20)
            #expect(bytes.count == 4 << 20 && bytes.enumerated().allSatisfy { $1 == UInt8(truncatingIfNeeded: $0) })
        }
    }

    @Test func connectionsAreKept() async throws {
        try await Self.world { world in
            let urls = (0..<20).map { "https://api.example.com/v1/count?\($0)" }
            let result = try await world.curl(
                ["-H", "X-Api-Key: \(world.placeholder)", "-w", "%{num_connects} "] + urls.flatMap { [$0] })
            #expect(result.code == 0)
            #expect(result.out.split(separator: "true").count == 21)
            // One connection for all of them.
            let fresh = result.out.split(separator: "}").dropFirst().map {
                $0.split(separator: " ").first.map(String.init)
            }
            #expect(fresh.filter { $0 == "1" }.count == 1, "\(result.out)")
        }
    }

    @Test func nothingIsAddedAndHopsAreEnded() async throws {
        try await Self.world(bindings: []) { world in
            let text = try await world.sent([
                "--compressed", "-H", "Connection: close, X-Hop", "-H", "X-Hop: 1", "-H", "X-End: 2",
                "https://api.example.com/a%20b?c=d",
            ])
            #expect(text.contains(#""path": "/a%20b?c=d""#) && text.contains(#""x-end": "2""#))
            #expect(!text.contains("x-hop") && !text.contains("forwarded") && text.contains("gzip"))
        }
        try await Self.world { world in
            let text = try await world.sent(["--compressed", "https://api.example.com/"])
            #expect(text.contains(#""accept-encoding": "identity""#))
        }
    }

    @Test func eachRequestIsChecked() async throws {
        try await Self.world { request in
            guard request.method == "GET", request.path.hasPrefix("/open") else {
                return InspectRefusal(
                    reason: "not-covered", message: "\(request.method) \(request.path) is not granted")
            }
            return nil
        } _: { world in
            let ok = try await world.curl(["-w", "%{http_code}", "https://api.example.com/open"])
            #expect(ok.out.hasSuffix("200"))
            for arguments in [["https://api.example.com/closed"], ["-X", "POST", "https://api.example.com/open"]] {
                let result = try await world.curl(["-w", "%{http_code}"] + arguments)
                #expect(result.out.hasSuffix("403") && result.out.contains("not-covered"))
            }
            let host = try await world.curl(["-H", "Host: other.example.com", "https://api.example.com/open"])
            #expect(host.out.contains("host-mismatch"))
            let port = try await world.curl(["-H", "Host: api.example.com:8443", "https://api.example.com/open"])
            #expect(port.out.contains("host-mismatch"))
            let tunnel = try await world.curl([
                "-X", "CONNECT", "--request-target", "api.example.com:443", "https://api.example.com/",
            ])
            #expect(tunnel.out.contains("connect-refused"), "\(tunnel)")
            let absolute = try await world.curl(
                ["--request-target", "https://other.example.com/open", "https://api.example.com/"])
            #expect(absolute.out.contains("host-mismatch"))
            #expect(
                world.refusals == [
                    "not-covered", "not-covered", "host-mismatch", "host-mismatch", "connect-refused", "host-mismatch",
                ])
        }
    }

    @Test func serversFaultsAreSaid() async throws {
        for (certificate, trusted, code) in [
            ("old", true, "certificate-expired"), ("good", false, "certificate-unknown-authority"),
        ] {
            try await Self.world(certificate: certificate, trusted: trusted) { world in
                let result = try await world.curl(
                    ["-w", "%{http_code}", "-H", "X-Api-Key: \(world.placeholder)", "https://api.example.com/v1"])
                #expect(result.out.hasSuffix("502") && result.out.contains(code), "\(result)")
                #expect(
                    world.events.all.contains { if case .failed(let error) = $0 { error.code == code } else { false } })
            }
        }
        try await Self.world { world in
            let key = "X-Api-Key: \(world.placeholder)"
            let encoded = try await world.curl(["-H", key, "https://api.example.com/v1/gzip"])
            #expect(encoded.out.contains("response-encoded"), "\(encoded)")
            let cut = try await world.curl(["https://api.example.com/hang"])
            #expect(cut.code != 0, "a broken body was passed off as whole: \(cut)")
            await world.server.stop()
            let gone = try await world.curl(["-w", "%{http_code}", "https://api.example.com/"])
            #expect(gone.out.hasSuffix("502") || gone.out.hasSuffix("503"), "\(gone)")
        }
    }

    @Test func pinnedClientsAreReported() async throws {
        try await Self.world { world in
            let result = try await runTool(
                "curl",
                [
                    "-sS", "--cacert", "root.pem", "--connect-to", "api.example.com:443:127.0.0.1:\(world.port)",
                    "https://api.example.com/",
                ], in: world.folder.path, on: world.loop)
            #expect(result.code == 60)
            _ = await world.events.wait(for: 1)
            #expect(world.refusals == ["client-refused-certificate"])
            let other = try await runTool(
                "curl",
                [
                    "-sS", "--cacert", "instance.pem", "--connect-to", "b.example.com:443:127.0.0.1:\(world.port)",
                    "https://b.example.com/",
                ], in: world.folder.path, on: world.loop)
            _ = await world.events.wait(for: 2)
            #expect(other.code != 0 && world.refusals.last == "sni-mismatch")
            // This one trusts the authority, and then wants a certain key.
            let pin = try await runTool(
                "curl",
                [
                    "-sS", "--cacert", "instance.pem", "--pinnedpubkey",
                    "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "--connect-to",
                    "api.example.com:443:127.0.0.1:\(world.port)", "https://api.example.com/",
                ], in: world.folder.path, on: world.loop)
            #expect(pin.code == 90, "\(pin)")
            _ = await world.events.wait(for: 3)
            #expect(world.refusals.last == "client-refused-certificate")
        }
    }

    @Test func pythonsRequestsWork() async throws {
        let script = """
            import http.client, json, ssl, sys
            context = ssl.create_default_context(cafile="instance.pem")
            class Connection(http.client.HTTPSConnection):
                def connect(self):
                    import socket
                    plain = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
                    self.sock = context.wrap_socket(plain, server_hostname="api.example.com")
            c = Connection("api.example.com")
            good = 0
            for n in range(50):
                c.request("POST", "/v1/count", b"x" * (n * 1000), {"X-Api-Key": sys.argv[2]})
                r = json.loads(c.getresponse().read())
                good += r["good"] and r["length"] == n * 1000
            print(good)
            """
        try await Self.world { world in
            let result = try await runTool(
                "python3", ["-c", script, "\(world.port)", world.placeholder], in: world.folder.path, on: world.loop)
            #expect(result.out == "50\n", "\(result)")
        }
    }
}
