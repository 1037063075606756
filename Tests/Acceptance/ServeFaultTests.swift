import AegisCore
import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What becomes of connections when the server, the instance, the daemon or the host fails.
@Suite struct ServeFaultTests {
    @Test(arguments: backends) func aServerThatNeverListensIsTheAnswer(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "deaf-\(backend)"
            let guest = try await f.guest(name, backend, ["80:http", "7:tcp", "50:grpc"])
            let (http, bytes, calls) = (
                try await f.url(name), try await f.number(name, 7), try await f.number(name, 50)
            )
            // All at once: each takes the ten seconds that a running instance has.
            async let answer = f.ask(http)
            async let end = f.peer("bytes_peer", "wait", bytes)
            async let status = f.peer("grpc_peer", "check", calls, "status")
            async let hurried = f.peer("grpc_peer", "check", calls, "hurry")
            // Client and router look at the same deadline: whoever is first.
            let early = try await hurried
            #expect(["DEADLINE_EXCEEDED\nok\n", "UNAVAILABLE\nok\n"].contains(early), "\(early)")
            let (said, told) = try await (status, answer)
            #expect(told.status == "504" && told.body.contains("port-not-ready"), "\(told)")
            #expect(told.body.contains("port 80 of \(name)"), "\(told)")
            #expect(try await end == "reset\n")
            #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(port-not-ready"), "\(said)")
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func anAnswerThatBreaksOffIsNeverTakenForAWholeOne(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "breaks-\(backend)"
            let guest = try await f.guest(name, backend, ["80:http"])
            try guest.go()
            let url = try await f.url(name)
            for path in ["/reset", "/broken"] {
                let result = try await f.run("/usr/bin/curl", ["-sS", "--max-time", "60", url + path])
                // 18 = a part of it, 56 = the connection was reset.
                #expect(result.code == 18 || result.code == 56, "\(path): \(result)")
                #expect(try await f.get(url) == "hello\n")
            }
            // The command ends under a request: that one gets the cause, and the next one a new start.
            let lost = try await f.ask(url + "/die")
            #expect(lost.status == "502" && lost.body.contains("backend-lost"), "\(lost)")
            #expect(try await f.get(url) == "hello\n")
            #expect(try await f.hasRun(name, 2))
            try await guest.delete()
        }
    }

    /// The same for what has begun on a WebSocket, and in a call.
    @Test(arguments: backends) func aServerThatEndsUnderItsClientsIsStartedForTheNext(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "ends-\(backend)"
            for (program, spec) in [("ws_peer", "90:ws"), ("grpc_peer", "50:grpc")] {
                let guest = String(spec.prefix { $0.isNumber })
                try await f.succeed(
                    words: ["instance", "start", "--name", name, "--isolation", backend, "--expose", spec]
                        + ServePeers.mounts() + ["--", "python3", "/peers/\(program).py", "serve", guest])
                let port = try await f.number(name, try #require(Int(guest)))
                if program == "ws_peer" {
                    #expect(try await f.peer(program, "die", port) == "broken 1006\n")
                    #expect(try await f.peer(program, "check", port) == "ok\n")
                } else {
                    let said = try await f.peer(program, "check", port, "death")
                    #expect(said.hasPrefix("UNAVAILABLE ") && said.contains("(backend-lost)"), "\(said)")
                    #expect(try await f.peer(program, "check", port, "calls") == "ok\n")
                }
                #expect(try await f.hasRun(name, 2))
                try await f.succeed("instance", "delete", name)
            }
        }
    }

