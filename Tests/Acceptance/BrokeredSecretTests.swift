import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Secrets that an instance uses and never has, against a daemon in a world of its own (needs root and nf_tables).
@Suite(.serialized) struct BrokeredSecretTests {
    private static let attempts = """
        import http.client, os, ssl, subprocess, urllib.error, urllib.request
        key = os.environ['KEY']
        def show(name, body):
            try: print(name, body(), flush=True)
            except Exception as error: print(name, type(error).__name__, error, flush=True)
        def get(path, value=None, host='web.example', method='GET', name='Authorization', data=None):
            request = urllib.request.Request(f'https://{host}{path}', method=method, data=data)
            if value: request.add_header(name, value)
            try:
                with urllib.request.urlopen(request, timeout=20) as answer: return answer.read().decode()
            except urllib.error.HTTPError as error: return f'{error.code} {error.read().decode()}'
        """

    private func attempt(_ f: DaemonFixture, _ lines: String, _ arguments: String...) async throws -> [String: String] {
        let result = try await f.run(
            DaemonFixture.cli, ["run"] + arguments + ["--", "python3", "-c", Self.attempts + "\n" + lines])
        try #require(result.code == 0, "\(result)")
        return NetworkTests.answers(result.out)
    }

    @Test(arguments: backends) func aSecretIsUsedAndNeverInside(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let answers = try await attempt(
                f,
                """
                show('var', lambda: (key[:11], len(key)))
                show('use', lambda: get('/auth/x', 'Bearer ' + key))
                show('path', lambda: get('/other', 'Bearer ' + key))
                show('method', lambda: get('/auth/x', 'Bearer ' + key, method='POST', data=b''))
                show('header', lambda: get('/auth/x', key, name='X-Other'))
                show('query', lambda: get('/auth/x?k=' + key))
                show('body', lambda: get('/auth/x', method='GET', data=b'k=' + key.encode()))
                show('plain', lambda: get('/auth/x'))
                show('issuer', lambda: ssl.get_server_certificate(('web.example', 443))[:27])
                show('memory', lambda: 'real-value' in open('/proc/self/environ').read())
                """, "--name", "broker-\(backend)", "--isolation", backend, "--secret",
                "KEY@web.example/auth,methods=GET")
            #expect(answers["var"] == "('AegisSecret', 48)")
            // The server had the value, and what it echoed is masked.
            #expect(answers["use"] == "True Bearer **************", "\(answers)")
            #expect(answers["path"]?.contains("secret-not-bound") == true, "\(answers)")
            #expect(answers["method"]?.contains("secret-not-bound") == true, "\(answers)")
            for place in ["header", "query", "body"] {
                #expect(answers[place]?.contains("secret-misplaced") == true, "\(place): \(answers)")
            }
            #expect(answers["plain"] == "False ")
            #expect(answers["memory"] == "False")
            let events = try await f.aegis("events", "--instance", "broker-\(backend)", "--output", "json")
            #expect(events.out.contains("secret-not-bound") && events.out.contains("secret-misplaced"), "\(events)")
            #expect(!events.out.contains("real-value"))
            let shown = try await f.aegis("instance", "show", "broker-\(backend)", "--output", "json")
            #expect(shown.out.contains("KEY@web.example/auth,methods=GET") && !shown.out.contains("real-value"))
        }
    }

    @Test func inspectionChecksEveryRequest() async throws {
        try await OutsideWorld.with { f in
            let lines = """
                import socket
                show('open', lambda: get('/a'))
                def other(host, context):
                    with socket.create_connection(('web.example', 443), 10) as raw, context.wrap_socket(raw, server_hostname='web.example') as s:
                        s.sendall(b'GET /t HTTP/1.1\\r\\nHost: ' + host + b'\\r\\nConnection: close\\r\\n\\r\\n')
                        data = b''
                        while part := s.recv(4096): data += part
                        return data.split(b'\\r\\n')[0]
                show('host', lambda: other(b'other.example', ssl.create_default_context()))
                show('same', lambda: other(b'web.example', ssl.create_default_context()))
                def pinned():
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    return other(b'web.example', context)
                show('pinned', pinned)
                """
            let result = try await f.run(
                DaemonFixture.cli,
                [
                    "run", "--name", "look", "--env", "KEY=x", "--allow", "web.example,inspect", "--", "python3", "-c",
                    Self.attempts + "\n" + lines,
                ])
            try #require(result.code == 0, "\(result)")
            let answers = NetworkTests.answers(result.out)
            #expect(answers["open"] == "web web.example /a", "\(answers)")
            #expect(
                answers["host"] == "b'HTTP/1.1 403 Forbidden'" && answers["same"] == "b'HTTP/1.1 200 OK'", "\(answers)")
            #expect(answers["pinned"]?.contains("CERTIFICATE_VERIFY_FAILED") == true, "\(answers)")
            let events = try await f.aegis("events", "--instance", "look", "--output", "json")
            #expect(
                events.out.contains("client-refused-certificate") && events.out.contains("host-mismatch"), "\(events)")
        }
    }

    @Test func mistakesAreSaidBeforeAnythingIsMade() async throws {
        try await DaemonFixture.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            for (secret, words) in [
                ("KEY@https://web.example/", "KEY@web.example"), ("KEY@127.0.0.1", "column"),
                ("OTHER@web.example", "secret-not-found"),
            ] {
                let result = try await f.aegis("run", "--secret", secret, "--", "true")
                #expect(result.code != 0 && (result.out + result.err).contains(words), "\(result)")
            }
            let both = try await f.aegis("run", "--secret", "KEY", "--secret", "KEY@web.example", "--", "true")
            #expect(both.code == 2, "\(both)")
        }
    }
}
