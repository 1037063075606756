import AegisTestSupport
import Foundation
import Testing

extension DaemonFixture {
    /// Prints the status and the body of an answer, or the reason why there is none.
    static let ask = """
        import json, os, sys, urllib.request, urllib.error
        method, path, body = sys.argv[1], sys.argv[2], sys.argv[3] or None
        headers = dict(pair.split("=", 1) for pair in sys.argv[4:])
        url = path if path.startswith("http") else os.environ["AEGIS_GUEST_API"] + path
        request = urllib.request.Request(url, body and body.encode(), headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try: answer = opener.open(request, timeout=20)
        except urllib.error.HTTPError as error: answer = error
        except OSError as error: print("unreachable:", error); sys.exit(0)
        print(answer.status, answer.read().decode())
        """

    func ask(
        _ name: String, _ method: String, _ path: String, _ body: String = "", _ headers: String...
    ) async throws -> String {
        let result = try await run(
            Self.cli,
            ["exec", name, "--", "python3", "-c", DaemonFixture.ask, method, path, body] + headers)
        #expect(result.code == 0, "\(result)")
        return result.out
    }
}

/// What programs inside an instance get from Aegis, asked with a client of the image.
@Suite struct GuestAPITests {
    @Test(arguments: backends) func anInstanceSeesItselfAndStaysAwakeAsLongAsItAsks(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let name = "own-\(backend)"
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--idle-pause", "1s", "--idle-stop", "1h",
                "--workspace", "ws-\(backend)", "--label", "hidden=1", "--", "sleep", "100000")
            let own = try await f.ask(name, "GET", "/v1/self")
            #expect(own.hasPrefix("200 ") && own.contains("\"name\":\"\(name)\""), "\(own)")
            for word in ["owner", "ws-\(backend)", "hidden", f.home] { #expect(!own.contains(word), "\(word): \(own)") }
            // A program that works on in silence says so.
            let kept = try await f.ask(name, "POST", "/v1/self/keepalive", "{\"ttl\": \"1h\"}")
            #expect(kept.hasPrefix("200 ") && kept.contains("expires_at"), "\(kept)")
            let refused = try await f.aegis("instance", "pause", name)
            #expect(refused.code == 5 && refused.err.contains("lease"), "\(refused)")
            // The door is the sandbox's: it is there again when another daemon has taken the sandbox over. So is the lease.
            try await f.crash()
            try await f.up()
            let still = try await f.aegis("instance", "pause", name)
            #expect(still.code == 5 && still.err.contains("lease"), "\(still)")
            let short = try await f.ask(name, "POST", "/v1/self/keepalive", "{\"ttl\": \"1s\"}")
            #expect(short.hasPrefix("200 "), "\(short)")
            try await f.eventually("its time is over") { try await f.record(name).state == "paused" }
            _ = try await f.ask(name, "POST", "/v1/self/keepalive", "{\"ttl\": \"1h\"}")
            let ended = try await f.ask(name, "DELETE", "/v1/self/keepalive")
            #expect(ended.hasPrefix("200 "), "\(ended)")
            try await f.eventually("it is paused") { try await f.record(name).state == "paused" }
        }
    }

    @Test(arguments: backends) func thereAreNoOtherRoutesAndNoOtherWaysIn(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "closed-door-\(backend)"
            try await f.succeed("instance", "start", "--name", name, "--isolation", backend, "--", "sleep", "100000")
            for (path, code) in [("/v1/workspaces", "404"), ("/v1/secrets", "404"), ("/v1/status", "404")] {
                let answer = try await f.ask(name, "GET", path)
                #expect(answer.hasPrefix(code), "\(path): \(answer)")
            }
            let page = try await f.ask(name, "GET", "/v1/self", "", "Origin=http://evil.example")
            #expect(page.hasPrefix("403") && page.contains("origin-refused"), "\(page)")
            let rebound = try await f.ask(name, "GET", "/v1/self", "", "Host=evil.example")
            #expect(rebound.hasPrefix("403") && rebound.contains("host-refused"), "\(rebound)")
            let wrong = try await f.ask(name, "POST", "/v1/self/keepalive", "{\"ttl\": \"soon\"}")
            #expect(wrong.hasPrefix("400"), "\(wrong)")
            // The port cannot be handed out: whoever came through it would be taken for the instance.
            let exposed = try await f.aegis("instance", "expose", name, "7777")
            #expect(exposed.code == 2 && exposed.err.contains("guest API"), "\(exposed)")
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends) func itMovesAndItCanBeOff(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let script = "import os; print(os.environ.get('AEGIS_GUEST_API'))"
            func run(_ options: String...) async throws -> CommandResult {
                try await f.run(
                    DaemonFixture.cli, ["run", "--isolation", backend] + options + ["--", "python3", "-c", script])
            }
            #expect(try await run().out == "http://127.0.0.1:7777\n")
            #expect(try await run("--guest-api", "9000").out == "http://127.0.0.1:9000\n")
            #expect(try await run("--guest-api", "off").out == "None\n")
            // A server of the user's own has the port before us.
            #expect(try await run("--expose", "7777").out == "None\n")
            for (value, word) in [("70000", "70000"), ("no", "off")] {
                let wrong = try await run("--guest-api", value)
                #expect(wrong.code == 2 && wrong.err.contains(word), "\(wrong)")
            }
            let both = try await run("--guest-api", "80", "--expose", "80")
            #expect(both.code == 2 && both.err.contains("guest API"), "\(both)")
            let off = try await f.succeed(
                "run", "--isolation", backend, "--guest-api", "off", "--", "python3", "-c", DaemonFixture.ask, "GET",
                "http://127.0.0.1:7777/v1/self", "")
            #expect(off.out.hasPrefix("unreachable"), "\(off)")
        }
    }
}
