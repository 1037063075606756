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
            let events = try await f.aegis("events", "--output", "json")
            #expect(events.out.contains("secret-not-bound") && events.out.contains("secret-misplaced"), "\(events)")
            #expect(!events.out.contains("real-value"))
        }
    }

    /// A header of one's own is the only one; what comes back is masked however it is cut, and what cannot be looked into is refused.
    /// Nothing is put into what travels in clear text, and what stands for it does not go out in a request's head either.
    @Test func clearTextCarriesNoPlaceholder() async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let answers = try await attempt(
                f,
                """
                import base64
                def clear(path, **headers):
                    c = http.client.HTTPConnection('web.example', 80, timeout=20)
                    c.request('GET', path, headers=headers); r = c.getresponse()
                    return f'{r.status} {r.read().decode()}'
                show('usual', lambda: clear('/auth/x', Authorization='Bearer ' + key))
                show('basic', lambda: clear('/x', Authorization='Basic ' + base64.b64encode(b'me:' + key.encode()).decode()))
                show('query', lambda: clear('/x?k=' + key))
                show('without', lambda: clear('/x'))
                """, "--secret", "KEY@web.example/auth", "--allow", "web.example")
            for place in ["usual", "basic", "query"] {
                #expect(answers[place]?.hasPrefix("403 ") == true, "\(place): \(answers)")
                #expect(answers[place]?.contains("secret-misplaced") == true, "\(place): \(answers)")
            }
            #expect(answers["without"] == "200 web web.example /x")
            let events = try await f.aegis("events")
            #expect(
                events.out.contains(
                    "'web.example:80' is refused: a secret's placeholder stands in a request in clear text"),
                "\(events)")
        }
    }

    @Test(arguments: backends) func aNamedHeaderIsTheOnlyOneAndEveryAnswerIsMasked(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let answers = try await attempt(
                f,
                """
                import socket
                show('named', lambda: get('/auth/x', 'Token ' + key + ';v=1', name='x-key'))
                show('usual', lambda: get('/auth/x', 'Bearer ' + key))
                show('letters', lambda: get('/auth/letters', key, name='X-Key'))
                show('gzip', lambda: get('/auth/gzip', key, name='X-Key'))
                def raw():
                    with socket.create_connection(('web.example', 443), 20) as below:
                        with ssl.create_default_context().wrap_socket(below, server_hostname='web.example') as s:
                            s.sendall(f'GET /auth/letters HTTP/1.1\\r\\nHost: web.example\\r\\nX-Key: {key}\\r\\n'
                                      'TE: trailers\\r\\nConnection: close, TE\\r\\n\\r\\n'.encode())
                            data = b''
                            while part := s.recv(4096): data += part
                            return (b'real' in data or b'lue' in data, b'X-Last: True **************' in data)
                show('trailer', raw)
                """, "--isolation", backend, "--secret", "KEY@web.example/auth,header=X-Key")
            #expect(answers["named"] == "True Token **************;v=1", "\(answers)")
            #expect(answers["usual"]?.hasPrefix("403") == true, "\(answers)")
            #expect(answers["usual"]?.contains("secret-not-bound") == true, "\(answers)")
            #expect(answers["letters"] == "True **************", "\(answers)")
            #expect(answers["gzip"]?.hasPrefix("502") == true, "\(answers)")
            #expect(answers["gzip"]?.contains("response-encoded") == true, "\(answers)")
            #expect(answers["trailer"] == "(False, True)", "\(answers)")
        }
    }

    /// Servers end idle connections after seconds, and a `POST` cannot be asked again: it goes out over a new one.
    @Test func aPostGoesThroughAfterTheServerHasEndedItsIdleConnection() async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let answers = try await attempt(
                f,
                """
                c = http.client.HTTPSConnection('web.example', timeout=300)
                def post(data):
                    c.request('POST', '/auth/x', data, {'Authorization': 'Bearer ' + key})
                    r = c.getresponse()
                    return r.status, r.read(), c.sock is not None
                show('first', lambda: post(b'one'))
                show('ended', lambda: get('/ended'))
                show('second', lambda: post(b'two'))
                """, "--secret", "KEY@web.example/auth", "--allow", "web.example,inspect")
            #expect(answers["first"] == "(200, b'one', True)", "\(answers)")
            #expect(answers["ended"] == "web web.example /ended", "\(answers)")
            #expect(answers["second"] == "(200, b'two', True)", "\(answers)")
            let events = try await f.succeed("events", "--output", "json").out
            #expect(!events.contains("network-failed") && !events.contains("upstream-lost"), "\(events)")
        }
    }

    @Test(arguments: backends) func inspectionChecksEveryRequest(_ backend: String) async throws {
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
                    "run", "--name", "look", "--isolation", backend, "--env", "KEY=x", "--allow", "web.example,inspect",
                    "--", "python3", "-c",
                    Self.attempts + "\n" + lines,
                ])
            try #require(result.code == 0, "\(result)")
            let answers = NetworkTests.answers(result.out)
            #expect(answers["open"] == "web web.example /a", "\(answers)")
            #expect(
                answers["host"] == "b'HTTP/1.1 403 Forbidden'" && answers["same"] == "b'HTTP/1.1 200 OK'", "\(answers)")
            #expect(answers["pinned"]?.contains("CERTIFICATE_VERIFY_FAILED") == true, "\(answers)")
            let events = try await f.aegis("events", "--output", "json")
            #expect(
                events.out.contains("client-refused-certificate") && events.out.contains("host-mismatch"), "\(events)")
        }
    }

    @Test(arguments: backends) func aPlaceholderLastsForOneStart(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            try await f.succeed(
                "run", "-d", "--name", "keep", "--isolation", backend, "--secret", "KEY@web.example/auth", "--",
                "sleep", "1000")
            let ask = [
                "exec", "keep", "--", "python3", "-c",
                Self.attempts + "\nshow('x', lambda: get('/auth/y', 'Bearer ' + key))",
            ]
            let first = try await f.succeed("exec", "keep", "--", "sh", "-c", "echo $KEY").out
            #expect(try await f.succeed("exec", "keep", "--", "sh", "-c", "echo $KEY").out == first)
            #expect(try await f.run(DaemonFixture.cli, ask).out == "x True Bearer **************\n")
            let shown = try await f.succeed("instance", "info", "keep", "--output", "json").out
            #expect(shown.contains("KEY@web.example/auth") && shown.contains("web.example:443,inspect"))
            // Nowhere on a disk, and nowhere in what the runtime was told.
            let node = try await f.run("/bin/sh", ["-c", "cat '\(f.home)/node'"]).out.prefix(8)
            let found = try await f.run("/bin/grep", ["-rlaF", "real-value-123", f.home, "/run/aegis/\(node)"])
            #expect(found.out == "", "\(found)")
            try await f.succeed("instance", "restart", "keep")
            let second = try await f.succeed("exec", "keep", "--", "sh", "-c", "echo $KEY").out
            #expect(second != first && second.hasPrefix("AegisSecret"))
            #expect(try await f.run(DaemonFixture.cli, ask).out == "x True Bearer **************\n")
            // Without what was kept of its start nothing goes out uninspected.
            try await f.crash()
            try await f.run("/usr/bin/sqlite3", ["\(f.home)/aegis.db", "DELETE FROM instance_secrets"])
            try await f.up()
            let lost = try await f.run(
                DaemonFixture.cli,
                [
                    "exec", "keep", "--env", "KEY=x", "--", "python3", "-c",
                    Self.attempts
                        + "\nshow('x', lambda: get('/auth/y'))",
                ])
            #expect(lost.out.hasPrefix("x ") && !lost.out.contains("False"), "\(lost)")
            #expect(try await f.succeed("events", "--output", "json").out.contains("inspect-lost"))
        }
    }

    /// What a secret is bound to is all that is open, with its placeholder or without; a child cannot make more of it.
    @Test(arguments: backends) func methodsAndPathsHoldForEveryRequest(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let lines = """
                show('bound', lambda: get('/auth/x'))
                show('method', lambda: get('/auth/x', method='DELETE'))
                show('path', lambda: get('/users'))
                show('with', lambda: get('/users', 'Bearer ' + key))
                """
            let secret = ["--isolation", backend, "--secret", "KEY@web.example/auth,methods=GET"]
            let closed = try await f.run(
                DaemonFixture.cli,
                ["run", "--name", "narrow"] + secret + ["--", "python3", "-c", Self.attempts + "\n" + lines])
            var answers = NetworkTests.answers(closed.out)
            #expect(answers["bound"] == "False ", "\(closed)")
            for (name, words) in [("method", "DELETE /auth/x"), ("path", "GET /users"), ("with", "GET /users")] {
                let answer = answers[name] ?? "-"
                #expect(
                    answer.hasPrefix("403") && answer.contains("secret-not-bound") && answer.contains(words),
                    "\(name): \(answer)")
            }
            let events = try await f.succeed("events", "--output", "json").out
            #expect(events.contains("secret-not-bound") && events.contains("DELETE /auth/x"), "\(events)")
            // Who opened the host has all of it, but for the placeholder.
            let open = try await f.run(
                DaemonFixture.cli,
                ["run", "--allow", "web.example"] + secret + ["--", "python3", "-c", Self.attempts + "\n" + lines])
            answers = NetworkTests.answers(open.out)
            #expect(answers["path"] == "web web.example /users", "\(open)")
            #expect(answers["method"]?.hasPrefix("501") == true, "\(open)")
            #expect(answers["with"]?.contains("secret-not-bound") == true, "\(open)")
            let started = try await f.run(
                DaemonFixture.cli,
                ["run", "-d", "--name", "parent", "--grant", "spawn: *"] + secret + ["--", "sleep", "100000"])
            try #require(started.code == 0, "\(started)")
            let child = try await f.ask(
                "parent", "POST", "/v1/instances",
                #"{"command": ["true"], "network": {"allow": ["web.example:443,inspect"]}}"#)
            #expect(child.hasPrefix("403") && child.contains("too-wide"), "\(child)")
        }
    }

    /// A run goes on with its authority and its placeholders when the daemon dies under it.
    @Test(arguments: backends) func theAuthorityOutlivesTheDaemon(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            try await f.succeed(
                "run", "-d", "--name", "keep", "--isolation", backend, "--secret", "KEY@web.example/auth", "--",
                "python3", "-c",
                Self.attempts
                    + """

                    while True:
                        try: os.mkfifo('/tmp/go')
                        except FileExistsError: pass
                        with open('/tmp/go') as go: go.read()
                        show('x', lambda: get('/auth/y', 'Bearer ' + key))
                    """)
            /// Lets the command, the same process all the time, ask once more.
            func asks(_ times: Int) async throws {
                try await f.succeed(
                    "exec", "keep", "--", "sh", "-c", "until [ -p /tmp/go ]; do sleep 0.05; done; echo > /tmp/go")
                try await f.eventually("it has asked \(times) times") {
                    try await f.succeed("logs", "keep").out.split(separator: "\n").count { $0.hasPrefix("x ") } == times
                }
            }
            try await asks(1)
            let key = try await f.succeed("exec", "keep", "--", "sh", "-c", "echo $KEY").out
            try await f.crash()
            try await f.up()
            try await asks(2)
            let log = try await f.succeed("logs", "keep").out.split(separator: "\n").filter { $0.hasPrefix("x ") }
            #expect(log == ["x True Bearer **************", "x True Bearer **************"])
            #expect(try await f.succeed("exec", "keep", "--", "sh", "-c", "echo $KEY").out == key)
            let found = try await f.run("/bin/grep", ["-rlaF", "real-value-123", f.home])
            #expect(found.out == "", "\(found)")
            try await f.succeed("instance", "stop", "keep")
            let kept = try await f.run(
                "/usr/bin/sqlite3", ["\(f.home)/aegis.db", "SELECT count(*) FROM instance_secrets"])
            #expect(kept.out == "0\n", "\(kept)")
        }
    }

    @Test func mistakesAreSaidBeforeAnythingIsMade() async throws {
        try await DaemonFixture.with { f in
            try await f.aegis("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            for (secret, words) in [
                ("KEY@https://web.example/", "KEY@web.example"), ("KEY@127.0.0.1", "an address cannot be used"),
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
