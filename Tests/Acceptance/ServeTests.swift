import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Exposed ports, sleep and waking, with clients that are not ours.
@Suite(.serialized) struct ServeTests {
    @Test(arguments: backends) func anExposedPortAnswersInWhateverStateItsInstanceIs(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend)
            let url = try await f.url("web")
            #expect(try await f.get(url + "/index.html") == "hello\n")
            try await f.succeed("instance", "pause", "web")
            #expect(try await f.get(url + "/index.html") == "hello\n")
            #expect(try await f.record("web").state == "running")
            #expect(try await f.hasRun("web", 1))
            try await f.succeed("instance", "stop", "web")
            #expect(try await f.get(url + "/index.html") == "hello\n")
            #expect(try await f.hasRun("web", 2))
            // One address for all, by name.
            let status = try await f.succeed("status", "--output", "json")
            struct Ports: Decodable { var ports: [String: String] }
            let router = try #require(
                try JSONDecoder().decode(Ports.self, from: Data(status.stdout)).ports["router"])
            let port = try #require(router.split(separator: ":").last)
            let byName = "http://web.aegis.localhost:\(port)/index.html"
            #expect(try await f.get(byName, "--resolve", "web.aegis.localhost:\(port):127.0.0.1") == "hello\n")
            // Disabled, nobody listens; enabled again, on the same number.
            try await f.succeed("instance", "disable", "web")
            try await f.eventually("the port is closed") {
                try await f.run("/usr/bin/curl", ["-s", "--max-time", "5", url]).code == 7
            }
            // The record says so, also of a port that comes now.
            try await f.succeed("instance", "expose", "web", "81:tcp")
            let closed = try await f.served("web").expose
            #expect(
                closed.count == 2 && closed.allSatisfy { $0.url == nil && $0.error?.code == "instance-disabled" },
                "\(closed)")
            let shown = try await f.succeed("instance", "info", "web").out
            #expect(shown.contains("not served: web is disabled -> 80") && !shown.contains("http://"), "\(shown)")
            try await f.succeed("instance", "unexpose", "web", "81")
            try await f.succeed("instance", "enable", "web")
            try await f.eventually("the port is open") {
                try await f.run("/usr/bin/curl", ["-s", "--max-time", "30", url]).code == 0
            }
            #expect(try await f.url("web") == url)
            try await f.succeed("instance", "delete", "web")
            try await f.eventually("the port is gone") {
                try await f.run("/usr/bin/curl", ["-s", "--max-time", "5", url]).code == 7
            }
        }
    }

    @Test(arguments: backends) func whatNobodyUsesIsPausedThenStoppedAndTheNextClientWakesIt(_ backend: String)
        async throws
    {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend, "80", "--idle-pause", "1s", "--idle-stop", "1h")
            let url = try await f.url("web")
            #expect(try await f.get(url + "/index.html") == "hello\n")
            try await f.eventually("it is paused") { try await f.record("web").state == "paused" }
            #expect(try await f.get(url + "/index.html") == "hello\n")
            try await f.eventually("it is paused again") { try await f.record("web").state == "paused" }
            // An exec that says nothing for long holds it awake; so does a lease.
            let exec = try f.begin("exec", "web", "--", "sleep", "3")
            #expect(try await exec.result().code == 0)
            try await f.succeed("instance", "keepalive", "web", "--ttl", "1h")
            try await f.refuse("instance", "pause", "web", code: 5, error: "instance-held")
            #expect(try await f.record("web").state == "running")
            #expect(
                try await f.succeed("instance", "keepalive", "web", "--ttl", "0s").out == "web may sleep again\n")
            try await f.eventually("it is paused after its lease") { try await f.record("web").state == "paused" }
            #expect(try await f.hasRun("web", 1))
            try await f.succeed("instance", "idle", "web", "--idle-stop", "1s")
            try await f.eventually("it is stopped") { try await f.record("web").state == "stopped" }
            #expect(try await f.record("web").stopReason == "idle")
            #expect(try await f.get(url + "/index.html") == "hello\n")
            #expect(try await f.hasRun("web", 2))
        }
    }

    /// Its server keeps no more than five connections for later.
    @Test(arguments: backends) func aHundredConnectionsAtAStoppedInstanceShareOneBoot(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend)
            let url = try await f.url("web") + "/index.html"
            #expect(try await f.get(url) == "hello\n")
            try await f.succeed("instance", "stop", "web")
            let words = [
                "-sS", "--max-time", "60", "--no-keepalive", "--parallel", "--parallel-immediate", "--parallel-max",
                "100",
            ]
            let result = try await f.run("/usr/bin/curl", words + Array(repeating: url, count: 100))
            #expect(result.code == 0 && result.out.split(separator: "\n").count == 100, "\(result)")
            #expect(try await f.hasRun("web", 2))
        }
    }

    @Test(arguments: backends) func everyWaiterGetsTheCauseOfAFailedWake(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let workspace = f.path("work")
            try Files.makeDirectories(workspace)
            try await f.serve("web", backend, "80", "--workspace", workspace)
            let url = try await f.url("web")
            try await f.succeed("instance", "stop", "web")
            try FileManager.default.removeItem(atPath: workspace)
            let all = try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<10 {
                    group.addTask {
                        try await f.run("/usr/bin/curl", ["-sS", "--max-time", "60", "-w", "%{http_code}", url]).out
                    }
                }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(all.allSatisfy { $0.contains(workspace) && !$0.hasSuffix("200") }, "\(all)")
            try Files.makeDirectories(workspace)
            try await f.eventually("it works again") {
                try await f.run("/usr/bin/curl", ["-sS", "--fail", "--max-time", "60", url]).code == 0
            }
        }
    }

    /// A call that has waited for as long as it said is told what it waited for; whoever is refused for long is not told to come
    /// again in a second.
    @Test(arguments: backends) func whoeverIsRefusedIsToldWhatHelps(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "told-\(backend)"
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "50:grpc,wait=1s", "--expose",
                "80:http,wake=never", "--", "sleep", "100000")
            let said = try await f.peer("late_peer", try await f.number(name, 50))
            #expect(
                said.contains("within the call's own time: ") && said.contains("nothing listens on port 50"), "\(said)")
            // Who has gone counts for a moment more.
            try await f.eventually("it is not used") { try await f.served(name).connections == 0 }
            try await f.succeed("instance", "pause", name)
            let url = try #require(try await f.served(name).expose.last?.url)
            let refused = try await f.ask(url, "-i")
            #expect(refused.status == "503" && refused.body.contains("instance-asleep"), "\(refused)")
            #expect(!refused.body.contains("Retry-After"), "\(refused)")
            try await f.succeed("instance", "delete", name)
        }
    }

    /// Whoever asks again and again is answered as long as the instance is awake for other reasons, and keeps it awake for none.
    @Test(arguments: backends) func whoPollsAPortThatCoolsDownKeepsNothingAwake(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "polled-\(backend)"
            try await f.serve(name, backend, "80:http,cooldown=1h", "--idle-pause", "2s")
            let script = """
                import http.client, sys, time
                end, codes = time.monotonic() + 300, []
                while time.monotonic() < end and 503 not in codes[-1:]:
                    web = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=100)
                    web.request('GET', '/index.html')
                    answer = web.getresponse()
                    codes.append(answer.status)
                    body = answer.read()
                    web.close()
                    time.sleep(0.1)
                print(codes[0], codes[-1], b'instance-cooling' in body)
                """
            let number = try await f.number(name, 80)
            let polled = try await f.run("/usr/bin/python3", ["-c", script, number], deadline: .seconds(400))
            #expect(polled.out == "200 503 True\n", "\(polled)")
            #expect(try await f.record(name).state == "paused")
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends) func aRestartedDaemonHasThePortsBack(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend)
            let before = try await f.served("web").expose[0]
            try await f.crash()
            try await f.up()
            let after = try await f.served("web").expose[0]
            #expect(after.number == before.number && after.number != 0 && after.error == nil)
            // No connection that goes out can take it while no daemon has it.
            let outgoing = try String(contentsOfFile: "/proc/sys/net/ipv4/ip_local_port_range", encoding: .utf8)
            let range = outgoing.split { $0.isWhitespace }.compactMap { Int($0) }
            try #require(range.count == 2)
            #expect(!(range[0]...range[1]).contains(after.number), "\(after.number): \(outgoing)")
            #expect(try await f.get(try #require(after.url) + "/index.html") == "hello\n")
            #expect(try await f.hasRun("web", 1))
            try await f.succeed("down")
            try await f.up()
            #expect(try await f.get(try #require(before.url) + "/index.html") == "hello\n")
            #expect(try await f.hasRun("web", 2))
        }
    }

    @Test(arguments: backends) func aPortThatIsTakenIsSaidAndHarmsNothingElse(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend)
            let number = try await f.served("web").expose[0].number
            try await f.refuse(
                "instance", "start", "--name", "other", "--expose", "\(number):80", "--", "sleep", "1000", code: 5,
                error: "port-in-use")
            try await f.refuse("instance", "info", "other", code: 4, error: "instance-not-found")
            let foreign = try Listener.tcp(address: "127.0.0.1", port: 0, on: f.loop)
            let taken = try foreign.localPort()
            try await f.refuse(
                "instance", "start", "--name", "other", "--expose", "\(taken):80", "--", "sleep", "1000", code: 5,
                error: "port-in-use")
            try await f.refuse("instance", "info", "other", code: 4, error: "instance-not-found")
            try await f.refuse("instance", "expose", "web", "\(taken):81", code: 5, error: "port-in-use")
            let api = try await f.shell("$AEGIS config show | sed -n 's/^network.port: \\([0-9]*\\).*/\\1/p'")
            let own = try await f.aegis("instance", "expose", "web", "\(api.out.prefix { $0.isNumber }):81")
            #expect(own.code == 5 && own.err.contains("is the daemon's own (its HTTP API)"), "\(own)")
            #expect(!own.err.contains("again"), "\(own)")
            try await f.refuse("instance", "unexpose", "web", "81", code: 4, error: "port-not-exposed")
            #expect(try await f.served("web").expose.map(\.guest) == [80])
            // What was free at first and is taken after a restart: that instance shows it, and gets it back.
            try await f.succeed("instance", "expose", "web", "81:tcp")
            let second = try #require(try await f.served("web").expose.last)
            try await f.succeed("down")
            let thief = try Listener.tcp(address: "127.0.0.1", port: UInt16(second.number), on: f.loop)
            try await f.up()
            try await f.eventually("the record says it") {
                try await f.served("web").expose.last?.error?.code == "port-in-use"
            }
            #expect(try await f.get(try await f.url("web") + "/index.html") == "hello\n")
            thief.close()
            try await f.eventually("it is had again") { try await f.served("web").expose.last?.error == nil }
            #expect(try await f.served("web").expose.last?.number == second.number)
            foreign.close()
        }
    }

    @Test(arguments: backends) func aPortForOtherHostsIsSaidToHaveNoAuthentication(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "wide-\(backend)"
            let script = "cd /tmp; echo hello > index.html; python3 -m http.server 81 & exec python3 -m http.server 80"
            let started = try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "0.0.0.0:0:80", "--expose",
                "[::1]:0:81:tcp", "--", "sh", "-c", script)
            let warned = (started.out + started.err).split(separator: "\n").filter { $0.contains("authentication") }
            #expect(
                warned == ["aegis: port 80 is reachable on 0.0.0.0 by other hosts, and has no authentication"],
                "\(started)")
            let (wide, local) = (try await f.number(name, 80), try await f.number(name, 81))
            #expect(try await f.get("http://127.0.0.1:\(wide)/index.html") == "hello\n")
            #expect(try await f.get("http://[::1]:\(local)/index.html") == "hello\n")
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test func whoIsNotRootHasNoPortBelow1024GivenOut() async throws {
        try await DaemonFixture.with { f in
            let refused = try await f.aegis(
                as: stranger, "instance", "start", "--name", "low", "--isolation", "runc", "--expose", "80:80", "--",
                "sleep", "100000")
            #expect(refused.code != 0 && refused.err.contains("(port-privileged)"), "\(refused)")
            try await f.refuse("instance", "info", "low", code: 4, error: "instance-not-found")
            // Inside, they are anybody's.
            let given = try await f.aegis(
                as: stranger, "instance", "start", "--name", "high", "--isolation", "runc", "--expose", "80", "--",
                "sleep", "100000")
            #expect(given.code == 0, "\(given)")
            let later = try await f.aegis(as: stranger, "instance", "expose", "high", "1023:81")
            #expect(later.code != 0 && later.err.contains("(port-privileged)"), "\(later)")
        }
    }

    @Test(arguments: backends) func aForcedPauseUnderAConnectionIsUndoneByTheNextRequest(_ backend: String) async throws
    {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend)
            let url = try await f.url("web") + "/index.html"
            for _ in 0..<5 {
                #expect(try await f.get(url) == "hello\n")
                try await f.succeed("instance", "pause", "--force", "web")
                #expect(try await f.get(url) == "hello\n")
                #expect(try await f.record("web").state == "running")
            }
        }
    }

    @Test(arguments: backends) func runServesUntilItsClientGoes(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let run = try f.begin(
                "run", "--name", "now", "--isolation", backend, "--expose", "80", "--", "sh", "-c",
                "echo run; exec python3 -m http.server 80")
            try await f.eventually("it is there") { try await f.aegis("instance", "info", "now").code == 0 }
            let url = try await f.url("now")
            _ = try await f.get(url)
            _ = run.child.signal(2)
            let result = try await run.result()
            #expect(result.code == 130 && result.out.hasPrefix("run\n") && result.err.contains(url), "\(result)")
            try await f.refuse("instance", "info", "now", code: 4, error: "instance-not-found")
        }
    }

    /// Pauses and holds against each other: no exec and no request is ever lost or frozen.
    @Test(arguments: backends) func aPausedInstanceHammeredByHoldsServesThemAll(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.serve("web", backend, "80", "--idle-pause", "100ms", "--idle-stop", "0s")
            let url = try await f.url("web") + "/index.html"
            let api = ["-sS", "--max-time", "60", "--unix-socket", "\(f.home)/aegisd.sock", "-X", "POST"]
            let exec =
                api + [
                    "-d", "{\"command\":[\"echo\",\"held\"]}", "http://aegis/v1/instances/web/exec",
                ]
            let pause = api + ["-o", "/dev/null", "-w", "%{http_code}\n", "http://aegis/v1/instances/web/pause"]
            let counts = try await withThrowingTaskGroup(of: (String, Int).self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        var good = 0
                        for _ in 0..<25 {
                            let result = try await f.run("/usr/bin/curl", exec)
                            good +=
                                result.out.contains("\"line\":\"held\"") && result.out.contains("\"exit_code\":0")
                                ? 1 : 0
                        }
                        return ("exec", good)
                    }
                    group.addTask {
                        var good = 0
                        for _ in 0..<25 {
                            let result = try await f.run("/usr/bin/curl", ["-sS", "--max-time", "60", url])
                            good += result.out == "hello\n" ? 1 : 0
                        }
                        return ("get", good)
                    }
                }
                group.addTask {
                    var paused = 0
                    for _ in 0..<100 {
                        let code = try await f.run("/usr/bin/curl", pause).out
                        #expect(code == "200\n" || code == "409\n", "\(code)")
                        paused += code == "200\n" ? 1 : 0
                    }
                    return ("pause", paused)
                }
                return try await group.reduce(into: [String: Int]()) { $0[$1.0, default: 0] += $1.1 }
            }
            #expect(counts["exec"] == 100 && counts["get"] == 100, "\(counts)")
            try await f.eventually("it sleeps at last") { try await f.record("web").state == "paused" }
            #expect(try await f.hasRun("web", 1))
            #expect(try await f.served("web").connections == 0)
        }
    }

    /// A lease is for a run: none that is asked for while it stops stays for the next one.
    @Test(arguments: backends) func noLeaseOutlivesAStop(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "leased-\(backend)"
            for _ in 0..<5 {
                try await f.succeed(
                    "instance", "start", "--name", name, "--isolation", backend, "--", "sleep", "100000")
                let leases = try (0..<4).map { _ in try f.begin("instance", "keepalive", name, "--ttl", "1h") }
                try await f.succeed("instance", "stop", name)
                for lease in leases { _ = try await lease.result() }
                let late = try await f.aegis("instance", "keepalive", name, "--ttl", "1h")
                #expect(late.code == 5 && late.err.contains("\(name) is stopped: cannot keep it awake"), "\(late)")
                try await f.succeed("instance", "start", "--name", name)
                try await f.succeed("instance", "pause", name)
                try await f.succeed("instance", "delete", name)
            }
        }
    }
}