    /// It listens, and then dies, while the instance goes on: whoever comes next waits for it and is served by its successor.
    @Test(arguments: backends) func aServerThatDiesAndComesBackIsWaitedFor(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "again-\(backend)"
            let guest = try await f.guest(
                name, backend, ["80:http,wait=100s", "7:tcp,wait=100s"], "--env", "SUPERVISED=1")
            try guest.go()
            let (url, bytes) = (try await f.url(name), try await f.number(name, 7))
            #expect(try await f.get(url) == "hello\n")
            try guest.halt()
            let lost = try await f.ask(url + "/die")
            #expect(lost.status == "502" && lost.body.contains("backend-lost"), "\(lost)")
            async let page = f.ask(url)
            async let echo = f.peer("bytes_peer", "first", bytes)
            try await f.eventually("both wait") { try await f.served(name).connections == 2 }
            try guest.go()
            let (answer, said) = try await (page, echo)
            #expect(answer.status == "200" && answer.body == "hello\n", "\(answer)")
            #expect(said == "ok\n")
            #expect(try await f.hasRun(name, 1))
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func connectionsOfAKilledDaemonEndAndItsPortsComeBack(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let guest = try await f.guest(
                "web", backend, ["80:http", "7:tcp"], "--idle-pause", "1s", "--idle-stop", "0s")
            try guest.go()
            let (before, bytes) = (try await f.served("web").expose, try await f.number("web", 7))
            let url = try await f.url("web")
            let open = try f.beginPeer("bytes_peer", "wait", bytes)
            let answer = try f.begin(program: "/usr/bin/curl", ["-sS", "--max-time", "60", url + "/hang"])
            try await f.eventually("both are open") { try await f.served("web").connections == 2 }
            try await f.crash()
            let end = try await open.result().out
            #expect(end == "reset\n" || end == "end\n")
            // 52 = nothing came, 18 and 56 as above.
            #expect([18, 52, 56].contains(try await answer.result().code))
            try await f.up()
            #expect(try await f.served("web").expose.map(\.number) == before.map(\.number))
            #expect(try await f.get(url) == "hello\n")
            #expect(try await f.peer("bytes_peer", "first", bytes) == "ok\n")
            // Nobody counts what was open before.
            try await f.eventually("nothing is open") { try await f.served("web").connections == 0 }
            try await f.eventually("it sleeps") { try await f.record("web").state == "paused" }
            #expect(try await f.get(url) == "hello\n")
            #expect(try await f.hasRun("web", 1))
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func whoGivesUpWaitingHoldsItNoLonger(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "left-\(backend)"
            let guest = try await f.guest(
                name, backend, ["80:http", "7:tcp"], "--idle-pause", "100ms", "--idle-stop", "0s")
            let (http, bytes) = (try await f.url(name), try await f.number(name, 7))
            // Nobody listens, so both wait; they keep it awake, or wake it.
            let clients = [
                try f.begin(program: "/usr/bin/curl", ["-sS", "--max-time", "60", http]),
                try f.beginPeer("bytes_peer", "wait", bytes),
            ]
            try await f.eventually("both are held") { try await f.served(name).connections == 2 }
            for client in clients { _ = client.child.signal(9) }
            for client in clients { #expect(try await client.result().code == 137) }
            try await f.eventually("nobody is held") { try await f.served(name).connections == 0 }
            try await f.eventually("it sleeps") { try await f.record(name).state == "paused" }
            try guest.go()
            #expect(try await f.get(http) == "hello\n")
            try await guest.delete()
        }
    }

    @Test(arguments: backends) func everyWaiterIsToldOfAMissingImageAndOfAFullDisk(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await Self.onSmallDisk(f) {
                let guest = try await f.guest("web", backend, ["80:http", "50:grpc", "7:tcp"])
                try guest.go()
                let (url, calls) = (try await f.url("web"), try await f.number("web", 50))
                let bytes = try await f.number("web", 7)
                #expect(try await f.get(url) == "hello\n")
                let layers = "\(f.home)/images/layers"
                for cause in ["image", "disk-reserve", "disk-full"] {
                    try await f.succeed("instance", "stop", "web")
                    switch cause {
                    case "image": try FileManager.default.moveItem(atPath: layers, toPath: "\(layers).gone")
                    case "disk-reserve":
                        // Of 64 MiB 3.2 are kept.
                        let filled = try await f.shell(
                            "free=$(df --output=avail -k '\(f.home)' | tail -n 1);"
                                + " head -c $((free - 2048))K /dev/zero > '\(f.home)/filler'")
                        #expect(filled.code == 0, "\(filled)")
                        let start = try await f.aegis("instance", "start", "web")
                        #expect(start.code == 1 && start.err.contains("(disk-reserve)"), "\(start)")
                    default:
                        _ = try await f.run("/bin/dd", ["if=/dev/zero", "of=\(f.home)/filler", "bs=1M"])
                    }
                    // Of a full disk none of those who are told is told more than that.
                    let (status, code) = cause == "image" ? ("502", cause) : ("503", "disk-reserve")
                    let answers = try await withThrowingTaskGroup(of: (status: String, body: String).self) { group in
                        for _ in 0..<10 { group.addTask { try await f.ask(url) } }
                        return try await group.reduce(into: []) { $0.append($1) }
                    }
                    #expect(answers.allSatisfy { $0.status == status && $0.body.contains(code) }, "\(answers)")
                    #expect(try await f.peer("bytes_peer", "wait", bytes) == "reset\n")
                    let said = try await f.peer("grpc_peer", "check", calls, "status")
                    #expect(said.hasPrefix("UNAVAILABLE ") && said.contains(code), "\(said)")
                    if cause == "image" {
                        try FileManager.default.moveItem(atPath: "\(layers).gone", toPath: layers)
                    } else {
                        try Files.removeFile("\(f.home)/filler")
                    }
                    try await f.eventually("it works again") { try await f.ask(url).status == "200" }
                }
                try await guest.delete()
            }
        }
    }

    /// There was room when the start began, and is none for the next thing that it writes: of the host's own, or of the instance.
    @Test(arguments: backends) func everyWaiterIsToldOfADiskThatFillsDuringTheStart(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            for place in ["/run/aegis/\(try f.node)", f.home] {
                try await Self.onFewFiles(f, place) {
                    try await f.serve("web", backend, "80:http", "--expose", "81:tcp")
                    let (url, bytes) = (try await f.url("web"), try await f.number("web", 81))
                    #expect(try await f.get(url) == "hello\n")
                    #expect(try !Self.traces(f).isEmpty)
                    try await f.succeed("instance", "stop", "web")
                    // A start needs 3, and 13 at least.
                    for left in place == f.home ? [0, 1] : [0, 5, 10] {
                        try await f.eventually("nothing is left") { try Self.traces(f).isEmpty }
                        try await f.eventually("there is no room") {
                            try await Self.fill(f, place, but: left)
                            let start = try await f.aegis("instance", "start", "web")
                            if start.code == 0 {
                                try await f.succeed("instance", "stop", "web")
                                try await f.eventually("nothing is left") { try Self.traces(f).isEmpty }
                            }
                            return start.code == 1 && start.err.contains("(disk-full)")
                        }
                        async let end = f.peer("bytes_peer", "wait", bytes)
                        async let second = f.ask(url)
                        for answer in [try await f.ask(url), try await second] {
                            #expect(answer.status == "503" && answer.body.contains(#""disk-full""#), "\(answer)")
                        }
                        #expect(try await end == "reset\n")
                        #expect(try await f.record("web").state == "stopped")
                        try await f.eventually("nothing is left") { try Self.traces(f).isEmpty }
                        try Files.removeTree("\(place)/filler")
                    }
                    try await f.eventually("it works again") { try await f.ask(url).status == "200" }
                    try await f.succeed("instance", "delete", "web")
                }
            }
        }
    }

