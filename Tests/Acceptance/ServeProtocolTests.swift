import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Every protocol of exposed ports, into instances that sleep, with clients that others wrote.
@Suite struct ServeProtocolTests {
    @Test(arguments: backends) func webSocketsReachInstancesThatSleep(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "ws-\(backend)"
            try await f.succeed(
                words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", "90:ws"]
                    + ServePeers.mounts() + ["--", "python3", "/peers/ws_peer.py", "serve", "90"])
            let port = try await f.number(name, 90)
            #expect(try await f.peer("ws_peer", "check", port) == "ok\n")
            try await f.succeed("instance", "pause", name)
            #expect(try await f.peer("ws_peer", "check", port) == "ok\n")
            #expect(try await f.hasRun(name, 1))
            // An open one is a use of the instance for its whole life.
            let folder = try TemporaryDirectory()
            let open = try f.beginPeer("ws_peer", "wait", port, folder.path("open"))
            try await f.eventually("it is open") { Files.exists(folder.path("open")) }
            #expect(try await f.served(name).connections >= 1)
            try await f.refuse("instance", "pause", name, code: 5, error: "instance-held")
            try await f.succeed("instance", "stop", name)
            #expect(try await open.result().out == "broken 1006\n")
            #expect(try await f.peer("ws_peer", "check", port) == "ok\n")
            #expect(try await f.hasRun(name, 2))
            let plain = try await f.ask("http://127.0.0.1:\(port)/")
            #expect(plain.status == "426" && plain.body.contains("websocket-only"), "\(plain)")
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends)
    func aBrowserIsLedFromTheLoadingPageToTheRealOneWithoutScripts(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "browsed-\(backend)"
            let guest = try await f.guest(name, backend, ["80:http,ui"])
            try await f.eventually("it has begun") { try await f.runs(name) == 1 }
            try await f.succeed("instance", "stop", name)
            // It does not listen before the browser has seen the page that says so.
            #expect(try await f.peer("browser_peer", try await f.url(name) + "/", guest.permission) == "ok\n")
            #expect(try await f.hasRun(name, 2))
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func callsReachInstancesThatSleep(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "grpc-\(backend)"
            try await f.succeed(
                words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", "50:grpc"]
                    + ServePeers.mounts() + ["--", "python3", "/peers/grpc_peer.py", "serve", "50"])
            let port = try await f.number(name, 50)
            #expect(try await f.peer("grpc_peer", "check", port, "calls", "metadata") == "ok\n")
            try await f.succeed("instance", "pause", "--force", name)
            #expect(try await f.peer("grpc_peer", "check", port, "calls", "many") == "ok\n")
            #expect(try await f.hasRun(name, 1))
            try await f.succeed("instance", "stop", name)
            #expect(try await f.peer("grpc_peer", "check", port, "calls") == "ok\n")
            #expect(try await f.hasRun(name, 2))
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends) func bytesGoBothWaysAndEachSideMayEndFirst(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "bytes-\(backend)"
            let guest = try await f.guest(name, backend, ["7:tcp", "8:tcp"])
            try guest.go()
            let (first, second) = (try await f.number(name, 7), try await f.number(name, 8))
            for verb in ["pause", "stop"] {
                #expect(try await f.peer("bytes_peer", "first", first) == "ok\n")
                #expect(try await f.peer("bytes_peer", "second", second) == "ok\n")
                try await f.eventually("all of it was heard") {
                    try await f.succeed("logs", name).out.contains("heard 1048576\n")
                }
                try await f.eventually("nobody holds it") { try await f.aegis("instance", verb, name).code == 0 }
                #expect(try await f.peer("bytes_peer", "second", second) == "ok\n")
            }
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func eachPortWakesByItsOwnRule(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "rules-\(backend)"
            let specs = [
                "80:http", "81:http,wake=never", "82:http,wake=http", "83:http,cooldown=1h", "84:http,ready=/health",
            ]
            let guest = try await f.guest(name, backend, specs)
            try guest.go()
            let ports = try await f.served(name).expose.map(\.number)
            func url(_ guest: Int) -> String { "http://127.0.0.1:\(ports[guest - 80])/" }
            func sleep() async throws { try await f.succeed("instance", "pause", "--force", name) }
            #expect(try await f.get(url(81)) == "hello\n")
            try await sleep()
            #expect(try await f.refused(url(81)) == "503 instance-asleep")
            // Who only connects to a port that wants requests wakes nobody, and is served once it has asked.
            let silent = try await Connect.tcp(host: "127.0.0.1", port: UInt16(ports[2]), on: f.loop)
            #expect(try await f.refused(url(81)) == "503 instance-asleep")
            #expect(try await f.record(name).state == "paused")
            try await silent.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            #expect(String(decoding: try await silent.readAll(limit: 4096), as: UTF8.self).hasSuffix("hello\n"))
            #expect(try await f.record(name).state == "running")
            // Where a connection is enough, it is.
            try await sleep()
            let caller = try await Connect.tcp(host: "127.0.0.1", port: UInt16(ports[0]), on: f.loop)
            try await f.eventually("it is awake") { try await f.record(name).state == "running" }
            caller.close()
            // Once in an hour.
            try await sleep()
            #expect(try await f.get(url(83)) == "hello\n")
            try await f.eventually("it is not used") { try await f.served(name).connections == 0 }
            try await sleep()
            #expect(try await f.refused(url(83)) == "503 instance-cooling")
            #expect(try await f.record(name).state == "paused")
            // A server that listens and says that it is not ready gets no request before it is.
            try await f.succeed("instance", "stop", name)
            #expect(try await f.get(url(84) + "ready") == "ready\n")
            #expect(try await f.hasRun(name, 2))
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func aBrowserSeesAPageThatBecomesTheRealOne(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "page-\(backend)"
            let guest = try await f.guest(name, backend, ["80:http,ui"])
            let url = try await f.url(name) + "/"
            let browser = ["-H", "Accept: text/html,application/xhtml+xml,*/*;q=0.8"]
            func look() async throws -> CommandResult {
                try await f.run("/usr/bin/curl", ["-sS", "-i", "--max-time", "60"] + browser + [url])
            }
            // The server inside does not listen yet: the page comes at once, again and again, and asks for nothing else.
            for _ in 0..<3 {
                let page = try await look().out
                #expect(page.hasPrefix("HTTP/1.1 503 ") && page.contains("\r\nRetry-After: 1\r\n"), "\(page)")
                #expect(page.contains(#"<meta http-equiv="refresh" content="1">"#) && page.contains(name), "\(page)")
                #expect(!page.contains("<script") && !page.contains("src=") && !page.contains("href="), "\(page)")
            }
            // A program at the same port waits for its answer instead.
            let program = try f.begin(program: "/usr/bin/curl", ["-sS", "--max-time", "60", url])
            try guest.go()
            try await f.eventually("the page is the real one") {
                try await look().out.hasSuffix("\r\n\r\nhello\n")
            }
            #expect(try await program.result().out == "hello\n")
            try await f.succeed("instance", "stop", name)
            try guest.halt()
            #expect(try await look().out.contains("HTTP/1.1 503 "))
            try guest.go()
            try await f.eventually("the page is the real one") { try await look().out.hasSuffix("\r\n\r\nhello\n") }
            #expect(try await f.hasRun(name, 2))
            try await guest.delete()
        }
    }
}
