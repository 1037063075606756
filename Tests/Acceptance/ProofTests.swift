import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Denials as events, and policies that prove themselves (needs root and a kernel with nf_tables).
@Suite(.serialized) struct ProofTests {
    struct Event: Decodable {
        var type: String
        var instance: String?
        var name: String?
        var host: String?
        var port: Int?
        var reason: String?
        var count: Int
        var places: Int?
        var message: String?
    }

    private static func events(_ text: String) throws -> [Event] {
        try text.split(separator: "\n").map { try JSONDecoder().decode(Event.self, from: Data($0.utf8)) }
    }

    func events(_ f: DaemonFixture, _ arguments: String...) async throws -> [Event] {
        let result = try await f.run(DaemonFixture.cli, ["events", "--output", "json"] + arguments)
        try #require(result.code == 0, "\(result)")
        return try Self.events(result.out)
    }

    /// Runs nft in the gateway's namespace, as somebody does who breaks it.
    func breakRules(_ f: DaemonFixture, _ words: String) async throws {
        // The daemon's mounts are its own here.
        let command = f.launcher + ["/usr/bin/nsenter", "--net=/run/aegis/\(try f.node)/net", "/usr/sbin/nft"]
        let result = try await f.run(
            command[0], command.dropFirst() + words.split(separator: " ").map(String.init))
        try #require(result.code == 0, "nft \(words): \(result)")
    }

