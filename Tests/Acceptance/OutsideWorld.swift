import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// An internet of our own: one namespace that the daemon lives in as its host, one with servers. Nothing leaves the machine,
/// so addresses that are public elsewhere can be used here.
final class OutsideWorld: Sendable {
    private let host: String
    private let internet: String
    private let holder: ChildProcess
    private let servers: [ChildProcess]
    private let loop: EventLoop

    /// Names as the daemon's host knows them.
    private static let hosts = """
        127.0.0.1 localhost
        93.184.216.34 web.example other.example sub.wild.example api.example.com api.github.com
        93.184.216.35 h2.example
        93.184.216.36 grpc.example
        10.9.9.9 private.example
        127.0.0.1 loop.example
        169.254.169.254 meta.example
        93.184.216.1 self.example

        """

    /// Servers: HTTP on 80, TLS on 443 (both say what `Authorization` or `X-Key` was below `/auth`, there also letter by letter or
    /// compressed, have a page, and lead to wherever they are told), and on 7 one that answers with what it was sent, once the
    /// client has ended its side. The answer to a `POST` ends its connection without having said so; `/ended` is answered once
    /// the other side's kernel has acknowledged that.
    private static let program = """
        import gzip, http.server, socket, socketserver, ssl, sys, threading, time
        ended = threading.Event()
        class Web(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def do_GET(self):
                if self.path == '/ended': ended.wait(300)
                if self.path.startswith('/to?'):
                    self.send_response(302); self.send_header('Location', self.path[4:])
                    self.send_header('Content-Length', '0'); return self.end_headers()
                body = ('web ' + self.headers['Host'] + ' ' + self.path).encode()
                if self.path.startswith('/auth'):
                    given = self.headers.get('Authorization', '')
                    body = (str(given == 'Bearer real-value-123') + ' ' + given).encode()
                    if key := self.headers.get('X-Key'):
                        body = (str('real-value-123' in key) + ' ' + key).encode()
                if self.path == '/auth/letters': return self.letters(body)
                self.send_response(200)
                if self.path == '/auth/gzip':
                    body = gzip.compress(body)
                    self.send_header('Content-Encoding', 'gzip')
                if self.path == '/page':
                    body = b'<title>Tides</title><script>bad()</script><h1>High</h1><p>Twice a day.'
                    self.send_header('Content-Type', 'text/html')
                self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
            def do_POST(self):
                body = self.rfile.read(int(self.headers['Content-Length']))
                self.send_response(200); self.send_header('Content-Length', str(len(body)))
                self.end_headers(); self.wfile.write(body); self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_WR)
                # FIN_WAIT1: the end has not been acknowledged yet.
                while self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == 4: time.sleep(0.01)
                ended.set()
            def letters(self, body):
                self.send_response(200); self.send_header('Transfer-Encoding', 'chunked'); self.end_headers()
                for letter in body: self.wfile.write(b'1\\r\\n%c\\r\\n' % letter); self.wfile.flush()
                self.wfile.write(b'0\\r\\nX-Last: ' + body + b'\\r\\n\\r\\n')
            def log_message(self, *a): pass
        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                data = b''
                while part := self.request.recv(65536): data += part
                self.request.sendall(data)
        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64
            # Clients that are cut off are what these tests are about.
            def handle_error(self, request, client): pass
        web, tls, echo = Server(('', 80), Web), Server((sys.argv[2], 443), Web), Server(('', 7), Echo)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        tls.socket = context.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
        for one in (web, tls, echo): threading.Thread(target=one.serve_forever, daemon=True).start()
        print('ready', flush=True)
        threading.Event().wait()
        """

    private static let neighbours = [
        "-n HOST route add 93.184.200.0/24 dev out", "-n INTERNET addr add 93.184.200.2/32 dev in",
        "-n HOST addr add 2600:1::1/64 dev out nodad", "-n INTERNET addr add 2600:1::2/64 dev in nodad",
        "-n INTERNET addr add 2600:1::3/64 dev in nodad", "-n INTERNET addr add 2600:2::2/128 dev in nodad",
        "-n HOST route add default via 2600:1::2", "-n HOST route add 62.0.0.0/7 dev out",
        "-n INTERNET addr add 62.1.2.3/32 dev in",
    ]
    private static let neighbourNames = """
        93.184.200.2 near.example
        2600:1::3 near6.example
        2600:2::2 far6.example
        62.1.2.3 wide.example
        93.184.216.254 gate.example

        """

