import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@Suite struct ImageTests {
    /// What the image says is honoured as docker does.
    @Test(arguments: backends) func anImagesConfigurationIsHonoured(_ backend: String) async throws {
        try await withRegistry { f, registry in
            try await registry.push(
                "app:1",
                config:
                    #""Entrypoint":["/bin/echo","entry"],"Cmd":["cmd"],"Env":["FROM=image","KEEP=1"],"User":"app","WorkingDir":"/srv/work""#,
                """
                \(Registry.busybox) echo root:x:0:0::/:/bin/sh > etc/passwd; echo app:x:1500:1600::/:/bin/sh >> etc/passwd
                mkdir -p srv/work; chown 1500:1600 srv/work
                """)
            let image = registry.name("app:1")
            func run(_ arguments: String...) async throws -> CommandResult {
                try await f.run(DaemonFixture.cli, ["run", "--isolation", backend, "--image", image] + arguments)
            }
            let plain = try await run()
            #expect(plain.code == 0 && plain.out == "entry cmd\n" && plain.err.isEmpty, "\(plain)")
            let given = try await run("--", "other", "words")
            #expect(given.out == "entry other words\n", "\(given)")
            try await registry.push(
                "app:2",
                config:
                    #""Cmd":["/bin/sh","-c","id -u; id -g; pwd; echo $FROM $KEEP"],"Env":["FROM=image","KEEP=1"],"User":"1500:1600","WorkingDir":"/srv/work""#,
                "\(Registry.busybox) mkdir -p srv/work")
            let second = try await f.aegis(
                "run", "--isolation", backend, "--image", registry.name("app:2"), "--env", "FROM=given")
            #expect(second.out == "1500\n1600\n/srv/work\ngiven 1\n", "\(second)")
            let over = try await f.aegis(
                "run", "--isolation", backend, "--image", registry.name("app:2"), "--user", "0", "--workdir", "/tmp")
            #expect(over.out == "0\n0\n/tmp\nimage 1\n", "\(over)")
            // A program of another C library than the host's: only its own loader can run it.
            try await registry.push(
                "musl:1", config: #""Cmd":["/hello"]"#,
                """
                mkdir -p lib; cp /lib/ld-musl-*.so.1 lib/ 2>/dev/null || cp /usr/lib/*-linux-musl/libc.so lib/ld-musl-x86_64.so.1
                printf '#include <stdio.h>\\nint main(void){puts("from musl");return 5;}' > h.c; musl-gcc -o hello h.c; rm h.c
                """)
            let musl = try await f.aegis("run", "--isolation", backend, "--image", registry.name("musl:1"))
            #expect(musl.code == 5 && musl.out == "from musl\n", "\(musl)")
        }
    }

    @Test func pullPoliciesListDeleteAndPrune() async throws {
        try await withRegistry { f, registry in
            let make = { (text: String) in "\(Registry.busybox) echo \(text) > v" }
            try await registry.push("app:1", config: #""Cmd":["/bin/cat","/v"]"#, make("first"))
            let image = registry.name("app:1")
            func run(_ policy: String) async throws -> CommandResult {
                try await f.aegis("run", "--isolation", "runc", "--pull", policy, "--image", image)
            }
            let never = try await run("never")
            #expect(never.code == 125 && never.err.contains("image-not-here"), "\(never)")
            #expect(try await run("if-not-present").out == "first\n")
            try await registry.push("app:1", config: #""Cmd":["/bin/cat","/v"]"#, make("second"))
            #expect(try await run("never").out == "first\n")
            #expect(try await run("if-not-present").out == "first\n")
            #expect(try await run("always").out == "second\n")
            let bad = try await run("sometimes")
            #expect(bad.code == 2, "\(bad)")
            let pulled = try await f.aegis("image", "pull", image)
            #expect(pulled.code == 0 && pulled.out.contains(image) && pulled.out.contains("sha256:"), "\(pulled)")
            let list = try await f.aegis("image", "list", "--quiet")
            #expect(list.out == "\(image)\nbase\n", "\(list)")

            // What an instance uses stays, also when it is stopped.
            try #require(
                await f.aegis(
                    "run", "-d", "--name", "user", "--isolation", "runc", "--image", image, "--", "/bin/sleep", "600"
                ).code == 0)
            for state in ["running", "stopped"] {
                if state == "stopped" { try #require(await f.aegis("instance", "stop", "user").code == 0) }
                let used = try await f.aegis("image", "delete", image)
                #expect(used.code == 5 && used.err.contains("in use"), "\(state) \(used)")
                let kept = try await f.aegis("image", "prune")
                #expect(kept.code == 0 && kept.out.hasPrefix("Removed 0 images"), "\(state) \(kept)")
            }
            try #require(await f.aegis("instance", "start", "user").code == 0)
            try #require(await f.aegis("instance", "delete", "user").code == 0)
            try await registry.push("app:3", make("third"))
            try #require(await f.aegis("image", "pull", registry.name("app:3")).code == 0)
            let gone = try await f.aegis("image", "delete", registry.name("app:3"))
            #expect(gone.code == 0, "\(gone)")
            let again = try await f.aegis("image", "delete", registry.name("app:3"))
            #expect(again.code == 4, "\(again)")
            // A run that has returned uses nothing any more, whatever is still being removed of it.
            for _ in 0..<5 {
                try await f.succeed("run", "--isolation", "runc", "--image", registry.name("app:3"), "--", "/bin/true")
                try await f.succeed("image", "delete", registry.name("app:3"))
            }
            let pruned = try await f.aegis("image", "prune")
            #expect(pruned.code == 0 && pruned.out.hasPrefix("Removed 1 image"), "\(pruned)")
            #expect(try await f.aegis("image", "list", "--quiet").out == "base\n")
            #expect(try await f.aegis("run", "--", "echo", "base works").out == "base works\n")
        }
    }

    @Test func whatIsWrongWithAnImageIsSaid() async throws {
        try await withRegistry { f, registry in
            let layer = try await registry.push("app:1", config: #""Cmd":["/bin/true"]"#, Registry.busybox)
            func fails(_ image: String, _ code: String, exit: Int32 = 125) async throws {
                let r = try await f.aegis("run", "--isolation", "runc", "--image", image, "--", "/bin/true")
                #expect(r.code == exit && r.err.contains(code), "\(image) \(r)")
                let pull = try await f.aegis("image", "pull", image)
                #expect(pull.code != 0 && pull.err.contains(code), "\(image) \(pull)")
            }
            try await fails("Bad Name!", "invalid-argument", exit: 2)
            try await fails(registry.name("app:nope"), "image-not-found")
            try await fails(registry.name("nobody/app:1"), "image-not-found")
            try await fails(registry.name("app@sha256:\(String(repeating: "0", count: 64))"), "image-not-found")
            try await fails("127.0.0.1:1/app:1", "registry-unreachable")
            // The registry holds other bytes than the manifest says: of the same length, then cut.
            let whole = try #require(FileManager.default.contents(atPath: registry.blob(layer)))
            var damaged = whole
            damaged[whole.count / 2] ^= 0xff
            try damaged.write(to: URL(fileURLWithPath: registry.blob(layer)))
            try await fails(registry.name("app:1"), "digest-mismatch")
            try whole.write(to: URL(fileURLWithPath: registry.blob(layer)))
            let good = try await f.aegis("run", "--isolation", "runc", "--image", registry.name("app:1"))
            #expect(good.code == 0, "\(good)")
            // Instances that came to nothing are gone; what the good one left goes behind its answer.
            #expect(try await f.aegis("instance", "list", "--output", "json").out == "[]\n")
            try await f.eventually("nothing is left") {
                try await f.shell("ls home/instances home/workspaces home/logs").out.contains("i-") == false
            }
        }
    }

    /// The password of the user is "secret".
    private static let users = "user:$2y$05$Ap4D6PBvWLGXOIyhJ1H5v.3imXNiA5Oa2b5I0sJwC3d.TPX4mLGJG\n"

    @Test func aPrivateImageNeedsCredentials() async throws {
        try await withRegistry(users: Self.users) { f, registry in
            try await registry.push(
                "app:1", config: #""Cmd":["/bin/echo","private"]"#, credentials: "user:secret", Registry.busybox)
            let image = registry.name("app:1")
            let denied = try await f.aegis("run", "--image", image)
            #expect(denied.code == 125 && denied.err.contains("image-auth-required"), "\(denied)")
            try await f.aegis("down")
            try f.file(
                f.path("auth.json"), #"{"auths":{"127.0.0.1:\#(registry.port)":{"auth":"dXNlcjpzZWNyZXQ="}}}"#,
                mode: 0o600)
            try f.file(
                "\(f.home)/aegis-config.yaml",
                """
                apiVersion: 100monkeys.ai/v1
                kind: NodeConfig
                metadata: { name: test }
                spec:
                  registries:
                    - { name: "127.0.0.1:\(registry.port)", insecure: true, auth_file: "\(f.path("auth.json"))" }

                """)
            try await f.up()
            let good = try await f.aegis("run", "--isolation", "runc", "--image", image)
            #expect(good.out == "private\n", "\(good)")
        }
    }

    /// Many runs of one new image fetch it once; a slow pull holds up nobody else; ^C and kill -9 leave nothing half done.
    @Test func aSlowPullIsSharedCancelledAndSurvived() async throws {
        try await withRegistry { f, registry in
            try await registry.push(
                "big:1", config: #""Cmd":["/bin/echo","big"]"#,
                "\(Registry.busybox) head -c 3000000 /dev/urandom > noise")
            let store = "cd home/images; find . -mindepth 1 | sort"
            let before = try await f.shell(store).out
            for verb in ["run", "pull"] {
                let link = try SlowLink(before: registry, bytes: 1_000_000, on: f.loop)
                try await link.during {
                    let image = "127.0.0.1:\(try link.port)/big:1"
                    let words = verb == "run" ? ["run", "--image", image] : ["image", "pull", image]
                    var spec = ProcessSpec(
                        executable: DaemonFixture.cli, arguments: [DaemonFixture.cli] + words,
                        environment: f.environment)
                    spec.parentDeathSignal = 9
                    let child = try await ChildProcess.spawnInBackground(spec, on: f.loop)
                    await link.stalled()
                    let other = try await f.aegis("run", "--", "echo", "meanwhile")
                    #expect(other.out == "meanwhile\n", "\(other)")
                    child.signal(2)
                    let end = try await child.wait()
                    #expect(end.shellCode == 130, "\(verb) \(end)")
                    var now = ""
                    for _ in 0..<100 {
                        now = try await f.shell("\(store); ls ../instances").out
                        if now == before { break }
                        try await f.loop.clock.sleep(for: .milliseconds(100))
                    }
                    #expect(now == before, "after ^C on \(verb)")
                    #expect(try await f.aegis("instance", "list", "--output", "json").out == "[]\n")
                }
            }
            let link = try SlowLink(before: registry, bytes: 1_000_000, on: f.loop)
            try await link.during {
                let image = "127.0.0.1:\(try link.port)/big:1"
                let waiting = Task { try await f.aegis("image", "pull", image) }
                await link.stalled()
                let pid = try #require(f.daemonPid)
                kill(pid, 9)
                let lost = try await waiting.value
                #expect(lost.code != 0, "\(lost)")
                try await f.up()
                let now = try await f.shell(store).out
                #expect(now == before, "after kill -9")
                link.open()
                let runs = try await withThrowingTaskGroup(of: CommandResult.self) { group in
                    for _ in 0..<4 {
                        group.addTask { try await f.aegis("run", "--isolation", "runc", "--image", image) }
                    }
                    return try await group.reduce(into: []) { $0.append($1) }
                }
                for run in runs { #expect(run.out == "big\n", "\(run)") }
            }
        }
    }
}
