import AegisTestSupport
import Testing

/// What becomes of connections when the network of an instance changes under them.
extension NetworkTests {
    /// A change counts at once: for names, for new connections, and for those that are open.
    @Test(arguments: backends) func changesCountAtOnce(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "live", "--isolation", backend, "--", "sh", "-c",
                "mkfifo /tmp/go; cat /tmp/go; sleep 1000")
            func inside(_ lines: String) async throws -> [String: String] {
                Self.answers(
                    try await f.succeed("exec", "live", "--", "python3", "-c", Self.attempts + "\n" + lines).out)
            }
            let look = "show('web', lambda: web('web.example'))"
            #expect(try await inside(look)["web"]?.hasPrefix("gaierror") == true)
            try await f.succeed("instance", "network", "live", "--allow", "web.example")
            #expect(try await inside(look)["web"]?.hasPrefix("(200") == true)
            let held = try f.begin(
                "exec", "live", "--", "python3", "-c",
                Self.attempts
                    + """

                    s = socket.create_connection(('web.example', 7), 10); s.sendall(b'x'); open('/tmp/held', 'w').close()
                    show('held', lambda: s.recv(1))
                    """)
            try await f.eventually("a connection is open") {
                try await f.aegis("exec", "live", "--", "test", "-e", "/tmp/held").code == 0
            }
            try await f.succeed("instance", "network", "live")
            let result = try await held.result()
            #expect(result.out.hasPrefix("held ConnectionResetError"), "\(result)")
            #expect(try await inside(look)["web"]?.hasPrefix("gaierror") == true)
        }
    }

    /// What is open and still allowed, though by another word, goes on through every change.
    @Test(arguments: backends) func whatStaysAllowedStaysOpen(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "wide", "--isolation", backend, "--allow", "web.example", "--group", "shop",
                "--",
                "sleep", "1000")
            let held = try f.begin(
                "exec", "wide", "--", "python3", "-c",
                """
                import os, socket, time
                s = socket.create_connection(('web.example', 7), 10); s.settimeout(100)
                s.sendall(b'before '); open('/tmp/held', 'w').close()
                while not os.path.exists('/tmp/done'): time.sleep(0.05)
                s.sendall(b'after'); s.shutdown(socket.SHUT_WR)
                data = b''
                while part := s.recv(100): data += part
                print(data)
                """)
            try await f.eventually("a connection is open") {
                try await f.aegis("exec", "wide", "--", "test", "-e", "/tmp/held").code == 0
            }
            for change in [
                ["--allow", "web.example", "--allow", "other.example", "--group", "shop"],
                ["--allow", "*.example", "--group", "shop"], ["--network", "allow"],
                ["--allow", "web.example:7", "--group", "other"], ["--allow", "web.example:7"],
            ] {
                try await f.succeed(words: ["instance", "network", "wide"] + change)
            }
            try await f.succeed("exec", "wide", "--", "touch", "/tmp/done")
            let result = try await held.result()
            #expect(result.out == "b'before after'\n", "\(result)")
        }
    }
}
