import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

@testable import AegisClient
@testable import aegis

/// `run`, `exec` and `attach`: the real binary against a scripted daemon.
@Suite struct RunFlowTests {
    private static let id = "i-0123456789abcdef"

    @Test func runMakesAnEphemeralInstanceAndMirrorsIt() async throws {
        let script = ScriptedDaemon.Script.running { frames, body in
            #expect(body == ["stdin_offset": 0, "stdout_offset": 0, "stderr_offset": 0])
            try await frames.hello()
            try await frames.out("out\u{0}\n")
            try await frames.err("err")
            try await frames.write(.exit(42))
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("run", "--env", "A=1", "--", "python", "a b.py")
            #expect(result.code == 42 && result.out == "out\u{0}\n" && result.err == "err")
            #expect(daemon.lines == ["POST /v1/instances", "POST /v1/instances/\(Self.id)/attach?start=1"])
            let body = try JSONValue(parsing: daemon.seen[0].body.utf8)
            #expect(body == ["command": ["python", "a b.py"], "env": ["A": "1"], "ephemeral": true, "start": false])
        }
    }

    @Test func aWorkspaceIsTheNamedOneAlsoBesideAFolderOfThatName() async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            try Files.makeDirectories("\(aegis.home)/data", mode: 0o755)
            let result = try await aegis("run", "--workspace", "data", "--", "x")
            #expect(result.code == 0 && daemon.seen[0].body.contains(#""workspace":"data""#), "\(result)")
            #expect(
                result.err
                    == "aegis: --workspace data is the workspace of that name; write ./data for the folder\n",
                "\(result)")
            let path = try await aegis("run", "--workspace", "./data", "--", "x")
            #expect(path.err.isEmpty && daemon.seen[2].body.contains(#""workspace":"\#(aegis.home)/data""#), "\(path)")
        }
    }

    @Test func inputIsHandedOnOnlyWhenAskedFor() async throws {
        let echo = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            while let frame = try await frames.readFrame() {
                guard frame.kind == .stdin else { continue }
                try await frames.write(.stdout, frame.payload[...])
                if frame.flags.contains(.end) { break }
            }
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(echo) { (daemon, aegis) async throws in
            let result = try await aegis("run", "-i", "--", "cat", input: "hello\n")
            #expect(result.code == 0 && result.out == "hello\n")
            #expect(daemon.seen[0].body.contains(#""stdin":true"#))
        }
        let deaf = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(deaf) { (_, aegis) async throws in
            #expect(try await aegis("run", "--", "cat", input: "hello\n").out == "")
        }
    }

    @Test func aDetachedRunPrintsTheID() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances"] = (201, #"{"id":"\#(Self.id)","state":"running"}"#)
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("run", "-d", "--name", "web", "--", "serve")
            #expect(result.code == 0 && result.out == Self.id + "\n" && result.err == "")
            #expect(!daemon.seen[0].body.contains("ephemeral"))
            #expect(try await aegis("run", "-d", "-o", "json", "--", "x").out.contains(#""state": "running""#))
        }
    }

    @Test(
        arguments: [
            ("command-not-found", 127), ("command-not-executable", 126), ("image-not-found", 125), ("timeout", 124),
            ("isolation-unavailable", 125),
        ] as [(String, Int32)])
    func errorFramesEndWithTheirCode(_ code: String, _ exit: Int32) async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.write(.error(.failed(code, "it did not work", hint: "try this")))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("run", "--", "x")
            #expect(result.code == exit && result.out == "")
            #expect(result.err == "aegis: it did not work (\(code))\n  hint: try this\n")
        }
    }

    @Test func theBuildOfTheBaseImageIsToldWithoutATerminalToo() async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            for text in ["base: building the base image from the packages of x", "base: I: unpacking", "base: ready"] {
                try await frames.write(.notice(#"{"kind":"pull","text":"\#(text)"}"#))
            }
            try await frames.hello()
            try await frames.out("out\n")
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("run", "--", "x")
            #expect(result.code == 0 && result.out == "out\n")
            #expect(
                result.err == """
                    aegis: building the base image, once; this can take a minute
                    aegis: the base image is ready

                    """)
            #expect(try await aegis("run", "--quiet", "--", "x").err.isEmpty)
        }
    }

    @Test func anImageInPlaceOfTheCommandIsExplained() async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.write(.error(.failed("command-not-found", "no such program in PATH", hint: "old")))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("run", "ubuntu", "bash", "-l")
            #expect(result.code == 127, "\(result)")
            #expect(result.err.hasSuffix("hint: an image is named with --image: aegis run --image ubuntu -- bash -l\n"))
            #expect(try await aegis("run", "python:3.12").err.hasSuffix("aegis run --image python:3.12\n"))
            #expect(try await aegis("run", "--image", "base", "--", "ubuntu").err.hasSuffix("hint: old\n"))
            #expect(try await aegis("run", "--", "no-such").err.hasSuffix("hint: old\n"))
        }
    }

    @Test(arguments: [
        ("ubuntu", true), ("redis:7", true), ("ghcr.io/a/b", true), ("localhost:5000/x", true), ("a/b:1", true),
        ("./a:b", false), ("/bin/sh", false), ("bin/sh", false), ("make", false), ("a:", false), ("a b:c", false),
    ])
    func imagesAreKnownByTheirForm(_ word: String, _ isImage: Bool) { #expect(ImageWord.isLikely(word) == isImage) }

    @Test(
        arguments: [
            (404, "image-not-found", 125), (409, "name-in-use", 125), (400, "invalid-argument", 2),
            (403, "permission-denied", 125),
            (503, "disk-full", 125),
        ] as [(Int, String, Int32)])
    func aRefusedRequestEndsWithItsCode(_ status: Int, _ code: String, _ exit: Int32) async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances"] = (status, #"{"error":{"code":"\#(code)","message":"no","hint":"h"}}"#)
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("run", "--", "x")
            #expect(result.code == exit && result.err == "aegis: no (\(code))\n  hint: h\n")
        }
    }

    @Test func timeoutAndMemoryAreExplained() async throws {
        let timeout = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.write(.exit(143, detail: #"{"reason":"timeout"}"#))
        }
        try await ScriptedDaemon.run(timeout) { (_, aegis) async throws in
            let result = try await aegis("run", "--timeout", "1s", "--", "x")
            #expect(result.code == 124 && result.err.contains("(timeout)"))
        }
        let oom = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.write(.exit(137, detail: #"{"reason":"killed","oom_killed":true}"#))
        }
        try await ScriptedDaemon.run(oom) { (_, aegis) async throws in
            let result = try await aegis("run", "--", "x")
            #expect(result.code == 137 && result.err.contains("(out-of-memory)"))
        }
    }

    @Test func withoutADaemonTheCodeIs125AndTheHintSaysUp() async throws {
        try await onLoop { loop in
            let home = try TemporaryDirectory()
            let aegis = try Program(home: home.path, loop: loop)
            let result = try await aegis("run", "--", "x")
            #expect(
                result.code == 125 && result.err.hasSuffix("(daemon-not-running)\n  hint: start it with: aegis up\n"))
            #expect(try await aegis("instance", "list").code == 3)
            #expect(try await aegis("run", "--bogus", "--", "x").code == 2)
            #expect(try await aegis("exec", "web", "--", "x").code == 125)
        }
    }

    @Test func aFailureThatIsAboutAMissingFileSaysSo() async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.write(.exit(2))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            try Files.writeAtomically(aegis.home + "/a.py", [])
            let result = try await aegis("run", "--", "python", "a.py")
            #expect(
                result.code == 2 && result.err.contains("'a.py' is here, but not in the sandbox: add --workspace ."))
            #expect(try await aegis("run", "--workspace", ".", "--", "python", "a.py").err == "")
            #expect(try await aegis("run", "-q", "--", "python", "a.py").err == "")
        }
    }

    @Test func aLostConnectionIsMadeAgain() async throws {
        let script = ScriptedDaemon.Script.running { frames, body in
            if body["stdout_offset"] == 0 {
                try await frames.hello()
                try await frames.out("first ")
                return
            }
            #expect(body["stdout_offset"] == 6)
            try await frames.write(.hello(#"{"process":"p1","stdin_offset":0,"stdout_offset":6,"stderr_offset":0}"#))
            try await frames.out("second")
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("run", "--", "x")
            #expect(result.code == 0 && result.out == "first second" && result.err == "")
            #expect(daemon.lines.last == "POST /v1/instances/\(Self.id)/attach", "a second start would run it twice")
        }
    }

    @Test func aClosedOutputEndsTheRunQuietly() async throws {
        let left = Signal()
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            let window = CreditGate()
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    while let frame = try? await frames.readFrame() {
                        if let credit = frame.credit { window.add(Int(credit)) }
                    }
                    // The client is gone: the next write says so.
                    window.add(1 << 30)
                }
                repeat { await window.take(2) } while (try? await frames.out("y\n")) != nil
            }
            left.set()
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            var spec = aegis.spec(["run", "--", "yes"])
            spec.stdout = .pipe
            spec.stderr = .pipe
            let child = try ChildProcess.spawn(spec, on: aegis.loop)
            let out = try #require(child.stdout)
            var buffer = ByteBuffer()
            #expect(try await out.read(into: &buffer, atMost: 2) == 2)
            out.close()
            #expect(try await child.wait() == .exited(141))
            #expect(try await child.stderr?.readAll(limit: 1000) == [])
            await left.wait()
        }
    }

    @Test func execSendsTheRequestAndMirrors() async throws {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/exec"] = { frames, body in
            #expect(
                body == ["command": ["ls", "-l"], "env": ["A": "1"], "workdir": "/w", "user": "me", "start": true])
            try await frames.hello()
            try await frames.out("files\n")
            try await frames.write(.exit(1))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis(
                "exec", "--env", "A=1", "-w", "/w", "-u", "me", "--start", "web", "--", "ls", "-l")
            #expect(result.code == 1 && result.out == "files\n")
        }
    }

    @Test(arguments: [false, true]) func anExecIsNeverRepeated(_ started: Bool) async throws {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/exec"] = { frames, _ in if started { try await frames.hello() } }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("exec", "web", "--", "x")
            #expect(result.code == 125 && result.err.contains("(connection-lost)"))
            #expect(daemon.lines == ["POST /v1/instances/web/exec"])
        }
    }

    @Test func execOnAStoppedInstanceIsAConflict() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances/web/exec"] = (
            409, #"{"error":{"code":"instance-stopped","message":"web is stopped","hint":"--start"}}"#
        )
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("exec", "web", "--", "x")
            #expect(result.code == 125 && result.err == "aegis: web is stopped (instance-stopped)\n  hint: --start\n")
        }
    }

    @Test func attachJoinsWithoutOffsets() async throws {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/attach"] = { frames, body in
            #expect(body == [:])
            try await frames.write(.hello(#"{"process":"p","stdin_offset":0,"stdout_offset":900,"stderr_offset":4}"#))
            try await frames.out("now")
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("attach", "web")
            #expect(result.code == 0 && result.out == "now" && result.err == "")
        }
    }

    @Test func aTerminalIsNeededForKeys() async throws {
        try await ScriptedDaemon.run(ScriptedDaemon.Script()) { (daemon, aegis) async throws in
            let result = try await aegis("run", "-it", "--", "sh", input: "x")
            #expect(result.code == 2 && result.err.contains("(not-a-terminal)") && daemon.lines.isEmpty)
        }
    }

    @Test func aMillionLinesComeThroughWhole() async throws {
        let block = (0..<4096).map { "line \($0)\n" }.joined()
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            let window = CreditGate()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    while let frame = try? await frames.readFrame() {
                        if let credit = frame.credit { window.add(Int(credit)) }
                    }
                }
                for _ in 0..<256 {
                    await window.take(block.utf8.count)
                    try await frames.out(block)
                }
                try await frames.write(.exit(0))
                try await group.waitForAll()
            }
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("run", "--", "seq")
            #expect(result.code == 0 && result.out.utf8.count == 256 * block.utf8.count)
            #expect(result.out.hasPrefix(block) && result.out.hasSuffix(block))
        }
    }
}
