import AegisIO
import AegisJSON
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

@testable import AegisClient
@testable import aegis

/// `up`, `down` and `status`, with a shell script in the place of aegisd.
@Suite struct DaemonFlowTests {
    /// A folder with a copy of the real `aegis` and a script as its `aegisd`.
    private func withScript<R: Sendable>(
        _ script: String, _ body: @escaping @Sendable (Program, String) async throws -> R
    ) async throws -> R {
        let directory = try TemporaryDirectory()
        let folder = directory.path
        try Files.makeDirectories(folder + "/bin")
        try Files.makeDirectories(folder + "/home")
        return try await onLoop { loop in
            var program = try Program(home: folder + "/home", loop: loop)
            try await install(program.path, as: folder + "/bin/aegis", on: loop)
            program.path = folder + "/bin/aegis"
            try await writeProgram(folder + "/bin/aegisd", "#!/bin/sh\n\(script)\n", on: loop)
            let result = try await body(program, folder + "/home")
            withExtendedLifetime(directory) {}
            return result
        }
    }

    /// Copies a program by another process: see `writeProgram`.
    private func install(_ program: String, as path: String, on loop: EventLoop) async throws {
        try await shell("cp \"$1\" \"$2.new\" && mv \"$2.new\" \"$2\"", [program, path], on: loop)
    }

    private func shell(_ script: String, _ words: [String], on loop: EventLoop) async throws {
        let spec = ProcessSpec(
            executable: "/bin/sh", arguments: ["sh", "-c", script, "sh"] + words, environment: ["PATH=/usr/bin:/bin"])
        let (status, _, errors) = try await runProcess(spec, on: loop)
        try #require(status.isSuccess, "\(String(decoding: errors, as: UTF8.self))")
    }

    private static func status(_ pid: Int32, _ home: String) -> String {
        #"{"version":"9.9","pid":\#(pid),"node":"12345678","home":"\#(home)","run_directory":"/run/x","socket":"\#(home)/aegisd.sock","#
            + #""ports":{},"started_at":"2026-11-20T10:00:00.000Z","instances":{},"backends":[]}"#
    }

    @Test func anEarlyDeathShowsTheEndOfTheLog() async throws {
        try await withScript("echo old line >&2; echo cannot bind port 8080 >&2; exit 1") { aegis, home in
            try Files.writeAtomically(home + "/aegisd.log", Array("from an earlier start\n".utf8))
            let result = try await aegis("up")
            #expect(result.code == 1 && result.out == "")
            #expect(result.err.contains("aegisd ended at once (exit code 1) (daemon-not-started)"))
            #expect(result.err.contains("cannot bind port 8080") && !result.err.contains("earlier start"))
        }
    }

