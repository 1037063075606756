import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Networks of instances against a daemon in a world of its own (needs root and a kernel with nf_tables).
@Suite(.serialized) struct NetworkTests {
    /// Tries things inside and prints what came of them, one line for each.
    static let attempts = """
        import http.client, socket, ssl, sys
        def show(name, body):
            try: print(name, body(), flush=True)
            except Exception as error: print(name, type(error).__name__, getattr(error, 'errno', None), flush=True)
        def web(host, named=None, port=80):
            c = http.client.HTTPConnection(host, port, timeout=60)
            c.request('GET', '/a?b', headers={'Host': named or host})
            r = c.getresponse(); return (r.status, r.read().decode()[:60])
        def tls(host, named):
            context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
            with socket.create_connection((host, 443), 60) as raw, context.wrap_socket(raw, server_hostname=named) as s:
                s.sendall(b'GET /t HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')
                data = b''
                while part := s.recv(4096): data += part
                return data.split(b'\\r\\n\\r\\n')[1]
        def echo(host):
            sent = bytes(range(256)) * 8192
            with socket.create_connection((host, 7), 60) as s:
                import threading
                def send(): s.sendall(sent); s.shutdown(socket.SHUT_WR)
                t = threading.Thread(target=send); t.start()
                data = b''
                while part := s.recv(65536): data += part
                t.join(); return data == sent
        def literal(address, port):
            with socket.create_connection((address, port), 60) as s:
                s.sendall(b'GET / HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n'); return s.recv(20)
        def twice(host, second):
            c = http.client.HTTPConnection(host, 80, timeout=60)
            c.request('GET', '/1'); one = c.getresponse(); one.read()
            c.request('GET', '/2', headers={'Host': second}); two = c.getresponse(); two.read()
            return (one.status, two.status)
        def datagram(address):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)
            s.sendto(b'x', (address, 123)); return s.recv(10)
        def question(server, name, tcp=False):
            q = b'\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0' + b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\\0\\0\\1\\0\\1'
            s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM); s.settimeout(60)
            s.connect((server, 53)); s.send((len(q).to_bytes(2, 'big') if tcp else b'') + q); r = s.recv(500)[2 if tcp else 0:]
            return (r[3] & 15, '.'.join(map(str, r[-4:])) if r[7] else None)
        """

    /// What an instance says that ran some attempts.
    private func attempt(_ f: DaemonFixture, _ lines: String, _ arguments: String...) async throws -> [String: String] {
        let result = try await f.run(
            DaemonFixture.cli,
            ["run"] + arguments + ["--", "python3", "-c", Self.attempts + "\n" + lines])
        try #require(result.code == 0, "\(result)")
        return Self.answers(result.out)
    }