    /// A gRPC server that says what `authorization` was.
    private static let grpc = """
        import grpc, sys, threading
        from concurrent import futures
        def describe(request, context):
            given = dict(context.invocation_metadata()).get('authorization', '')
            context.set_trailing_metadata((('x-echo', given),))
            return (str(given == 'Bearer real-value/123+x') + ' ' + given).encode()
        def both(requests, context):
            for request in requests: yield request
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler('t.T', {
            'Describe': grpc.unary_unary_rpc_method_handler(describe),
            'Both': grpc.stream_stream_rpc_method_handler(both)}),))
        key, certificate = (open(sys.argv[1] + end, 'rb').read() for end in ('.key', '.pem'))
        server.add_secure_port('93.184.216.36:443', grpc.ssl_server_credentials([(key, certificate)]))
        server.start()
        print('ready', flush=True)
        threading.Event().wait()
        """

    /// What a world has beside the usual.
    struct More: Sendable {
        /// Lines of `/etc/hosts`.
        var hosts = ""
        /// Files and folders that the daemon's host has in place of its own.
        var mounts: [(from: String, to: String)] = []
        /// Programs on the internet, with their arguments; each says something once it is ready.
        var programs: [[String]] = []
        /// Further variables of the daemon, as `NAME=VALUE`.
        var environment: [String] = []
        /// Whether the host has neighbours with public addresses, and IPv6: `near.example`, `near6.example` and its gateway,
        /// `gate.example`, are on its own link; `wide.example` is on one that leads to the world, and `far6.example` behind a
        /// gateway like all others.
        var neighbours = false
    }

    /// Runs a test against a daemon in such a world; everything is taken away afterwards.
    ///
    /// - Parameters:
    ///   - config: the daemon's.
    ///   - peers: whether there are `h2.example` and `grpc.example` as well, which speak HTTP/2.
    ///   - more: what there is beside the usual.
    ///   - body: the test.
    /// - Throws: what the test throws, or what keeps such a world from being made.
    static func with(
        config: String? = nil, peers: Bool = false, more: More = More(),
        _ body: @escaping @Sendable (DaemonFixture) async throws -> Void
    ) async throws {
        let folder = try TemporaryDirectory()
        try await onLoop { loop in
            let world = try await OutsideWorld(folder, loop, peers: peers, more: more)
            do {
                let launcher =
                    [
                        "/usr/bin/nsenter", "-t", "\(world.holder.pid)", "--net", "--mount", "/usr/bin/env",
                        "SSL_CERT_FILE=\(folder.path("web.pem"))",
                    ] + more.environment
                try await DaemonFixture.with(config: config, launcher: launcher, body)
            } catch {
                await world.end()
                throw error
            }
            await world.end()
        }
    }

