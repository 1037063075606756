import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// No refusal is lost from the counts, whatever becomes of daemons and however many there are.
extension ProofTests {
    /// A daemon that has found what was refused without one, and dies before it has told of it, leaves it to the next one: when its
    /// rules, which count anew, are not loaded yet; when they are; and when it has begun to serve the instance.
    @Test(arguments: backends) func whatIsUntoldOutlivesEveryDaemonThatDiesOverIt(_ backend: String) async throws {
        let points = try await CrashPoints()
        try await OutsideWorld.with(more: .init(environment: points.environment)) { f in
            try await sendWithoutADaemon(f, backend, port: 9999)
            let file = "net-\(try await Self.id(of: "quick", f)).told"
            for (side, nth) in [(CrashPoints.Side.before, 1), (.after, 1), (.before, 2), (.after, 2)] {
                try points.arm(side, nth, ["file", file])
                let command = f.launcher + [DaemonFixture.cli, "up", "--ports", "auto"]
                // It may have answered before it dies.
                _ = try await f.run(command[0], Array(command.dropFirst()))
                try await f.eventually("it has died \(side) its write \(nth)") { points.isSpent }
            }
            try await f.up()
            var told: [Event] = []
            try await f.eventually("it is told") {
                told = try await events(f, "--instance", "quick").filter { $0.reason == "unheard" }
                return !told.isEmpty
            }
            #expect(told.map(\.count) == [7], "\(told)")
            try await f.eventually("it is proved") {
                try await f.succeed("doctor", "--policy", "quick").out.contains("start: ")
            }
            // What proofs were trying in either when their daemon died is nobody's.
            let all = try await events(f).filter { $0.reason == "unheard" }
            #expect(all.map(\.count) == [7], "\(all)")
            for name in ["quick", "calm"] { #expect(try await f.record(name).state == "running") }
            // Nor does anything stay of what they were writing.
            let place = "/run/aegis/\(try f.node)"
            try await f.eventually("nothing unfinished is left") {
                try !FileManager.default.contentsOfDirectory(atPath: place).contains { $0.hasPrefix(".new-") }
            }
        }
    }

    /// What a proof sends that the kernel itself refuses is never taken for what the instance did: neither by the next daemon, if
    /// this one dies over it, nor in the numbers.
    @Test(arguments: backends) func whatAProofTriesIsNobodysRefusal(_ backend: String) async throws {
        let points = try await CrashPoints()
        try await OutsideWorld.with(more: .init(environment: points.environment)) { f in
            for name in ["alone", "member"] {
                let group = name == "member" ? ["--group", "shop"] : []
                try await f.succeed(
                    words: ["run", "-d", "--name", name, "--isolation", backend, "--allow", "web.example"] + group
                        + ["--", "sleep", "100000"])
            }
            for (name, side) in [("alone", CrashPoints.Side.before), ("alone", .after), ("member", .after)] {
                try points.arm(side, 1, ["probe"])
                let group = name == "member" ? ["--group", "shop"] : []
                // It is proved at that, and its daemon dies.
                _ = try await f.run(
                    DaemonFixture.cli, ["instance", "network", name, "--allow", "other.example"] + group)
                try await f.eventually("it has died \(side) the probe") { points.isSpent }
                try await f.up()
                for one in ["alone", "member"] {
                    try await f.eventually("\(one) is proved") {
                        try await f.succeed("doctor", "--policy", one).out.contains("start: ")
                    }
                    #expect(try await f.record(one).state == "running")
                }
            }
            let told = try await events(f).filter {
                ["unheard", "flood", "protocol-denied", "frame-denied"].contains($0.reason)
            }
            #expect(told.isEmpty, "\(told)")
            let shown = try await f.succeed("doctor", "--policy", "member", "--output", "json").out
            #expect(shown.replacing(" ", with: "").contains("\"dropped\":0"), "\(shown)")
            // What the instance itself sends is still counted, be it to where probes go.
            try await f.succeed(
                "exec", "alone", "--", "python3", "-c",
                "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 123))")
            try await f.eventually("it is told") {
                try await events(f).contains { $0.port == 123 && $0.reason == "protocol-denied" }
            }
        }
    }

    /// Members of a group that talk all the time go on while one daemon dies and the next one loads its rules: none of it is refused,
    /// and none of it is counted or told as if it were.
    @Test(arguments: backends) func aTalkInAGroupIsNoDenialWhateverDaemonsDo(_ backend: String) async throws {
        let talk = """
            import socket, sys, threading, time
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353))
            def send(to):
                while True: s.sendto(b'x', to); time.sleep(0.01)
            def begin(to): threading.Thread(target=send, args=(to,), daemon=True).start()
            if len(sys.argv) > 1: begin((sys.argv[1], 5353))
            count = 0
            while True:
                data, sender = s.recvfrom(10)
                if not count and len(sys.argv) == 1: begin(sender)
                count += 1
                if count % 100 == 0: print('heard', count, flush=True)
            """
        try await OutsideWorld.with { f in
            let start = ["run", "-d", "--isolation", backend, "--group", "shop"]
            // Each has one that it talks with: while some have been taken over, others have not.
            let pairs = (1...2).map { ("first\($0)", "second\($0)") }
            let names = pairs.flatMap { [$0.0, $0.1] }
            for (first, second) in pairs {
                for (name, to) in [(first, []), (second, [first])] {
                    try await f.succeed(words: start + ["--name", name, "--", "python3", "-c", talk] + to)
                }
            }
            func heard(_ name: String) async throws -> Int {
                let last = try await f.succeed("logs", name).out.split(separator: "\n").last { $0.hasPrefix("heard ") }
                return last.flatMap { Int($0.dropFirst(6)) } ?? 0
            }
            for name in names {
                try await f.eventually("\(name) hears") { try await heard(name) > 0 }
            }
            for _ in 0..<2 {
                try await f.crash()
                try await f.up()
                for name in names {
                    try await f.eventually("\(name) is proved") {
                        try await f.succeed("doctor", "--policy", name).out.contains("start: ")
                    }
                    let before = try await heard(name)
                    try await f.eventually("\(name) goes on") { try await heard(name) > before }
                }
            }
            let told = try await events(f).filter { $0.type == "network-denied" }
            #expect(told.isEmpty, "\(told)")
            for name in names {
                let shown = try await f.succeed("doctor", "--policy", name, "--output", "json").out
                    .replacing(" ", with: "")
                #expect(shown.contains("\"dropped\":0,") && shown.contains("\"denials\":0,"), "\(shown.prefix(300))")
            }
        }
    }

    /// The id of an instance, which its record says also while no daemon runs.
    private static func id(of name: String, _ f: DaemonFixture) async throws -> String {
        let id = try await f.sql("SELECT id FROM instances WHERE name = '\(name)'")
        return id.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Hundreds of places: some are told one by one, and those that are put together say how many they were.
    @Test(arguments: backends) func manyPlacesAreCountedExactly(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.succeed(
                "run", "-d", "--name", "search", "--isolation", backend, "--allow", "web.example", "--", "sleep", "1000"
            )
            // Fewer at once than there are connections that are taken in a moment.
            let knock = """
                import concurrent.futures, socket, sys
                def knock(n):
                    s = socket.socket(); s.settimeout(100)
                    try:
                        s.connect((f"93.184.{217 + n // 250}.{1 + n % 250}", 443))
                        s.recv(1)
                    except OSError: pass
                    s.close()
                with concurrent.futures.ThreadPoolExecutor(8) as pool:
                    for _ in range(2): list(pool.map(knock, range(700)))
                """
            var rounds = 0
            var told: [Event] = []
            // A machine that is busy may take longer than the ten seconds in which so many are put together.
            repeat {
                rounds += 1
                try await f.succeed("exec", "search", "--", "python3", "-c", knock)
                try await f.eventually("each is counted") {
                    told = try await events(f, "--instance", "search")
                    return told.map(\.count).reduce(0, +) >= 1400 * rounds
                }
            } while !told.contains { $0.reason == "many-places" } && rounds < 10
            #expect(told.map(\.count).reduce(0, +) == 1400 * rounds)
            let many = told.filter { $0.reason == "many-places" }
            #expect(!many.isEmpty)
            for event in many {
                let places = try #require(event.places)
                #expect(places > 0 && places <= event.count && places <= 700, "\(event)")
                #expect(
                    event.message == "what goes to \(places) other place\(places == 1 ? "" : "s") is refused",
                    "\(event)")
            }
            #expect(told.allSatisfy { ($0.places != nil) == ($0.reason == "many-places") })
            let log = try await f.succeed("logs", "search")
            #expect((log.out + log.err).contains("is refused (many-places), "), "\(log)")
        }
    }
}