    /// Three hundred attempts are a few events, and their counts add up.
    @Test(arguments: backends) func denialsAreEventsAndNoneIsLost(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "loud", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000")
            try await f.succeed(
                "run", "-d", "--name", "calm", "--isolation", backend, "--group", "shop", "--", "sleep", "1000")
            // Proofs are no attempts of an instance's.
            #expect(try await events(f).isEmpty)
            let follower = try f.begin("events", "--follow", "--instance", "loud", "--output", "json")
            try await f.succeed(
                "exec", "loud", "--", "python3", "-c",
                NetworkTests.attempts
                    + """

                    for _ in range(300): show('x', lambda: literal('93.184.216.34', 81))
                    show('name', lambda: web('evil.example'))
                    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    for _ in range(20): s.sendto(b'x', ('93.184.216.34', 123))
                    for _ in range(3000): s.sendto(b'x', ('93.184.216.34', 124))
                    """)
            var seen: [Event] = []
            try await f.eventually("every denial is told") {
                seen = try await events(f, "--instance", "loud")
                return seen.filter { $0.port == 81 }.map(\.count).reduce(0, +) >= 300
                    && seen.filter { $0.port == 124 || $0.reason == "flood" }.map(\.count).reduce(0, +) >= 3000
            }
            #expect(seen.filter { $0.port == 81 }.map(\.count).reduce(0, +) == 300)
            #expect(seen.filter { $0.port == 123 }.map(\.count).reduce(0, +) == 20)
            // The kernel tells of some, and counts the others.
            #expect(seen.filter { $0.port == 124 || $0.reason == "flood" }.map(\.count).reduce(0, +) == 3000)
            #expect(seen.count < 20, "\(seen)")
            #expect(seen.allSatisfy { $0.name == "loud" && $0.type == "network-denied" })
            let refused = try #require(seen.first { $0.port == 81 })
            #expect(refused.host == "93.184.216.34" && refused.reason == "capability-denied")
            #expect(seen.contains { $0.host == "evil.example" && $0.reason == "name-denied" })
            #expect(seen.contains { $0.port == 123 && $0.reason == "protocol-denied" })
            #expect(try await events(f, "--instance", "calm").isEmpty)
            let text = try await f.succeed("events")
            #expect(text.out.contains("evil.example") && text.out.contains("(name-denied)"))
            let log = try await f.succeed("logs", "loud")
            #expect((log.out + log.err).contains("93.184.216.34:123"), "\(log)")
            // The follower ends with the daemon, and has seen the same.
            try await f.succeed("down")
            let followed = try Self.events(try await follower.result().out)
            #expect(followed.filter { $0.port == 81 }.map(\.count).reduce(0, +) == 300)
            try await f.up()
        }
    }

    @Test(arguments: backends) func everyNetworkIsProved(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "sure", "--isolation", backend, "--group", "shop", "--", "sleep", "1000")
            let first = try await f.succeed("doctor", "--policy", "sure")
            for text in [
                "start: ", "the control's echo: answered", "169.254.169.254:80: reset, counted as",
                "UDP to 192.0.2.1:123: no answer, counted as protocol-denied", "a forged frame in the group",
                "TCP to [2001:db8::1]:443: unreachable",
            ] {
                #expect(first.out.contains(text), "\(text) is not in \(first.out)")
            }
            #expect(!first.out.contains("FAILED"))
            try await f.succeed("instance", "network", "sure", "--network", "allow")
            let second = try await f.succeed("doctor", "--policy", "sure", "--output", "json")
            let text = second.out.replacing(" ", with: "")
            #expect(text.contains("\"cause\":\"change\"") && text.contains("\"cause\":\"start\""), "\(second)")
            try await f.succeed("run", "-d", "--name", "closed", "--isolation", backend, "--", "sleep", "1000")
            #expect(try await f.succeed("doctor", "--policy", "closed").out.contains("No proof"))
        }
    }

    /// Thousands of connections of the host's hide none of the ports on which it listens.
    @Test func aBusyHostsPortsAreTried() async throws {
        let busy = """
            import resource, socket, sys
            resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
            one, two = socket.create_server(('127.0.0.1', 0), backlog=128), socket.create_server(('127.0.0.1', 0))
            kept = []
            for _ in range(4500): kept += [socket.create_connection(one.getsockname()), one.accept()[0]]
            print(two.getsockname()[1], flush=True)
            sys.stdin.read()
            """
        try await OutsideWorld.with { f in
            try await f.succeed("run", "-d", "--name", "sure", "--allow", "web.example", "--", "sleep", "1000")
            let command = f.launcher + ["/usr/bin/python3", "-c", busy]
            let child = try ChildProcess.spawn(
                ProcessSpec(
                    executable: command[0], arguments: command, environment: f.environment, stdin: .pipe, stdout: .pipe),
                on: f.loop)
            var said = ByteBuffer()
            _ = try await child.stdout?.read(into: &said, atMost: 16)
            let port = String(decoding: said.readable, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            let changed = try await f.aegis("instance", "network", "sure", "--allow", "other.example")
            let shown = try await f.aegis("doctor", "--policy", "sure")
            _ = child.signal(9)
            _ = try await child.wait()
            #expect(changed.code == 0 && !port.isEmpty, "\(changed)")
            #expect(shown.out.contains("change: ") && shown.out.contains("TCP to 198.18.0.1:\(port): "), "\(shown)")
        }
    }

    /// Whoever breaks the rules breaks the proof, and nothing runs on.
    @Test(arguments: backends) func aBrokenPolicyStopsTheInstance(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "first", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000")
            // What is dropped is not counted any more.
            try await breakRules(f, "flush chain inet aegis_\(try f.node) refuse")
            try await f.refuse(
                "instance", "network", "first", "--allow", "other.example", code: 1, error: "policy-unproven")
            try await f.eventually("it is stopped") { try await f.record("first").state == "stopped" }
            let record = try await f.succeed("instance", "info", "first", "--output", "json")
            #expect(record.out.contains("policy-failed"), "\(record)")
            #expect(try await events(f).contains { $0.type == "policy-failed" && $0.name == "first" })
            let log = try await f.succeed("logs", "first")
            #expect((log.out + log.err).contains("the instance is stopped"), "\(log)")
            // Nothing that has a network starts; what has none does.
            try await f.refuse(
                "run", "--isolation", backend, "--group", "shop", "--", "true", code: 125, error: "policy-unproven")
            try await f.succeed("run", "--isolation", backend, "--", "true")
        }
    }

    /// A hole that no proof looks for: who sends something through it is stopped at once, and nobody else is.
    @Test(arguments: backends) func whoGotThroughForAMomentIsStopped(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            for name in ["quick", "calm"] {
                try await f.succeed(
                    "run", "-d", "--name", name, "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000"
                )
            }
            let table = "inet aegis_\(try f.node)"
            for chain in ["early", "forward"] {
                try await breakRules(f, "insert rule \(table) \(chain) udp dport 9999 accept")
            }
            try await forward(f, true)
            // What ends it may end this exec, too.
            _ = try await f.aegis(
                "exec", "quick", "--", "python3", "-c",
                "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('93.184.216.34', 9999))")
            try await f.eventually("it is stopped") { try await f.record("quick").state == "stopped" }
            try await forward(f, false)
            #expect(try await f.record("quick").stopReason == "policy-failed")
            let what = "UDP to 93.184.216.34:9999 left the instance"
            let told = try await f.succeed("events").out.split(separator: "\n")
            #expect(told.contains { $0.contains("policy-failed  quick") && $0.contains(what) }, "\(told)")
            #expect(!told.contains { $0.contains("policy-failed  calm") }, "\(told)")
            let log = try await f.succeed("logs", "quick")
            #expect((log.out + log.err).contains(what), "\(log)")
            // The others are looked at, for all that nothing was found.
            try await f.eventually("the other is proved") {
                try await f.succeed("doctor", "--policy", "calm").out.contains("alarm: ")
            }
            #expect(try await f.record("calm").state == "running")
        }
    }

    /// Waits until it may, and sends seven datagrams where nothing is allowed, and one to a port of its own.
    private static let late = """
        import os, socket, sys, time
        while not os.path.exists('/workspace/go'): time.sleep(0.05)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for n in range(7): s.sendto(b'x', ('93.184.216.34', int(sys.argv[1])))
        open('/workspace/sent', 'w').close()
        time.sleep(100000)
        """

    /// Starts `late` in an instance with a folder of its own, kills the daemon, and lets it send.
    func sendWithoutADaemon(
        _ f: DaemonFixture, _ backend: String, port: Int, meanwhile: () async throws -> Void = {}
    ) async throws {
        let folder = f.path("work")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for (name, more) in [("quick", ["--workspace", folder]), ("calm", [])] {
            let command = name == "quick" ? ["python3", "-c", Self.late, "\(port)"] : ["sleep", "100000"]
            let words = ["run", "-d", "--name", name, "--isolation", backend, "--allow", "web.example"]
            try await f.succeed(words: words + more + ["--"] + command)
        }
        // One that the daemon has told of is not told again.
        try await f.succeed(
            "exec", "quick", "--", "python3", "-c",
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('93.184.216.34', 123))")
        try await f.eventually("it is told") { try await events(f).contains { $0.port == 123 } }
        try await f.crash()
        try await meanwhile()
        try Data().write(to: URL(fileURLWithPath: folder + "/go"))
        try await f.eventually("it has sent") { FileManager.default.fileExists(atPath: folder + "/sent") }
    }

    /// What the kernel refuses while no daemon runs is counted, and told by the next one.
    @Test(arguments: backends) func whatIsRefusedWithoutADaemonIsToldByTheNext(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await sendWithoutADaemon(f, backend, port: 9999)
            try await f.up()
            var told: [Event] = []
            try await f.eventually("it is told") {
                told = try await events(f, "--instance", "quick").filter { $0.reason == "unheard" }
                return !told.isEmpty
            }
            #expect(told.map(\.count) == [7] && told.first?.type == "network-denied", "\(told)")
            #expect(try await !events(f, "--instance", "calm").contains { $0.reason == "unheard" })
            let log = try await f.succeed("logs", "quick")
            #expect((log.out + log.err).contains("while no daemon runs"), "\(log)")
            for name in ["quick", "calm"] { #expect(try await f.record(name).state == "running") }
            // Once.
            try await f.crash()
            try await f.up()
            try await f.eventually("it is proved") {
                try await f.succeed("doctor", "--policy", "quick").out.contains("start: ")
            }
            #expect(try await !events(f, "--instance", "quick").contains { $0.reason == "unheard" })
        }
    }

    /// A hole that is there only while nobody listens.
    @Test(arguments: backends) func whoGotThroughWithoutADaemonIsStoppedByTheNext(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await sendWithoutADaemon(f, backend, port: 9999) {
                let table = "inet aegis_\(try f.node)"
                for chain in ["early", "forward"] {
                    try await breakRules(f, "insert rule \(table) \(chain) udp dport 9999 accept")
                }
                try await forward(f, true)
            }
            try await forward(f, false)
            try await f.up()
            try await f.eventually("it is stopped") { try await f.record("quick").state == "stopped" }
            #expect(try await f.record("quick").stopReason == "policy-failed")
            let told = try await f.succeed("events").out.split(separator: "\n")
            #expect(
                told.contains { $0.contains("policy-failed  quick") && $0.contains("while no daemon ran, 7 packets") },
                "\(told)")
            try await f.eventually("the other is proved") {
                try await f.succeed("doctor", "--policy", "calm").out.contains("start: ")
            }
            #expect(try await f.record("calm").state == "running")
        }
    }

    private func forward(_ f: DaemonFixture, _ does: Bool) async throws {
        let command =
            f.launcher + [
                "/usr/bin/nsenter", "--net=/run/aegis/\(try f.node)/net", "/bin/sh", "-c",
                "echo \(does ? 1 : 0) > /proc/sys/net/ipv4/ip_forward",
            ]
        let result = try await f.run(command[0], Array(command.dropFirst()))
        try #require(result.code == 0, "\(result)")
    }

    /// Nobody changes anything: it is the daemon's own look, some time later, that finds it out.
    @Test(arguments: backends) func aPolicyThatBreaksLaterStopsTheInstance(_ backend: String) async throws {
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: {name: often}
            spec: { network: { proof_interval: 1s } }
            """
        try await OutsideWorld.with(config: config) { f in
            #expect(try await f.succeed("config", "show").out.contains("network.proof_interval: 1s  # "))
            try await f.succeed(
                "run", "-d", "--name", "later", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000")
            try await f.eventually("it was proved at random") {
                try await f.succeed("doctor", "--policy", "later").out.contains("random: ")
            }
            #expect(try await f.record("later").state == "running")
            try await breakRules(f, "flush chain inet aegis_\(try f.node) refuse")
            try await f.eventually("it is stopped") { try await f.record("later").state == "stopped" }
            #expect(try await f.record("later").stopReason == "policy-failed")
            #expect(try await events(f).contains { $0.type == "policy-failed" && $0.name == "later" })
        }
    }

    /// A proxy that cannot be reached any more is not a network that refuses: the control says so.
    @Test(arguments: backends) func silenceProvesNothing(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "mute", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000")
            try await breakRules(f, "flush ruleset")
            let result = try await f.aegis("instance", "network", "mute")
            #expect(result.code == 1 && result.err.contains("the control's"), "\(result)")
            try await f.eventually("it is stopped") { try await f.record("mute").state == "stopped" }
        }
    }
}
