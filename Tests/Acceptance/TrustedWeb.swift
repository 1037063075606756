import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Servers on the internet of an `OutsideWorld` whose certificates come from a company's authority, from one that the
/// daemon's host trusts by itself, or are not good; and a name server whose answers change.
final class TrustedWeb: Sendable {
    private let company: ToolAuthority
    private let system: ToolAuthority
    /// The company's certificate, in a file.
    var authorityFile: String { company.directory.path("root.pem") }
    /// What the world has of this.
    let more: OutsideWorld.More

    private static let address = "93.184.216.37"
    private static let names = ["company", "expired", "wrong", "stranger", "system"].map { "\($0).example" }

    /// Pages, a search service, models, an MCP server and a registry, all on 443 (each name with its certificate) and 80; on
    /// 8080 and 53 what tells names that turn, and who came where.
    private static let program = """
        import http.server, json, os, socket, socketserver, ssl, sys, threading
        folder, address = sys.argv[1:3]
        asked, reached = {}, set()
        class Web(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            def log_message(self, *a): pass
            def answer(self, status, kind, body, *fields):
                self.send_response(status); self.send_header('Content-Type', kind)
                for name, value in fields: self.send_header(name, value)
                self.send_header('Content-Length', str(len(body))); self.end_headers(); self.wfile.write(body)
            def json(self, value, status=200): self.answer(status, 'application/json', json.dumps(value).encode())
            def do_GET(self):
                if self.path.startswith('/to?'): return self.answer(302, 'text/plain', b'', ('Location', self.path[4:]))
                if self.path == '/seen': return self.json({'asked': asked, 'reached': sorted(reached)})
                if self.path.startswith('/s?'): return self.json({'results': [{'title': 'Tides', 'url': 'https://company.example/', 'text': 'Twice'}]})
                if self.path == '/v2/': return self.json({})
                if self.path.startswith('/v2/'): return self.json({'errors': [{'code': 'MANIFEST_UNKNOWN', 'message': 'manifest unknown'}]}, 404)
                self.answer(200, 'text/html', b'<title>Tides</title><script>bad()</script><h1>High</h1><p>Twice a day.')
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                if self.path == '/v1/embeddings':
                    return self.json({'model': body['model'], 'data': [{'index': i, 'embedding': [1, 0, 0, 0]} for i in range(len(body['input']))]})
                if self.path == '/v1/chat/completions':
                    chunk = lambda delta, end=None: {'id': 'c', 'object': 'chat.completion.chunk', 'model': body['model'], 'choices': [{'index': 0, 'delta': delta, 'finish_reason': end}]}
                    out = ''.join('data: %s\\n\\n' % json.dumps(c) for c in (chunk({'role': 'assistant', 'content': 'over TLS'}), chunk({}, 'stop')))
                    return self.answer(200, 'text/event-stream', (out + 'data: [DONE]\\n\\n').encode())
                if 'id' not in body: return self.answer(202, 'text/plain', b'')
                results = {'server/discover': {'supportedVersions': ['2026-07-28'], 'capabilities': {'tools': {}}, '_meta': {'io.modelcontextprotocol/serverInfo': {'name': 'calc', 'version': '1'}}},
                    'tools/list': {'tools': [{'name': 'add', 'description': 'Adds.', 'inputSchema': {'type': 'object'}}]},
                    'tools/call': {'content': [{'type': 'text', 'text': 'forty-two'}]}}
                if body['method'] not in results: return self.json({'jsonrpc': '2.0', 'id': body['id'], 'error': {'code': -32601, 'message': 'no'}}, 404)
                self.json({'jsonrpc': '2.0', 'id': body['id'], 'result': results[body['method']]})
        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64
            def handle_error(self, request, client): pass
        class Seen(Server):
            def process_request(self, request, client):
                reached.add(request.getsockname()[0]); super().process_request(request, client)
        def question(data):
            labels, at = [], 12
            while data[at]: labels.append(data[at + 1:at + 1 + data[at]].decode()); at += data[at] + 1
            return '.'.join(labels).lower(), int.from_bytes(data[at + 1:at + 3], 'big'), data[12:at + 5]
        resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); resolver.bind((address, 53))
        def names(s):
            while True:
                data, who = s.recvfrom(4096)
                name, kind, raw = question(data)
                found, code = [], 0
                if not name.endswith('.turn.example'): code = 3
                elif kind == 1:
                    count = asked[name] = asked.get(name, 0) + 1
                    # A name that begins with "both" has both addresses at once, any other the private one from its second answer on.
                    found = ['10.9.9.9', address] if name.startswith('both') else [address if count == 1 else '10.9.9.9']
                records = b''.join(b'\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4' + socket.inet_aton(one) for one in found)
                s.sendto(data[:2] + bytes([0x85, 0x80 | code]) + b'\\0\\1' + len(found).to_bytes(2, 'big') + b'\\0\\0\\0\\0' + raw + records, who)
        contexts = {}
        for file in os.listdir(folder):
            if file.endswith('.example.pem'):
                context = contexts[file[:-4]] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(folder + '/' + file, folder + '/' + file[:-4] + '.key')
        def choose(connection, name, context):
            if name in contexts: connection.context = contexts[name]
        first = contexts['company.example']; first.sni_callback = choose
        tls, plain, seen = Server((address, 443), Web), Server((address, 8081), Web), Seen(('', 8080), Web)
        tls.socket = first.wrap_socket(tls.socket, server_side=True, do_handshake_on_connect=False)
        for one in (tls, plain, seen): threading.Thread(target=one.serve_forever, daemon=True).start()
        threading.Thread(target=names, args=(resolver,), daemon=True).start()
        print('ready', flush=True)
        threading.Event().wait()
        """