    @Test func anErrorObjectIsPassedOn() async throws {
        let error =
            #"{"error":{"code":"port-in-use","message":"port 8080 is taken by nginx (pid 7)","hint":"aegis up --ports auto"}}"#
        try await withScript("echo '\(error)' >&3; exec 3>&-; sleep 100") { aegis, _ in
            let result = try await aegis("up")
            #expect(result.code == 1)
            #expect(
                result.err
                    == "aegis: port 8080 is taken by nginx (pid 7) (port-in-use)\n  hint: aegis up --ports auto\n")
        }
    }

    @Test func theKindOfAnErrorIsTheExitCode() async throws {
        let error = #"{"error":{"code":"invalid-config","kind":"usage","message":"a.yaml:1:1: no"}}"#
        try await withScript("echo '\(error)' >&3; exit 2") { aegis, _ in
            let result = try await aegis("up")
            #expect(result.code == 2 && result.err == "aegis: a.yaml:1:1: no (invalid-config)\n")
        }
    }

    @Test func aRelativeHomeIsHandedOnAsAnAbsoluteOne() async throws {
        try await withScript("echo \"home $AEGIS_HOME\" >&2; exit 1") { aegis, home in
            let result = try await aegis("up", variables: ["AEGIS_HOME=./x/../x"])
            #expect(result.err.contains("home \(home)/x/../x\n"), "\(result.err)")
            #expect(Files.exists(home + "/x/aegisd.log"))
        }
    }

    @Test func upWaitsForReadinessAndHandsOptionsOn() async throws {
        let script = """
            echo "$$ $* session=$(ps -o sid= -p $$ | tr -d ' ')" > "$AEGIS_HOME/started"
            read line < "$AEGIS_HOME/go"
            echo ready >&3
            exec 3>&-
            exec sleep 1000
            """
        try await withScript(script) { aegis, home in
            try Files.makeFIFO(home + "/started")
            try Files.makeFIFO(home + "/go")
            // Opened for both directions so that neither side waits for the other to open.
            let started = try FileStream(FileDescriptor.open(home + "/started", [.readWrite]), on: aegis.loop)
            let go = try FileStream(FileDescriptor.open(home + "/go", [.readWrite]), on: aegis.loop)
            let up = Task { try await aegis("up", "--ports", "auto", "--config", "c.yaml") }
            var buffer = ByteBuffer()
            while buffer.firstOffset(of: 10) == nil { _ = try await started.read(into: &buffer) }
            let line = String(decoding: buffer.readable.dropLast(), as: UTF8.self)
            let pid = try #require(Int32(line.prefix { $0.isNumber }))
            #expect(line == "\(pid) --config c.yaml --ports auto session=\(pid)")
            let process = try ProcessHandle(pid: pid)
            var script = ScriptedDaemon.Script()
            script.answers["GET /v1/status"] = (200, Self.status(pid, home))
            let result = try await ScriptedDaemon.serve(script, at: home + "/aegisd.sock", on: aegis.loop) {
                try await go.write("go\n")
                return try await up.value
            }
            try process.signal(9)
            #expect(result.code == 0 && result.out == "aegisd 9.9 is ready (pid \(pid), \(home)/aegisd.sock)\n")
        }
    }

    @Test func upSaysWhenItRunsAlready() async throws {
        try await withScript("echo must not run >> \"$AEGIS_HOME/ran\"") { aegis, home in
            var script = ScriptedDaemon.Script()
            script.answers["GET /v1/status"] = (200, Self.status(42, home))
            let result = try await ScriptedDaemon.serve(script, at: home + "/aegisd.sock", on: aegis.loop) {
                try await aegis("up")
            }
            #expect(result.code == 0 && result.out == "aegisd 9.9 is already running (pid 42, \(home)/aegisd.sock)\n")
            #expect(!Files.exists(home + "/ran"))
        }
    }

    @Test func aHomeThatCannotBeUsedIsNamed() async throws {
        try await withScript("exit 0") { aegis, home in
            try Files.writeAtomically(home + "/file", [])
            let result = try await aegis("up", variables: ["AEGIS_HOME=\(home)/file/x"])
            #expect(result.code == 1 && result.err.contains("(home-not-usable)"))
            #expect(try await aegis("up", "--ports", "8080").code == 2)
        }
    }

    @Test func aMissingDaemonIsNamed() async throws {
        try await withScript("exit 0") { aegis, _ in
            try Files.removeFile(Files.split(aegis.path).directory + "/aegisd")
            let result = try await aegis("up")
            #expect(result.code == 1 && result.err.contains("(daemon-not-found)"))
        }
    }

    @Test func daemonReplacesItself() async throws {
        try await withScript("echo \"in its place: $*\"; exit 7") { aegis, _ in
            let result = try await aegis("daemon", "--config", "x.yaml")
            #expect(result.code == 7 && result.out == "in its place: --config x.yaml\n")
        }
    }

    @Test func downAsksAndWaitsForTheEnd() async throws {
        try await withScript("exit 0") { aegis, home in
            let sleeper = try ChildProcess.spawn(
                ProcessSpec(executable: "/bin/sleep", arguments: ["sleep", "1000"], newSession: true), on: aegis.loop)
            var script = ScriptedDaemon.Script()
            script.answers["GET /v1/status"] = (200, Self.status(sleeper.pid, home))
            script.handlers["POST /v1/shutdown"] = { _, writer in
                try await writer.respond(200, body: Array("{}".utf8))
                sleeper.signal(15)
            }
            let result = try await ScriptedDaemon.serve(script, at: home + "/aegisd.sock", on: aegis.loop) {
                try await aegis("down")
            }
            #expect(result.code == 0 && result.out == "aegisd stopped (pid \(sleeper.pid))\n")
            #expect(sleeper.exitStatus == .signalled(15))
        }
    }

    @Test func downClearsWhatADeadDaemonLeft() async throws {
        try await withScript("exit 0") { aegis, home in
            #expect(try await aegis("down").out == "aegisd is not running\n")
            try Files.writeAtomically(home + "/aegisd.pid", Array("999999999\n".utf8))
            try Listener.unix(path: home + "/aegisd.sock", on: aegis.loop).close()
            let result = try await aegis("down")
            #expect(result.code == 0 && result.out == "aegisd is not running (what an earlier one left was removed)\n")
            #expect(!Files.exists(home + "/aegisd.pid") && !Files.exists(home + "/aegisd.sock"))
        }
    }

    @Test(arguments: ["1\n", "0\n", "-1\n", "self\n"])
    func downNeverSignalsAProcessThatIsNotADaemon(_ pid: String) async throws {
        try await withScript("exit 0") { aegis, home in
            let text = pid == "self\n" ? "\(CurrentProcess.pid)\n" : pid
            try Files.writeAtomically(home + "/aegisd.pid", Array(text.utf8))
            let result = try await aegis("down")
            #expect(result.code == 0 && result.out.contains("is not running"))
        }
    }

    @Test func aDaemonWithoutItsSocketIsStoppedByItsPid() async throws {
        try await withScript("exec sleep 1000") { aegis, home in
            // The name in /proc must be the daemon's: a program called aegisd that sleeps.
            let path = Files.split(aegis.path).directory + "/aegisd"
            try await install("/bin/sleep", as: path, on: aegis.loop)
            let daemon = try ChildProcess.spawn(
                ProcessSpec(executable: path, arguments: ["aegisd", "1000"], newSession: true), on: aegis.loop)
            try Files.writeAtomically(home + "/aegisd.pid", Array("\(daemon.pid)\n".utf8))
            let result = try await aegis("down")
            #expect(
                result.code == 0 && result.out == "aegisd stopped (pid \(daemon.pid); it did not listen any more)\n")
            #expect(try await daemon.wait() == .signalled(15))
        }
    }

    @Test func aDaemonThatHasEndedButWasNotFetchedDoesNotRun() async throws {
        try await withScript("exit 0") { aegis, home in
            let path = Files.split(aegis.path).directory + "/aegisd"
            try await install("/bin/sleep", as: path, on: aegis.loop)
            // The shell becomes a program that never asks for its child.
            let parent = try ChildProcess.spawn(
                ProcessSpec(
                    executable: "/bin/sh",
                    arguments: ["sh", "-c", "'\(path)' 0 & echo $! > '\(home)/aegisd.pid'; exec sleep 1000"],
                    newSession: true), on: aegis.loop)
            let deadline = ContinuousClock.now + .seconds(180)
            while try !isZombie(home + "/aegisd.pid") {
                try #require(ContinuousClock.now < deadline)
                try await Task.sleep(for: .milliseconds(5))
            }
            let result = try await aegis("down")
            #expect(result.code == 0 && result.out.hasPrefix("aegisd is not running"), "\(result.out)")
            parent.signal(9)
            _ = try await parent.wait()
        }
    }

    private func isZombie(_ file: String) throws -> Bool {
        guard let pid = try? Files.read(file, limit: 64), !pid.isEmpty else { return false }
        let number = String(decoding: pid.prefix { $0 > 32 }, as: UTF8.self)
        guard let stat = try? Files.read("/proc/\(number)/stat", limit: 4096) else { return false }
        return String(decoding: stat, as: UTF8.self).contains("(aegisd) Z")
    }

    @Test func aHomeThatOthersCanChangeIsRefusedAndOneThatTheyCanReadIsClosed() async throws {
        try await withScript("exit 1") { aegis, home in
            for mode: UInt32 in [0o777, 0o770, 0o702] {
                try Files.setPermissions(home, mode)
                let result = try await aegis("up")
                #expect(result.code == 1 && result.err.contains("(home-unsafe)"), "\(result.err)")
                #expect(result.err.contains("chmod 700 \(home)") && !Files.exists(home + "/aegisd.log"))
                #expect(try Files.status(home).permissions == mode)
            }
            // Not a daemon's: closing it would take what is in it away from somebody.
            try Files.setPermissions(home, 0o755)
            try Files.writeAtomically(home + "/letters", [])
            #expect(try await aegis("up").err.contains("(home-unsafe)"))
            #expect(try Files.status(home).permissions == 0o755)
            try Files.writeAtomically(home + "/aegis-config.yaml", [])
            let closed = try await aegis("up")
            #expect(
                closed.err.contains("mode 0755); its mode is 0700 now") && closed.err.contains("daemon-not-started"))
            #expect(try Files.status(home).permissions == 0o700)
            try Files.setOwner(home, user: 4321, group: 4321)
            let foreign = try await aegis("up")
            #expect(foreign.code == 1 && foreign.err.contains("belongs to uid 4321"), "\(foreign.err)")
            try Files.setOwner(home, user: 0, group: 0)
        }
    }

    @Test func statusWithoutADaemonEndsWith3() async throws {
        try await withScript("exit 0") { aegis, home in
            let result = try await aegis("status")
            #expect(result.code == 3 && result.out == "")
            #expect(
                result.err
                    == "aegis: aegisd is not running (nobody listens on \(home)/aegisd.sock) (daemon-not-running)\n  hint: start it with: aegis up\n"
            )
            let json = try await aegis("status", "--output", "json")
            #expect(json.code == 3 && json.err.contains(#""code": "daemon-not-running""#))
            let doctor = try await aegis("doctor")
            #expect(doctor.code == 3, "\(doctor)")
            for program in ["runc", "skopeo", "nft", "nsenter", "mkfs.btrfs"] {
                #expect(doctor.out.contains("  \(program) "), "\(doctor)")
            }
        }
    }
}
