import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Clients of every protocol at instances that may not be woken, or cannot be; and clients that are slow on purpose.
@Suite struct ServeWakeTests {
    @Test(arguments: backends.prefix(1)) func callsWakeByTheRulesOfTheirPorts(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "grpc-rules-\(backend)"
            let servers = "for p in 50 51 52; do python3 /peers/grpc_peer.py serve $p & done; wait"
            try await f.succeed(
                words: [
                    "instance", "start", "--name", name, "--isolation", backend, "--idle-pause", "0s", "--expose",
                    "50:grpc", "--expose", "51:grpc,wake=never", "--expose", "52:grpc,cooldown=1h",
                ] + ServePeers.mounts() + ["--", "sh", "-c", servers])
            var ports: [String] = []
            for guest in 50...52 { ports.append(try await f.number(name, guest)) }
            func served(_ port: String) async throws {
                #expect(try await f.peer("grpc_peer", "check", port, "calls") == "ok\n")
                try await f.eventually("it is not used") { try await f.served(name).connections == 0 }
            }
            // While it is awake each port is served; that is the one time in an hour for the one that cools down.
            for port in ports { try await served(port) }
            for (verb, state, runs) in [("pause", "paused", 3), ("stop", "stopped", 6)] {
                try await f.succeed("instance", verb, name)
                for (port, code) in [(ports[1], "instance-asleep"), (ports[2], "instance-cooling")] {
                    // Again and again: none of them changes anything.
                    for _ in 0..<2 {
                        let said = try await f.peer("grpc_peer", "check", port, "status")
                        #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(\(code);"), "\(said)")
                    }
                }
                #expect(try await f.record(name).state == state)
                for port in ports { try await served(port) }
                #expect(try await f.hasRun(name, runs))
            }
            try await f.succeed("instance", "delete", name)
        }
    }

    /// What a client sends that takes minutes to say what it wants.
    private enum Slowness: CaseIterable {
        case silent, greeting, settings, frame, headers

        private static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
        private static let noSettings: [UInt8] = [0, 0, 0, 4, 0, 0, 0, 0, 0]

        /// What it begins with.
        var head: [UInt8] {
            switch self {
            case .silent: []
            case .greeting: Array(Self.preface.prefix(2))
            case .settings: Self.preface + Self.noSettings.prefix(7)
            case .frame: Self.preface + [0, 0, 60, 4, 0, 0, 0, 0, 0]
            // A section of 16 KiB that begins with a name of some thousand letters.
            case .headers: Self.preface + Self.noSettings + [0, 0x40, 0, 1, 4, 0, 0, 0, 1, 0x40, 0x7f, 0x81, 0x3f]
            }
        }

        /// What follows, a byte at a time.
        var rest: [UInt8] {
            switch self {
            case .silent: []
            case .greeting: Array(Self.preface.dropFirst(2).dropLast())
            case .settings: [0]
            case .frame: [UInt8](repeating: 0, count: 59)
            case .headers: [UInt8](repeating: UInt8(ascii: "a"), count: 600)
            }
        }
    }

    /// Sends slowly until the other side ends the connection, which it has to within minutes.
    private static func trickle(_ kind: Slowness, to port: String, _ f: DaemonFixture) async throws {
        let client = try await Connect.tcp(host: "127.0.0.1", port: try #require(UInt16(port)), on: f.loop)
        defer { client.close() }
        try await withThrowingTaskGroup(of: Bool.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                for byte in [kind.head] + kind.rest.map({ [$0] }) where !byte.isEmpty {
                    do throws(IOError) { try await client.write(byte[...]) } catch { return false }
                    try await Task.sleep(for: .milliseconds(700))
                }
                return false
            }
            group.addTask {
                try await withDeadline(.seconds(180)) {
                    var bytes = ByteBuffer()
                    do {
                        while try await client.read(into: &bytes, atMost: 4096) > 0 { bytes.removeAll() }
                    } catch let error as IOError {
                        // A letter that crosses the end resets the connection, which is an end as well.
                        guard error.kind == .closed else { throw error }
                    }
                    return true
                }
            }
            while let isEnd = try await group.next(), !isEnd {}
        }
    }

    /// No connection is anybody's to keep by saying what it wants a letter at a time. (It takes the fifteen seconds that a
    /// beginning may take.)
    @Test(arguments: backends.prefix(1)) func slowBeginningsOfCallsEndAndWakeNobody(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "grpc-slow-\(backend)"
            try await f.succeed(
                words: [
                    "instance", "start", "--name", name, "--isolation", backend, "--expose", "50:grpc,wake=http-only",
                ] + ServePeers.mounts() + ["--", "python3", "/peers/grpc_peer.py", "serve", "50"])
            let port = try await f.number(name, 50)
            try await f.eventually("it has begun") { try await f.runs(name) == 1 }
            for isAsleep in [true, false] {
                if isAsleep { try await f.succeed("instance", "stop", name) }
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for kind in Slowness.allCases { group.addTask { try await Self.trickle(kind, to: port, f) } }
                    // Nobody else is held up by them.
                    if !isAsleep { #expect(try await f.peer("grpc_peer", "check", port, "calls") == "ok\n") }
                    try await group.waitForAll()
                }
                if isAsleep {
                    #expect(try await f.record(name).state == "stopped")
                    #expect(try await f.peer("grpc_peer", "check", port, "calls") == "ok\n")
                }
            }
            #expect(try await f.hasRun(name, 2))
            try await f.eventually("nothing is open") { try await f.served(name).connections == 0 }
            try await f.succeed("instance", "delete", name)
        }
    }

    /// A WebSocket whose server never comes, or whose instance cannot be started, is refused with the cause; a browser is shown
    /// it, on a page that does not load itself again.
    @Test(arguments: backends) func whoWaitsInVainIsToldWhyOnce(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve(
                "web", backend, "80:http,ui", "--expose", "90:ws,wait=3s", "--expose", "81:http,ui,wait=3s")
            let (url, socket) = (try await f.url("web"), try await f.number("web", 90))
            let deaf = "http://127.0.0.1:\(try await f.number("web", 81))/"
            #expect(try await f.get(url) == "hello\n")
            // The last page that a browser gets that does what pages say.
            func page(_ url: String) async throws -> String {
                var page = ""
                try await f.eventually("the page is the last one") {
                    page = try await f.run(
                        "/usr/bin/curl", ["-sS", "-i", "--max-time", "60", "-H", "Accept: text/html", url]
                    ).out
                    return !page.contains("http-equiv=\"refresh\"")
                }
                return page
            }
            for verb in ["pause", "stop"] {
                let said = try await f.peer("ws_peer", "status", socket)
                #expect(said.hasPrefix("504 ") && said.contains("port-not-ready"), "\(verb): \(said)")
                let shown = try await page(deaf)
                #expect(shown.hasPrefix("HTTP/1.1 504 ") && shown.contains("port-not-ready"), "\(verb): \(shown)")
                #expect(shown.contains("text/html") && !shown.lowercased().contains("\r\nretry-after"), "\(shown)")
                // What waits under a connection that has ended is given up in a moment; until then it would wake it anew.
                try await f.eventually("nobody uses it") { try await f.served("web").connections == 0 }
                try await f.succeed("instance", verb, "web")
            }
            let layers = "\(f.home)/images/layers"
            try FileManager.default.moveItem(atPath: layers, toPath: "\(layers).gone")
            let said = try await f.peer("ws_peer", "status", socket)
            #expect(said.hasPrefix("502 ") && said.contains("image"), "\(said)")
            for address in [url, deaf] {
                let shown = try await page(address)
                #expect(shown.hasPrefix("HTTP/1.1 502 ") && shown.contains("image"), "\(shown)")
            }
            #expect(try await f.record("web").state == "stopped")
            try FileManager.default.moveItem(atPath: "\(layers).gone", toPath: layers)
            try await f.eventually("it works again") { try await page(url).hasSuffix("\r\n\r\nhello\n") }
        }
    }

    /// By name, by header's name and by path, into an instance that sleeps.
    @Test(arguments: backends.prefix(1)) func webSocketsGoThroughTheMainRouter(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "chat-\(backend)"
            try await f.succeed(
                words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", "90:ws"]
                    + ServePeers.mounts() + ["--", "python3", "/peers/ws_peer.py", "serve", "90"])
            let port = try await f.router().port
            try await f.eventually("it has begun") { try await f.runs(name) == 1 }
            for (place, verb, runs) in [
                ("\(name).aegis.localhost/chat", "pause", 1), ("90-\(name).aegis.localhost/chat", "stop", 2),
                ("127.0.0.1/\(name)/chat", "stop", 3),
            ] {
                try await f.eventually("nobody holds it") { try await f.aegis("instance", verb, name).code == 0 }
                #expect(try await f.peer("ws_peer", "check", port, place) == "ok\n", "\(place)")
                #expect(try await f.hasRun(name, runs))
            }
            let plain: (status: String, body: String) = try await f.ask(
                "http://127.0.0.1:\(port)/", "-H", "X-Aegis-Instance: \(name)")
            #expect(plain.status == "426" && plain.body.contains("websocket-only"), "\(plain)")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// For as long as an archive goes in or out, however slowly: another one, of the same rules, sleeps thrice meanwhile.
    @Test(arguments: backends.prefix(1), [true, false])
    func aCopyHoldsItAwake(_ backend: String, _ isIn: Bool) async throws {
        try await DaemonFixture.shared { f in
            let name = "copied-\(isIn ? "in" : "out")-\(backend)"
            let rules = ["--isolation", backend, "--expose", "80", "--idle-pause", "200ms", "--idle-stop", "0s"]
            for one in [name, "\(name)-other"] {
                try await f.succeed(words: ["instance", "start", "--name", one] + rules + ["--", "sleep", "100000"])
            }
            let folder = try TemporaryDirectory()
            let (begun, go) = (folder.path("begun"), folder.path("go"))
            let wait = "until [ -e '\(go)' ]; do sleep 0.05; done"
            let script: String
            if isIn {
                script = """
                    cd '\(folder.path)'; head -c 100000 /dev/zero > file; tar cf archive file
                    (head -c 50000 archive; : > '\(begun)'; \(wait); tail -c +50001 archive) | $AEGIS cp - \(name):/var/lib
                    """
            } else {
                // More than pipes and sockets on the way hold.
                try await f.succeed(
                    "exec", name, "--", "sh", "-c", "head -c 100000000 /dev/zero > /var/lib/file")
                script = """
                    $AEGIS cp \(name):/var/lib/file - | (head -c 1 > /dev/null; : > '\(begun)'; \(wait); wc -c)
                    """
            }
            let copy = try f.begin(
                program: "/usr/bin/env", ["AEGIS=\(DaemonFixture.cli)", "/bin/sh", "-c", script])
            try await f.eventually("it has begun") { Files.exists(begun) }
            try await f.eventually("it is held") {
                let pause = try await f.aegis("instance", "pause", name)
                return pause.code == 5 && pause.err.contains("instance-held")
            }
            for _ in 0..<3 {
                try await f.eventually("the other sleeps") { try await f.record("\(name)-other").state == "paused" }
                try await f.succeed("exec", "\(name)-other", "--", "true")
            }
            #expect(try await f.record(name).state == "running")
            let refused = try await f.aegis("instance", "pause", name)
            #expect(refused.code == 5 && refused.err.contains("copy"), "\(refused)")
            try Files.writeAtomically(go, [], synced: false)
            let done = try await copy.result()
            #expect(done.code == 0, "\(done)")
            if isIn {
                let size = try await f.succeed("exec", name, "--", "stat", "-c", "%s", "/var/lib/file")
                #expect(size.out == "100000\n", "\(size)")
            } else {
                #expect((Int(done.out.filter { $0.isNumber }) ?? 0) > 100_000_000, "\(done)")
            }
            try await f.eventually("it sleeps") { try await f.record(name).state == "paused" }
            for one in [name, "\(name)-other"] { try await f.succeed("instance", "delete", one) }
        }
    }
}