    /// Makes authorities and certificates; the world makes the rest.
    static func make() async throws -> TrustedWeb { try await onLoop { try await TrustedWeb(on: $0) } }

    private init(on loop: EventLoop) async throws {
        company = try await ToolAuthority(on: loop)
        system = try await ToolAuthority(name: "system", on: loop)
        try await company.issue("company.example", names: "DNS:company.example")
        try await company.issue("expired.example", names: "DNS:expired.example", until: "20210101000000Z")
        try await company.issue("wrong.example", names: "DNS:other.example")
        try await system.issue("system.example", names: "DNS:system.example")
        let folder = company.directory
        try await company.openssl([
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            "/CN=stranger.example", "-addext", "subjectAltName=DNS:stranger.example", "-keyout", "stranger.example.key",
            "-out", "stranger.example.pem",
        ])
        for end in ["pem", "key"] {
            let bytes = try Files.read(system.directory.path("system.example.\(end)"), limit: 1 << 16)
            try Files.writeAtomically(folder.path("system.example.\(end)"), bytes, mode: 0o600, synced: false)
        }
        // What the host trusts by itself, in the form of any Debian: a bundle, and certificates by the hash of their name.
        let hash = try await runTool(
            "openssl", ["x509", "-hash", "-noout", "-in", system.directory.path("root.pem")], on: loop)
        let store = folder.path("certs")
        try Files.makeDirectories(store, mode: 0o755)
        let name = hash.out.trimmingCharacters(in: .whitespacesAndNewlines)
        for file in ["ca-certificates.crt", "\(name).0"] {
            try Files.writeAtomically("\(store)/\(file)", system.certificate, mode: 0o644, synced: false)
        }
        let names = "nameserver \(Self.address)\noptions timeout:30 attempts:1\n"
        try Files.writeAtomically(folder.path("resolv.conf"), Array(names.utf8), mode: 0o644, synced: false)
        let hosts = Self.names.map { "\(Self.address) \($0)\n" }.joined()
        more = OutsideWorld.More(
            hosts: hosts,
            mounts: [(store, "/etc/ssl/certs"), (folder.path("resolv.conf"), "/etc/resolv.conf")],
            programs: [["/usr/bin/python3", "-c", Self.program, folder.path(""), Self.address]])
    }

    /// The configuration that trusts the company, and has the daemon ask its servers for everything.
    var configuration: String {
        """
            - name: company
              type: openai-compatible
              endpoint: https://company.example/v1
              models: [{ alias: theirs, model: chat }]
          memory: { embedder: company/words, dimensions: 4 }
          web_search: { type: json, endpoint: "https://company.example/s?q={query}", snippet_field: text }
          mcp_servers:
            - { name: company, url: "https://company.example/mcp" }
          tls: { ca_file: \(authorityFile) }

        """
    }
}
