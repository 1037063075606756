import AegisCore
import AegisIO
import AegisTar
import AegisTestSupport
import AegisWire
import LinuxSys
import Testing

@testable import AegisClient
@testable import aegis

/// Everything but `run`, `exec` and `attach`: the real binary against a scripted daemon.
@Suite struct CommandFlowTests {
    private static let record =
        #"{"id":"i-0123456789abcdef","name":"web","state":"running","enabled":true,"image":"base","#
        + #""command":["x"],"mounts":[],"expose":[],"secrets":[],"limits":{},"network":"none","connections":0,"labels":{"a":"1"},"#
        + #""owner":0,"file_policy":"mounts","ephemeral":false,"created_at":"2026-11-20T10:00:00.000Z","oom_killed":false,"#
        + #""node":"12345678"}"#

    @Test func aListIsTheArrayInJSONAndFollowsPages() async throws {
        var script = ScriptedDaemon.Script()
        script.handlers["GET /v1/instances"] = { request, writer in
            let page =
                request.query.first("cursor") == nil
                ? #"{"items":[{"id":"i-1","z":1.50}],"next":"c 1"}"# : #"{"items":[{"id":"i-2"}],"next":null}"#
            try await writer.respond(200, body: Array(page.utf8))
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("instance", "list", "--output", "json")
            #expect(
                result.out == """
                    [
                      {
                        "id": "i-1",
                        "z": 1.50
                      },
                      {
                        "id": "i-2"
                      }
                    ]

                    """)
            #expect(daemon.lines.count == 2)
            #expect(try await aegis("instance", "list", "-o", "yaml").out == "- id: i-1\n  z: 1.50\n- id: i-2\n")
        }
    }

    @Test func listFiltersAndQuietPrintsIDs() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["GET /v1/instances"] = (200, #"{"items":[\#(Self.record)],"next":null}"#)
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            #expect(
                try await aegis("instance", "list", "-q", "--state", "running", "--label", "a=1").out
                    == "i-0123456789abcdef\n")
            #expect(try await aegis("instance", "list", "-q", "--state", "stopped").out == "")
            #expect(try await aegis("instance", "list", "-q", "--label", "b").out == "")
            let wrong = try await aegis("instance", "list", "--state", "runing")
            #expect(wrong.code == 2 && wrong.err.contains("did you mean 'running'?"))
            #expect(try await aegis("instance", "info", "web").code == 4)
        }
    }

    /// The daemon has waited long enough for a terminal that was stopped, or it is gone: what came of the turn is to be found.
    @Test func anAnswerThatIsCutOffIsToBeFoundLater() async throws {
        let piece = #"{"kind":"agent.delta","agent_id":"a-1","trace_id":"t-1","type":"text","at":0,"text":"half"}"#
        let cut: ScriptedDaemon.Handler = { _, writer in
            var out = try await writer.stream(200)
            try await out.write(Array((piece + "\n").utf8))
        }
        var script = ScriptedDaemon.Script()
        script.handlers["POST /v1/processes/worker/messages"] = cut
        script.handlers["GET /v1/processes/worker/messages/t-1"] = cut
        script.handlers["POST /v1/processes"] = cut
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            for lost in [
                try await aegis("agent", "run", "--stream", "worker", "go"),
                try await aegis("agent", "reply", "--stream", "--wait", "worker", "t-1"),
            ] {
                #expect(lost.out == "half" && lost.code == 1 && lost.err.contains("(connection-lost)"), "\(lost)")
                #expect(lost.err.contains("'aegis agent reply --wait worker t-1' prints what came of it"), "\(lost)")
            }
            let gone = try await aegis("agent", "spawn", "worker", "-m", "go", "--stream")
            #expect(gone.err.contains("'aegis agent logs a-1' has what it said"), "\(gone)")
        }
    }

    @Test func anAnswerOfAnotherReleaseIsNamed() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["GET /v1/instances"] = (200, #"{"items":[{"id":"i-1"}],"next":null}"#)
        script.answers["GET /v1/status"] = (200, "<html>")
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let list = try await aegis("instance", "list")
            #expect(list.code == 1 && list.err.contains("(unreadable-answer)"))
            #expect(try await aegis("status").err.contains("(unreadable-answer)"))
        }
    }

    @Test(arguments: [
        ("stop", "stopped"), ("pause", "paused"), ("resume", "resumed"), ("restart", "restarted"),
        ("enable", "enabled"),
        ("disable", "disabled"),
    ])
    func verbsGoToEachInstanceAndGoOnAfterAFailure(_ verb: String, _ done: String) async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances/a/\(verb)"] = (200, "{}")
        script.answers["POST /v1/instances/b/\(verb)"] = (409, #"{"error":{"code":"busy","message":"b is busy"}}"#)
        script.answers["POST /v1/instances/c/\(verb)"] = (200, "{}")
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let result = try await aegis("instance", verb, "a", "b", "c")
            #expect(
                result.code == 5 && result.out == "a \(done)\nc \(done)\n" && result.err == "aegis: b is busy (busy)\n")
        }
    }

    @Test func startTakesAnExistingInstanceOrMakesANewOne() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances/web/start"] = (200, Self.record)
        script.answers["GET /v1/instances/web"] = (200, Self.record.replacing("\"running\"", with: "\"stopped\""))
        script.answers["POST /v1/instances"] = (201, Self.record)
        script.answers["DELETE /v1/instances/web"] = (200, "{}")
        script.answers["POST /v1/instances/prune"] = (200, #"{"deleted":["i-1"]}"#)
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            #expect(try await aegis("instance", "start", "web").out == "web started (i-0123456789abcdef)\n")
            #expect(
                try await aegis("instance", "start", "--name", "web", "--", "x").out
                    == "web started (i-0123456789abcdef)\n")
            #expect(daemon.seen.last?.body == #"{"name":"web","command":["x"],"start":true}"#)
            #expect(try await aegis("instance", "create", "--", "x").out == "i-0123456789abcdef\n")
            #expect(try await aegis("instance", "delete", "web").out == "web deleted\n")
            #expect(
                try await aegis("instance", "prune", "--stopped-older-than", "12h").out
                    == "Removed 1 stopped instance\n")
            #expect(daemon.lines.last == "POST /v1/instances/prune")
            #expect(daemon.seen.last?.body == #"{"stopped_older_than":"12h"}"#)
            let mixed = try await aegis("instance", "start", "web", "--memory", "1Gi")
            #expect(mixed.code == 2 && mixed.err.contains("--memory is for a new instance"))
            #expect(try await aegis("instance", "start").code == 2)
        }
    }

    @Test(arguments: [("running", "is already running"), ("paused", "resumed"), ("starting", "started")])
    func aStartThatHadNothingToDoSaysSo(_ state: String, _ said: String) async throws {
        var script = ScriptedDaemon.Script()
        script.answers["POST /v1/instances/web/start"] = (200, Self.record)
        script.answers["GET /v1/instances/web"] = (200, Self.record.replacing("\"running\"", with: "\"\(state)\""))
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            #expect(try await aegis("instance", "start", "web").out == "web \(said) (i-0123456789abcdef)\n")
            #expect(try await aegis("instance", "start", "web", "--quiet").out == "i-0123456789abcdef\n")
        }
    }

    @Test func logsComeBackAsTheyWereWritten() async throws {
        var script = ScriptedDaemon.Script()
        let records = [
            #"{"ts":"2026-11-20T10:00:00.000Z","stream":"stdout","source":"server","line":"a","partial":true}"#,
            #"{"ts":"2026-11-20T10:00:00.000Z","stream":"stdout","source":"server","line":"b"}"#,
            #"{"ts":"2026-11-20T10:00:00.000Z","stream":"stderr","source":"server","data":"/w=="}"#,
        ]
        script.answers["GET /v1/instances/web/logs"] = (200, records.joined(separator: "\n"))
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("logs", "web", "--follow", "--tail", "5", "--since", "2026-11-20T10:00:00Z")
            #expect(result.code == 0 && result.out == "ab\n" && result.err == "\u{fffd}\n")
            #expect(daemon.lines == ["GET /v1/instances/web/logs?follow=1&since=2026-11-20T10%3A00%3A00.000Z&tail=5"])
            #expect(try await aegis("logs", "web", "-o", "json").out.split(separator: "\n").count == 3)
            #expect(try await aegis("logs", "web", "--tail", "x").code == 2)
            #expect(try await aegis("logs", "web", "--since", "soon").code == 2)
            #expect(try await aegis("logs", "gone").code == 4)
        }
    }

    @Test func secretsAreSetListedAndDeleted() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["PUT /v1/secrets/K"] = (200, "{}")
        script.answers["DELETE /v1/secrets/K"] = (200, "")
        script.answers["GET /v1/secrets"] = (
            200,
            #"{"items":[{"name":"K","created_at":"2026-11-20T10:00:00.000Z","updated_at":"2026-11-20T10:00:00.000Z"}],"next":null}"#
        )
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            #expect(try await aegis("secret", "set", "K", "v").out == "K set\n")
            #expect(try await aegis("secret", "set", "K", "-", input: "two\nlines\n").code == 0)
            #expect(daemon.seen.map(\.body) == ["v", "two\nlines"])
            #expect(try await aegis("secret", "set", "K", input: "\n").code == 2)
            let large = try await aegis("secret", "set", "K", input: String(repeating: "x", count: 70_000))
            #expect(large.code == 1 && large.err.contains("(secret-too-large)"))
            #expect(try await aegis("secret", "list", "-q").out == "K\n")
            #expect(try await aegis("secret", "delete", "K").out == "K deleted\n")
        }
    }

    @Test func imagesArePulledBuiltAndRemoved() async throws {
        let image =
            #"{"reference":"x:1","id":"sha256:abc","size":2048,"layers":1,"created_at":"2026-11-20T10:00:00.000Z","in_use":false}"#
        var script = ScriptedDaemon.Script()
        script.handlers["POST /v1/images"] = { request, writer in
            let body = String(decoding: try await request.body.collect(upTo: 1000), as: UTF8.self)
            let known = [
                #"{"reference":"x:1"}"#, #"{"build":"base"}"#, #"{"build":"base","fresh":true}"#,
                #"{"reference":"bad"}"#,
            ]
            #expect(known.contains(body))
            var out = try await writer.stream(200)
            try await out.write(Array("{\"progress\":\"1 of 3\"}\n".utf8))
            let end =
                body.contains("bad")
                ? #"{"error":{"code":"registry-unreachable","message":"no"}}"# : #"{"image":\#(image)}"#
            try await out.write(Array(end.utf8))
            try await out.finish()
        }
        script.answers["DELETE /v1/images/a%2Fb%3A1"] = (200, "{}")
        script.answers["POST /v1/images/prune"] = (200, #"{"references":["x:1"],"layers":1,"bytes":2048}"#)
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            #expect(try await aegis("image", "pull", "x:1").out == "x:1 sha256:abc (2.0 KiB)\n")
            #expect(try await aegis("image", "build", "base", "-q").out == "sha256:abc\n")
            #expect(try await aegis("image", "build", "base", "--fresh", "-q").out == "sha256:abc\n")
            let bad = try await aegis("image", "pull", "bad")
            #expect(bad.code == 1 && bad.err == "aegis: no (registry-unreachable)\n")
            #expect(try await aegis("image", "build", "other").code == 2)
            #expect(try await aegis("image", "delete", "a/b:1").out == "a/b:1 deleted\n")
            #expect(try await aegis("image", "prune").out == "Removed 1 image, 2.0 KiB freed\n")
        }
    }

    @Test func completionAsksTheDaemonForNames() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["GET /v1/instances"] = (
            200, #"{"items":[{"id":"i-1","name":"web"},{"id":"i-2","name":null}],"next":null}"#
        )
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            #expect(try await aegis("__complete", "--", "exec", "").out == "web\ni-2\n")
            #expect(try await aegis("__complete", "--", "run", "--workspace", "").out == ":directories\n")
            for shell in CompletionScripts.shells {
                #expect(try await aegis("completion", shell).out.contains("aegis __complete"))
            }
            #expect(try await aegis("completion", "bsh").err.contains("did you mean 'bash'?"))
        }
    }

    @Test func bashTakesItsScript() async throws {
        try await ScriptedDaemon.run(ScriptedDaemon.Script()) { (_, aegis) async throws in
            let script = """
                PATH="\(Files.split(aegis.path).directory):$PATH"; source <(aegis completion bash)
                COMP_WORDS=(aegis run --isolation run); COMP_CWORD=3; _aegis; echo "${COMPREPLY[@]}"
                """
            let spec = ProcessSpec(
                executable: "/bin/bash", arguments: ["bash", "-c", script],
                environment: ["PATH=/usr/bin:/bin", "HOME=/"])
            let (status, out, _) = try await runProcess(spec, on: aegis.loop)
            #expect(status.isSuccess && String(decoding: out, as: UTF8.self) == "runsc runc\n")
        }
    }

    @Test func errorsKeepTheFormatThatWasAskedFor() async throws {
        try await ScriptedDaemon.run(ScriptedDaemon.Script()) { (_, aegis) async throws in
            #expect(
                try await aegis("rnu", "--output", "json").err.hasPrefix(
                    "{\n  \"error\": {\n    \"code\": \"unknown-command\""))
            let yaml = try await aegis("instance", "info", "x", "-o", "yaml")
            #expect(yaml.err.hasPrefix("error:\n  code: no-route\n"))
            #expect(try await aegis("version", "-o", "json").out == "{\n  \"version\": \"\(Build.version)\"\n}\n")
            #expect(try await aegis("--version").out == "aegis \(Build.version)\n")
        }
    }

    // MARK: Files

    /// Serves a tree of the test as the daemon serves an instance's, and keeps what is put.
    private func files(_ root: String) -> ScriptedDaemon.Script {
        var script = ScriptedDaemon.Script()
        script.handlers["GET /v1/instances/web/files"] = { request, writer in
            let path = root + (request.query.first("path") ?? "")
            guard Files.exists(path) else {
                return try await writer.respond(
                    404, body: Array(#"{"error":{"code":"path-not-found","message":"no"}}"#.utf8))
            }
            let (parent, name) = Files.split(path)
            let producer = try TarProducer(
                root: FileDescriptor.open(parent, [.readOnly, .directory]), path: Array(name.utf8),
                named: Array(name.utf8))
            var out = try await writer.stream(200)
            while let piece = try producer.next() { try await out.write(piece) }
            try await out.finish()
        }
        script.handlers["PUT /v1/instances/web/files"] = { request, writer in
            let directory = try FileDescriptor.open(
                root + (request.query.first("path") ?? ""), [.readOnly, .directory])
            let extractor = TarExtractor(into: directory)
            var buffer = ByteBuffer()
            while try await request.body.read(into: &buffer) > 0 {
                try extractor.consume(buffer.readable)
                buffer.removeAll()
            }
            _ = try extractor.finish()
            try await writer.respond(200, body: Array("{}".utf8))
        }
        return script
    }

    private func text(_ path: String) -> String? {
        (try? Files.read(path, limit: 1000)).map { String(decoding: $0, as: UTF8.self) }
    }

    @Test func cpCopiesFilesAndTreesBothWays() async throws {
        let inside = try TemporaryDirectory()
        try Files.makeDirectories(inside.path("workspace/tree/sub"))
        try Files.writeAtomically(inside.path("workspace/tree/sub/f"), Array("deep".utf8))
        try Files.writeAtomically(inside.path("workspace/one"), Array("1".utf8))
        let root = inside.path
        try await ScriptedDaemon.run(files(root)) { (_, aegis) async throws in
            let here = aegis.home
            #expect(try await aegis("cp", "web:one", ".").err == "/workspace/one -> . (1 file, 1 B)\n")
            #expect(text(here + "/one") == "1")
            #expect(try await aegis("cp", "-q", "web:/workspace/one", "two").err == "" && text(here + "/two") == "1")
            #expect(try await aegis("cp", "web:tree", "copy").code == 0 && text(here + "/copy/sub/f") == "deep")
            #expect(try await aegis("cp", "web:tree", "copy").code == 0 && text(here + "/copy/tree/sub/f") == "deep")
            #expect(try await aegis("cp", "web:tree/.", "copy").code == 0 && text(here + "/copy/sub/f") == "deep")
            #expect(try await aegis("cp", "web:gone", ".").code == 4)
            #expect(try await aegis("cp", "web:one", "no/such/place").code == 4)

            #expect(try await aegis("cp", "copy", "web:up").code == 0 && text(root + "/workspace/up/sub/f") == "deep")
            #expect(try await aegis("cp", "two", "web:/workspace/").code == 0 && text(root + "/workspace/two") == "1")
            #expect(try await aegis("cp", "copy/sub/.", "web:.").code == 0 && text(root + "/workspace/f") == "deep")
            #expect(try await aegis("cp", "two", "web:three").code == 0 && text(root + "/workspace/three") == "1")
            #expect(try await aegis("cp", "missing", "web:x").code == 4)
            #expect(try await aegis("cp", "a", "b").code == 2)
            #expect(try await aegis("cp", "w:a", "w:b").code == 2)
            #expect(try await aegis("cp", "web:one", "-").out.hasPrefix("one"))
        }
        withExtendedLifetime(inside) {}
    }

    @Test func artifactsComeHomeBeforeTheInstanceGoes() async throws {
        let inside = try TemporaryDirectory()
        try Files.makeDirectories(inside.path("workspace/output/sub"))
        try Files.writeAtomically(inside.path("workspace/output/sub/r"), Array("result".utf8))
        try Files.writeAtomically(inside.path("workspace/log"), Array("log".utf8))
        let id = "i-0123456789abcdef"
        var script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.out("done")
            try await frames.write(.exit(0))
        }
        script.handlers["GET /v1/instances/\(id)/files"] = files(inside.path).handlers["GET /v1/instances/web/files"]
        script.answers["DELETE /v1/instances/\(id)"] = (200, "{}")
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let result = try await aegis("run", "--artifacts", "out", "--artifact", "log:kept", "--", "x")
            #expect(result.code == 0 && result.out == "done")
            #expect(
                result.err == """
                    /workspace/output -> \(aegis.home)/out (1 file, 6 B)
                    /workspace/log -> \(aegis.home)/kept (1 file, 3 B)

                    """)
            #expect(text(aegis.home + "/out/sub/r") == "result" && text(aegis.home + "/kept") == "log")
            #expect(daemon.lines[1] == "POST /v1/instances/\(id)/attach?start=1")
            #expect(daemon.seen[0].body.contains(#""linger":true"#))
            #expect(daemon.lines.last == "DELETE /v1/instances/\(id)")
            let missing = try await aegis("run", "--artifact", "nothing", "--", "x")
            #expect(missing.code == 125 && missing.err.contains("(artifact-missing)"))
            #expect(daemon.lines.last == "DELETE /v1/instances/\(id)")
        }
        withExtendedLifetime(inside) {}
    }
}