    /// What there is of live sandboxes.
    private static func traces(_ f: DaemonFixture) throws -> [String] {
        try WarmTests().remains(f).filter { trace in
            !["instances/", "workspaces/", "logs/"].contains { trace.hasPrefix($0) }
        }
    }

    /// Uses up a place's files but for some. The daemon probes its backends behind the start, and again when that was too
    /// slow; the files of a probe that is over are room again, some even after their names have gone. (A file that finds no room ends `:`, but not `true`.)
    private static func fill(_ f: DaemonFixture, _ place: String, but left: Int) async throws {
        let filled = try await f.shell(
            """
            mkdir -p '\(place)/filler'; k=0; left() { df --output=iavail '\(place)' | tail -n 1; }
            while [ $(left) -gt \(left) ] || [ -n "$(ls -d '\(f.home)'/probes/* /run/aegis/\(try f.node)/probe-* 2>/dev/null)" ]; do
              n=$(left); [ $n -gt \(left) ] || sleep 0.1
              while [ $n -gt \(left) ]; do true > '\(place)/filler/'$$-$k; k=$((k + 1)); n=$((n - 1)); done
            done
            """)
        try #require(filled.code == 0, "\(filled)")
    }

    /// Runs the fixture's daemon with a place on a file system of its own, which has room for few files.
    private static func onFewFiles(
        _ f: DaemonFixture, _ place: String, _ body: () async throws -> Void
    ) async throws {
        guard place != f.home else { return try await onSmallDisk(f, files: 600, body) }
        try await f.succeed("down")
        let script = "mkdir -p '\(place)' && mount -t tmpfs -o size=64m,mode=711,nr_inodes=400 tmpfs '\(place)'"
        try await mounted(f, [place], by: script, body)
    }

    /// Runs the fixture's daemon in a home with little room; its images lie elsewhere.
    private static func onSmallDisk(_ f: DaemonFixture, files: Int = 100_000, _ body: () async throws -> Void)
        async throws
    {
        try await f.succeed("down")
        let images = f.path("images")
        try FileManager.default.moveItem(atPath: "\(f.home)/images", toPath: images)
        let script =
            "mount -t tmpfs -o size=64m,mode=700,nr_inodes=\(files) tmpfs '\(f.home)' && mkdir '\(f.home)/images'"
            + " && mount --bind '\(images)' '\(f.home)/images'"
        try await mounted(f, ["\(f.home)/images", f.home], by: script, body)
    }

    /// Runs the fixture's daemon, which is stopped, on what a script mounts; that is taken away in the order of the places, however
    /// the test ends.
    private static func mounted(
        _ f: DaemonFixture, _ places: [String], by script: String, _ body: () async throws -> Void
    ) async throws {
        let outcome: Result<Void, any Error>
        do {
            let made = try await f.shell(script)
            try #require(made.code == 0, "\(made)")
            try await f.up()
            outcome = .success(try await body())
        } catch { outcome = .failure(error) }
        // In a task of its own: that of a test that was cancelled waits for nothing any more.
        let cleared = await Task {
            _ = try? await f.aegis("down")
            let gone = try await f.shell(
                "code=0; for place in \(places.map { "'\($0)'" }.joined(separator: " ")); do n=0;"
                    + " while mountpoint -q \"$place\" && ! umount \"$place\"; do n=$((n + 1)); sleep 0.1;"
                    + " [ $n -lt 300 ] || { umount -l \"$place\"; code=1; break; }; done; done; exit $code")
            // The fixture ends it.
            try await f.up()
            return gone
        }.result
        try outcome.get()
        let gone = try cleared.get()
        #expect(gone.code == 0, "\(gone)")
    }

    /// (Tier 3 has twenty thousand.)
    @Test(arguments: backends) func twoThousandDropsLeaveNothingBehind(_ backend: String) async throws {
        try await DaemonFixture.with { f in try await f.drop(2000, backend) }
    }
}
