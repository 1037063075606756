import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Clients that wait for a server which does not come: for how long, and how many of them.
@Suite struct ServeLimitTests {
    /// Says nothing, and prints how its connection ends.
    private static let silent = """
        import socket, sys
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
            try: print("end" if s.recv(1) == b"" else "bytes")
            except ConnectionResetError: print("reset")
        """

    /// Starts an instance whose server does not come before there is a file.
    private func start(_ f: DaemonFixture, _ name: String, _ backend: String, _ specs: [String], _ more: String...)
        async throws
    {
        let script = """
            until [ -e /tmp/go ]; do sleep 0.1; done
            echo hello > /tmp/index.html; cd /tmp; python3 -m http.server 7 & exec python3 -m http.server 80
            """
        try await f.succeed(
            words: ["instance", "start", "--name", name, "--isolation", backend] + specs.flatMap { ["--expose", $0] }
                + more
                + ["--", "sh", "-c", script])
    }

    /// A tcp client is held in silence, and reset when its time is over: the port's own, or 30 s after a wake and 10 s where the
    /// instance runs already. The daemon's log says which it was.
    @Test(arguments: backends) func aTCPClientIsHeldInSilenceAndThenReset(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "silent-\(backend)"
            try await start(f, name, backend, ["7:tcp", "8:tcp,wait=1s"])
            let (usual, own) = (try await f.number(name, 7), try await f.number(name, 8))
            func told(_ port: Int, _ seconds: Int) throws -> Int {
                let log = try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8)
                let words = "port \(port) of \(name) was not ready within \(seconds).0 seconds"
                return log.split(separator: "\n").count { $0.contains(words) }
            }
            for (isStopped, seconds, times) in [(true, 30, 1), (false, 10, 2)] {
                if isStopped { try await f.succeed("instance", "stop", name) }
                let client = try f.begin(program: "/usr/bin/python3", ["-c", Self.silent, usual])
                try await f.eventually("it is held") { try await f.served(name).connections >= 1 }
                // While it boots, who waits for a second may be told of the boot instead of the server.
                try await f.eventually("it runs") { try await f.record(name).state == "running" }
                let hurried = try await f.run("/usr/bin/python3", ["-c", Self.silent, own])
                #expect(hurried.out == "reset\n", "\(hurried)")
                try await f.eventually("its cause is told") { try told(8, 1) == times }
                let end = try await client.result()
                #expect(end.out == "reset\n", "\(end)")
                try await f.eventually("the cause is told") { try told(7, seconds) == 1 }
                #expect(try await f.record(name).state == "running")
                try await f.eventually("nobody is held") { try await f.served(name).connections == 0 }
            }
            try await f.succeed("instance", "delete", name)
        }
    }

    /// As many as may wait do, on each kind of port, while a stopped instance starts whose server does not come; every other one is
    /// told so in the words of its protocol. When they have gone there is room for as many again.
    @Test(arguments: backends) func moreThanMayWaitAreRefused(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await start(
                f, "full", backend, ["80:http,wait=1h", "7:tcp,wait=1h", "50:grpc,wait=1h"], "--idle-pause", "100ms",
                "--idle-stop", "0s")
            try await f.succeed("instance", "stop", "full")
            let expected = [
                ("http", 80, "16 503 too-many-waiting\n"), ("tcp", 7, "16 reset\n"),
                ("grpc", 50, "16 status 14 too-many-waiting\n"),
            ]
            for _ in 0..<2 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for (kind, guest, said) in expected {
                        let port = try await f.number("full", guest)
                        group.addTask {
                            let heard = try await f.peer("limit_peer", kind, port, "1024")
                            #expect(heard == said)
                        }
                    }
                    try await group.waitForAll()
                }
                try await f.eventually("nobody is counted") { try await f.served("full").connections == 0 }
                // Whoever were counted still would keep it awake.
                try await f.eventually("it sleeps") { try await f.record("full").state == "paused" }
            }
            try await f.succeed("exec", "full", "--", "touch", "/tmp/go")
            for guest in [80, 7] {
                #expect(try await f.get("http://127.0.0.1:\(try await f.number("full", guest))/") == "hello\n")
            }
        }
    }
}