    private init(_ folder: TemporaryDirectory, _ loop: EventLoop, peers: Bool, more: More) async throws {
        self.loop = loop
        let id = try Random.hex(bytes: 3)
        (host, internet) = ("agt\(id)h", "agt\(id)i")
        func ip(_ words: String) async throws {
            let (status, _, errors) = try await runProcess(
                ProcessSpec(
                    executable: "/usr/sbin/ip", arguments: ["ip"] + words.split(separator: " ").map(String.init)),
                on: loop)
            try #require(status.shellCode == 0, "ip \(words): \(String(decoding: errors, as: UTF8.self))")
        }
        try await ip("netns add \(host)")
        try await ip("netns add \(internet)")
        try await ip("link add out netns \(host) type veth peer name in netns \(internet)")
        try await ip("-n \(host) addr add 93.184.216.1/32 dev out")
        for address in [
            "93.184.216.254/24", "93.184.216.34/24", "93.184.216.35/24", "93.184.216.36/24", "93.184.216.37/24",
            "10.9.9.9/32",
            "169.254.169.254/32",
        ] {
            try await ip("-n \(internet) addr add \(address) dev in")
        }
        for (place, link) in [(host, "out"), (host, "lo"), (internet, "in"), (internet, "lo")] {
            try await ip("-n \(place) link set \(link) up")
        }
        // All are behind a gateway: neighbours of the host are not the internet.
        try await ip("-n \(host) route add default via 93.184.216.254 dev out onlink")
        if more.neighbours {
            for words in Self.neighbours {
                try await ip(words.replacing("HOST", with: host).replacing("INTERNET", with: internet))
            }
        }
        try Files.writeAtomically(
            folder.path("hosts"),
            Array((Self.hosts + (more.neighbours ? Self.neighbourNames : "") + more.hosts).utf8), mode: 0o644,
            synced: false)
        try Files.writeAtomically(folder.path("servers.py"), Array(Self.program.utf8), mode: 0o644, synced: false)
        let (status, _, errors) = try await runProcess(
            ProcessSpec(
                executable: "/usr/bin/openssl",
                arguments: [
                    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2",
                    "-subj", "/CN=web.example", "-addext",
                    "subjectAltName=DNS:web.example,DNS:api.example.com,DNS:api.github.com,DNS:h2.example,"
                        + "DNS:grpc.example", "-keyout", folder.path("web.key"), "-out", folder.path("web.pem"),
                ]), on: loop)
        try #require(status.shellCode == 0, "openssl: \(String(decoding: errors, as: UTF8.self))")
        let both =
            try Files.read(folder.path("web.key"), limit: 1 << 16) + Files.read(folder.path("web.pem"), limit: 1 << 16)
        try Files.writeAtomically(folder.path("both"), both, mode: 0o600, synced: false)
        // Keeps the mounts of the daemon's host over restarts of the daemon.
        let mounts = ([(from: folder.path("hosts"), to: "/etc/hosts")] + more.mounts)
            .map { "mount --bind '\($0.from)' '\($0.to)'" }
        let script = (["mount --make-rprivate /"] + mounts + ["echo ready", "exec cat"]).joined(separator: " && ")
        holder = try await Self.started(
            ["/usr/bin/nsenter", "--net=/run/netns/\(host)", "/usr/bin/unshare", "-m", "/bin/sh", "-c", script], loop)
        let outside = ["/usr/sbin/ip", "netns", "exec", internet]
        var servers = [
            try await Self.started(
                outside + [
                    "/usr/bin/python3", folder.path("servers.py"), folder.path("both"),
                    peers || !more.programs.isEmpty ? "93.184.216.34" : "",
                ], loop, quiet: true)
        ]
        if peers {
            let python = outside + ["/usr/bin/env", "PYTHONPATH=\(try TestPeers.packages())", "/usr/bin/python3"]
            let h2 = ["-c", try ServePeers.h2(), "serve", folder.path("web"), "h2,http/1.1", "93.184.216.35", "443"]
            for words in [h2, ["-c", Self.grpc, folder.path("web")]] {
                servers.append(try await Self.started(python + words, loop, quiet: true))
            }
        }
        for words in more.programs { servers.append(try await Self.started(outside + words, loop, quiet: true)) }
        self.servers = servers
    }

    /// Starts a program and waits until it says that it is ready.
    private static func started(
        _ arguments: [String], _ loop: EventLoop, quiet: Bool = false
    ) async throws -> ChildProcess {
        let child = try ChildProcess.spawn(
            ProcessSpec(
                executable: arguments[0], arguments: arguments, environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
                stdin: .pipe, stdout: .pipe, stderr: quiet ? .null : .inherit), on: loop)
        var said = ByteBuffer()
        let count = try await withDeadline(.seconds(180)) { [said] in
            var said = said
            return try await child.stdout?.read(into: &said, atMost: 100) ?? 0
        }
        said.removeAll()
        try #require(count > 0, "\(arguments[0]) ended at once")
        return child
    }

    private func end() async {
        for child in [holder] + servers {
            _ = child.signal(9)
            _ = try? await child.wait()
        }
        for name in [host, internet] {
            _ = try? await runProcess(
                ProcessSpec(executable: "/usr/sbin/ip", arguments: ["ip", "netns", "del", name]), on: loop)
        }
    }
}