    static func answers(_ text: String) -> [String: String] {
        var answers: [String: String] = [:]
        for line in text.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
            answers[parts[0]] = parts.count == 2 ? parts[1] : ""
        }
        return answers
    }

    @Test(arguments: backends) func whatIsAllowedIsReachedAndNothingElse(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let name = "net-\(backend)"
            let answers = try await attempt(
                f,
                """
                show('address', lambda: socket.gethostbyname('web.example'))
                show('web', lambda: web('web.example'))
                show('tls', lambda: tls('web.example', 'web.example'))
                show('echo', lambda: echo('web.example'))
                show('wild', lambda: web('sub.wild.example'))
                show('wild-apex', lambda: web('wild.example'))
                show('other', lambda: web('other.example'))
                show('six', lambda: socket.getaddrinfo('web.example', 80, socket.AF_INET6))
                show('any-server', lambda: question('9.9.9.9', 'web.example'))
                show('dns-tcp', lambda: question('198.18.0.1', 'web.example', True))
                show('denied-name', lambda: question('198.18.0.1', 'secret-data.evil.example'))
                show('sni', lambda: tls('web.example', 'other.example'))
                show('no-sni', lambda: tls('web.example', None))
                show('no-tls', lambda: literal('web.example', 443))
                show('host', lambda: web('web.example', 'other.example')[0])
                show('second-host', lambda: twice('web.example', 'other.example'))
                show('port', lambda: literal('only443.example', 80))
                show('public', lambda: literal('93.184.216.34', 80))
                show('metadata', lambda: literal('169.254.169.254', 80))
                show('gateway', lambda: literal('198.18.0.1', 15001))
                show('daemon', lambda: literal('93.184.216.1', 80))
                show('no-name', lambda: literal('198.18.222.1', 80))
                show('udp', lambda: datagram('93.184.216.34'))
                show('loop', lambda: web('loop.example')[0])
                show('meta', lambda: web('meta.example')[0])
                show('private', lambda: web('private.example')[0])
                show('self', lambda: web('self.example')[0])
                show('loopback-six', lambda: socket.socket(socket.AF_INET6).bind(('::1', 0)))
                """, "--name", name, "--isolation", backend, "--allow", "web.example", "--allow", "*.wild.example",
                "--allow", "only443.example:443", "--allow", "loop.example", "--allow", "meta.example", "--allow",
                "private.example", "--allow", "self.example")
            #expect(answers["address"] == "198.18.1.0")
            #expect(answers["web"] == "(200, 'web web.example /a?b')")
            #expect(answers["tls"] == "b'web x /t'")
            #expect(answers["echo"] == "True")
            #expect(answers["wild"]?.hasPrefix("(200") == true)
            for name in ["wild-apex", "other", "six"] {
                #expect(answers[name]?.hasPrefix("gaierror") == true, "\(name): \(answers[name] ?? "-")")
            }
            for name in ["any-server", "dns-tcp"] { #expect(answers[name] == "(0, '198.18.1.0')") }
            #expect(answers["denied-name"] == "(3, None)")
            for name in ["sni", "no-sni", "no-tls", "port", "public", "metadata", "gateway", "daemon", "no-name"] {
                #expect(answers[name]?.hasPrefix("ConnectionResetError") == true, "\(name): \(answers[name] ?? "-")")
            }
            #expect(answers["host"] == "403")
            #expect(answers["second-host"] == "(200, 403)")
            #expect(answers["udp"]?.hasPrefix("TimeoutError") == true)
            for name in ["loop", "meta", "private", "self"] { #expect(answers[name] == "403", "\(name)") }
            #expect(answers["loopback-six"] == "None")
        }
    }

    @Test(arguments: backends) func denialsAreInTheLogAndCounted(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "noted", "--isolation", backend, "--allow", "web.example", "--allow",
                "none.invalid", "--",
                "sleep", "1000")
            let attempts = """
                show('a', lambda: web('evil.example'))
                show('b', lambda: tls('web.example', 'evil.example'))
                show('c', lambda: literal('93.184.216.34', 22))
                show('d', lambda: datagram('93.184.216.34'))
                show('e', lambda: web('none.invalid'))
                """
            try await f.succeed("exec", "noted", "--", "python3", "-c", Self.attempts + "\n" + attempts)
            let failed = try await f.shell("$AEGIS events --instance noted | grep -o 'network-failed.*'")
            #expect(
                failed.out.hasPrefix("network-failed  noted  none.invalid has no address: ")
                    && failed.out.hasSuffix("  (name-not-found)\n"), "\(failed)")
            let log = try await f.succeed("logs", "noted")
            let text = log.out + log.err
            for word in ["evil.example", "(name-denied)", "(sni-mismatch)", "93.184.216.34:22", "(capability-denied)"] {
                #expect(text.contains(word), "\(word) is not in: \(text)")
            }
            let info = try await f.succeed("instance", "info", "noted", "--output", "json")
            #expect(info.out.replacing(" ", with: "").contains("\"network\":\"listed\""), "\(info.out)")
        }
    }

    @Test(arguments: backends) func aNetworkIsClosedUnlessItIsOpened(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let attempts = """
                show('web', lambda: web('web.example'))
                show('public', lambda: literal('93.184.216.34', 80))
                """
            let closed = try await attempt(f, attempts, "--isolation", backend)
            #expect(closed["web"]?.hasPrefix("gaierror") == true, "\(closed)")
            #expect(closed["public"]?.hasPrefix("OSError 101") == true, "\(closed)")
            let more = """
                \(attempts)
                show('private', lambda: literal('10.9.9.9', 80))
                """
            let open = try await attempt(f, more, "--isolation", backend, "--network", "allow")
            #expect(
                open["web"]?.hasPrefix("(200") == true && open["public"] == "b'HTTP/1.1 200 OK\\r\\nSer'", "\(open)")
            #expect(open["private"]?.hasPrefix("ConnectionResetError") == true)
            let block = try await attempt(f, more, "--isolation", backend, "--allow", "10.9.9.0/24:80")
            #expect(block["private"] == "b'HTTP/1.1 200 OK\\r\\nSer'", "\(block)")
            #expect(block["public"]?.hasPrefix("ConnectionResetError") == true)
        }
    }

    /// A daemon that is killed and started again serves the networks of what still runs.
    @Test(arguments: backends) func networksOutliveTheDaemon(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "kept", "--isolation", backend, "--allow", "*.example", "--", "sleep", "1000")
            let first = try await f.succeed(
                "exec", "kept", "--", "python3", "-c",
                "import socket; print([socket.gethostbyname(n) for n in ('other.example', 'web.example')])")
            #expect(first.out == "['198.18.1.0', '198.18.1.1']\n")
            try await f.crash()
            try await f.up()
            let answers = Self.answers(
                try await f.succeed(
                    "exec", "kept", "--", "python3", "-c",
                    Self.attempts
                        + "\nshow('web', lambda: web('198.18.1.1', 'web.example'))\nshow('other', lambda: web('other.test'))"
                ).out)
            #expect(answers["web"]?.hasPrefix("(200") == true, "\(answers)")
            #expect(answers["other"]?.hasPrefix("gaierror") == true, "\(answers)")
            let second = try await attempt(
                f, "show('web', lambda: web('web.example'))", "--isolation", backend, "--allow", "web.example")
            #expect(second["web"]?.hasPrefix("(200") == true, "\(second)")
        }
    }

    /// However many change it at once: what can be reached in the end is what the record says.
    @Test(arguments: backends) func changesAtOnceComeOneAfterTheOther(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let names = ["web.example", "other.example", "api.example.com", "api.github.com"]
            try await f.succeed(
                "run", "-d", "--name", "torn", "--isolation", backend, "--group", "left", "--", "sleep", "100000")
            let changes = try (0..<12).map { number in
                try f.begin(
                    "instance", "network", "torn", "--allow", names[number % 4], "--group",
                    number % 3 == 0 ? "left" : "right")
            }
            for change in changes {
                let result = try await change.result()
                #expect(result.code == 0, "\(result)")
            }
            struct Shown: Decodable { var allow: [String] }
            let record = try await f.succeed("instance", "info", "torn", "--output", "json")
            let allowed = try JSONDecoder().decode(Shown.self, from: Data(record.stdout)).allow
            #expect(allowed.count == 1, "\(allowed)")
            let lines = names.map { "show('\($0)', lambda: socket.gethostbyname('\($0)'))" }.joined(separator: "\n")
            let result = try await f.succeed("exec", "torn", "--", "python3", "-c", Self.attempts + "\n" + lines)
            let answers = Self.answers(result.out)
            for name in names {
                #expect(answers[name]?.hasPrefix("198.18.") == allowed.contains(name), "\(name): \(result), \(allowed)")
            }
        }
    }

    /// Nor does it matter when a client goes away: what can be reached is what the record says.
    @Test(arguments: backends) func aChangeWhoseClientIsKilledIsWhole(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            struct Shown: Decodable { var allow: [String] }
            let names = ["web.example", "other.example", "api.example.com", "api.github.com"]
            try await f.succeed(
                "run", "-d", "--name", "torn", "--isolation", backend, "--group", "left", "--allow", names[0], "--",
                "sleep", "100000")
            let lines = names.map { "show('\($0)', lambda: socket.gethostbyname('\($0)'))" }.joined(separator: "\n")
            for number in 1..<12 {
                let change = try f.begin(
                    "instance", "network", "torn", "--allow", names[number % 4], "--group",
                    number % 3 == 0 ? "left" : "right")
                try await Task.sleep(for: .milliseconds(10 + number * 8))
                _ = change.child.signal(9)
                _ = try await change.result()
                // Its turn comes after the other's, and it changes nothing.
                let barrier = try await f.aegis("instance", "network", "torn", "--allow", "\(names[0]),inspect")
                #expect(barrier.code == 5 && barrier.err.contains("inspect-needs-start"), "\(barrier)")
                let record = try await f.succeed("instance", "info", "torn", "--output", "json")
                let allowed = try JSONDecoder().decode(Shown.self, from: Data(record.stdout)).allow
                let result = try await f.succeed("exec", "torn", "--", "python3", "-c", Self.attempts + "\n" + lines)
                let answers = Self.answers(result.out)
                for name in names {
                    #expect(
                        answers[name]?.hasPrefix("198.18.") == allowed.contains(name), "\(name): \(result), \(allowed)")
                }
            }
        }
    }

    /// Whether the record of an instance has a place in the networks.
    private func hasPlace(_ f: DaemonFixture, _ name: String) async throws -> Bool {
        let query = "SELECT count(*) FROM instances WHERE name = '\(name)' AND CAST(record AS TEXT) LIKE '%\"place\"%'"
        return try await f.run("/usr/bin/sqlite3", ["\(f.home)/aegis.db", query]).out == "1\n"
    }

    /// A start that is cut off, wherever that is, leaves no link, no port and no place.
    @Test(arguments: backends) func aStartThatIsCutOffLeavesNothing(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            for _ in 0..<4 {
                let start = try f.begin(
                    "instance", "start", "--name", "cut", "--isolation", backend, "--group", "shop", "--allow",
                    "web.example", "--", "sleep", "100000")
                // It is being linked, or proved.
                try await f.eventually("it has a place") { try await hasPlace(f, "cut") }
                try await f.succeed("instance", "delete", "cut")
                _ = try await start.result()
            }
            let links = try await f.run(
                f.launcher[0],
                f.launcher.dropFirst() + [
                    "/usr/bin/nsenter", "--net=/run/aegis/\(try f.node)/net", "/usr/sbin/ip", "-o", "link",
                ])
            #expect(links.code == 0 && !links.out.contains(": ag"), "\(links)")
            let log = try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8)
            #expect(!log.contains("cannot be removed"), "\(log)")
            // The first place is free again, and so is the first address of the group.
            let answers = try await attempt(
                f, "show('own', lambda: socket.gethostbyname('next.shop.internal'))", "--name", "next", "--isolation",
                backend,
                "--group", "shop")
            #expect(answers["own"] == "198.19.0.1", "\(answers)")
        }
    }

    /// A start that a daemon which died had linked already is made up for at the same place, not at a further one.
    @Test(arguments: backends) func aStartThatWasLostMidwayLosesNoPlace(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            // The namespace is there then, and its first place is free again.
            try await f.succeed(
                "instance", "start", "--name", "first", "--isolation", backend, "--group", "shop", "--", "sleep", "9")
            try await f.succeed("instance", "delete", "first")
            try await f.succeed("secret", "set", "KEY", "-", input: Array("real-value-123".utf8))
            let start = try f.begin(
                "instance", "start", "--name", "lost", "--isolation", backend, "--group", "shop", "--secret",
                "KEY@web.example", "--", "sh", "-c", "echo \"key ${KEY:+is there}\"; exec sleep 100000")
            try await f.eventually("it has a place") { try await hasPlace(f, "lost") }
            try await f.crash()
            _ = try await start.result()
            try await f.up()
            try await f.eventually("it runs") {
                let state = try await f.record("lost").state
                let failure = state == "stopped" ? try await f.succeed("instance", "info", "lost").out : ""
                try #require(failure.isEmpty)
                return state == "running"
            }
            let lines = """
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('198.18.0.1', 53))
                show('own', lambda: s.getsockname()[0])
                """
            let result = try await f.succeed("exec", "lost", "--", "python3", "-c", Self.attempts + "\n" + lines)
            #expect(Self.answers(result.out)["own"] == "198.18.128.1", "\(result)")
            // The command that is made up for finds what its start had prepared.
            try await f.eventually("it speaks") { try await f.succeed("logs", "lost").out.contains("key") }
            #expect(try await f.succeed("logs", "lost").out.hasPrefix("key is there\n"))
        }
    }

    @Test func whatCannotBeIsRefused() async throws {
        try await DaemonFixture.shared { f in
            try await f.refuse("run", "--allow", "localhost", "--", "true", code: 2, error: "invalid-capability")
            try await f.refuse(
                "run", "--allow", "a.example,tools=x", "--", "true", code: 2, error: "network-unsupported")
        }
    }
}
