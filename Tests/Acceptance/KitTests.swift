import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

extension DaemonFixture {
    /// Makes a kit of the test's own; `files` are beside its manifest.
    func kit(
        _ name: String, version: String = "1.0.0", _ spec: String, files: [String: String] = [:]
    ) throws -> String {
        let folder = path("kits/\(name)-\(version)")
        try Files.makeDirectories(folder)
        let head = "apiVersion: aegis/v1\nkind: Kit\nmetadata: { name: \(name), version: \(version) }\nspec:\n"
        try (head + spec).write(toFile: "\(folder)/kit.yaml", atomically: true, encoding: .utf8)
        for (name, text) in files {
            try Files.makeDirectories(Files.split("\(folder)/\(name)").directory, mode: 0o755)
            try text.write(toFile: "\(folder)/\(name)", atomically: true, encoding: .utf8)
        }
        return folder
    }

    func kitRecord(_ instance: String) async throws -> InstanceInfo {
        let json = try await succeed("instance", "info", instance, "--output", "json")
        return try JSONDecoder().decode(InstanceInfo.self, from: Data(json.stdout))
    }

    fileprivate func kits() async throws -> [KitInfo] {
        try JSONDecoder().decode(
            [KitInfo].self, from: Data(try await succeed("kit", "list", "--output", "json").stdout))
    }

    func kitURL(_ instance: String) async throws -> String {
        try #require(try await kitRecord(instance).expose.first?.url)
    }

    func curl(_ arguments: String...) async throws -> CommandResult {
        try await run("/usr/bin/curl", ["-sS", "--max-time", "90", "--fail-with-body"] + arguments)
    }

    /// POSTs an object and reads the answer.
    func post(_ url: String, _ body: [String: any Sendable]) async throws -> [String: String] {
        let json = String(decoding: try JSONSerialization.data(withJSONObject: body), as: UTF8.self)
        let result = try await curl("-H", "Content-Type: application/json", "-d", json, url)
        try #require(result.code == 0, "\(result)")
        let object = try JSONSerialization.jsonObject(with: Data(result.stdout)) as? [String: Any] ?? [:]
        return object.mapValues { $0 is NSNull ? "null" : "\($0)" }
    }
}

/// Kits of the test's own: installing them, and what becomes of what they say.
@Suite(.serialized) struct KitTests {
    @Test func kitsAreInstalledListedShownAndRemoved() async throws {
        try await DaemonFixture.with { f in
            #expect(try await f.succeed("kit", "list").out == "No kits\n")
            let one = try f.kit(
                "tool", "  command: [cat, /opt/a.txt]\n  files: [{ from: a.txt, to: /opt/a.txt }]\n",
                files: ["a.txt": "one\n"])
            let first = try await f.succeed("kit", "install", one)
            #expect(first.out.hasPrefix("tool@1.0.0 installed (sha256:"), "\(first)")
            // The same again changes nothing; other files of the same version are refused.
            #expect(try await f.succeed("kit", "install", one).out == first.out)
            try "two\n".write(toFile: "\(one)/a.txt", atomically: true, encoding: .utf8)
            try await f.refuse("kit", "install", one, code: 5, error: "kit-exists")
            #expect(try await f.succeed("run", "--kit", "tool").out == "one\n")
            // A higher version beside it is what the name means from now on.
            let two = try f.kit(
                "tool", version: "1.10.0", "  command: [cat, /opt/b/a.txt]\n  files: [{ from: b, to: /opt/b }]\n",
                files: ["b/a.txt": "two\n"])
            try await f.succeed("kit", "install", two)
            #expect(try await f.kits().map { "\($0.name)@\($0.version)" } == ["tool@1.10.0", "tool@1.0.0"])
            #expect(try await f.succeed("run", "--kit", "tool").out == "two\n")
            #expect(try await f.succeed("run", "--kit", "tool@1.0.0").out == "one\n")
            #expect(try await f.succeed("run", "--kit", "tool", "--", "echo", "mine").out == "mine\n")
            // An archive is as good as a folder, with or without a folder around it.
            let digest = try await f.kits().last?.digest
            try await f.succeed("kit", "uninstall", "tool@1.0.0")
            try "one\n".write(toFile: "\(one)/a.txt", atomically: true, encoding: .utf8)
            for arguments in [
                "-czf k.tar.gz -C kits/tool-1.0.0 .", "-cf k.tar -C kits tool-1.0.0",
                "--zstd -cf k.tar.zst -C kits tool-1.0.0",
            ] {
                let made = try await f.shell("tar \(arguments)")
                try #require(made.code == 0, "\(made)")
                let file = try #require(arguments.split(separator: " ").first { $0.hasPrefix("k.tar") })
                try await f.succeed("kit", "install", f.path(String(file)))
                #expect(try await f.kits().last?.digest == digest)
                try await f.succeed("kit", "uninstall", "tool@1.0.0")
            }
            // What an instance uses stays, also over a restart of the daemon.
            try await f.succeed("instance", "create", "--name", "user", "--kit", "tool")
            #expect(try await f.kitRecord("user").kit == "tool@1.10.0")
            let refused = try await f.aegis("kit", "uninstall", "tool")
            #expect(
                refused.code == 5 && refused.err.contains("used by user") && refused.err.contains("(kit-in-use)"),
                "\(refused)")
            try await f.succeed("down")
            try await f.up()
            #expect(try await f.kits().map(\.usedBy) == [["user"]])
            try await f.refuse("kit", "uninstall", "tool", code: 5, error: "kit-in-use")
            try await f.succeed("instance", "delete", "user")
            try await f.succeed("kit", "uninstall", "tool")
            try await f.refuse("kit", "info", "tool", code: 4, error: "kit-not-found")
            try await f.refuse("run", "--kit", "tool", code: 125, error: "kit-not-found")
            #expect(try Files.list("\(f.home)/kits").isEmpty)
        }
    }

    @Test func whatIsNotAKitIsRefusedAndLeavesNothing() async throws {
        try await DaemonFixture.with { f in
            try await f.refuse("kit", "install", f.path("none"), code: 4, error: "path-not-found")
            try Files.makeDirectories(f.path("empty"))
            try await f.refuse("kit", "install", f.path("empty"), code: 2, error: "kit-manifest-missing")
            let wrong = try f.kit("wrong", "  comand: [true]\n")
            let told = try await f.aegis("kit", "install", wrong)
            #expect(
                told.code == 2 && told.err.contains("kit.yaml:5:3") && told.err.contains("did you mean 'command'?"),
                "\(told)")
            let careless = try f.kit("careless", "  image: a b\n  user: 'a:b:c'\n  health: { path: /up }\n")
            let all = try await f.aegis("kit", "install", careless)
            #expect(all.code == 2 && all.err.contains("kit.yaml:5:10: spec.image is wrong: 'a b'"), "\(all)")
            #expect(all.err.contains("kit.yaml:6:9: spec.user is wrong") && all.err.contains("no http port"), "\(all)")
            let linked = try f.kit("linked", "  image: base\n")
            try FileManager.default.createSymbolicLink(atPath: "\(linked)/secret", withDestinationPath: "/etc/shadow")
            try await f.refuse("kit", "install", linked, code: 6, error: "unsafe-entry")
            let special = try f.kit("special", "  image: base\n")
            try Files.makeFIFO("\(special)/pipe")
            try await f.refuse("kit", "install", special, code: 6, error: "unsafe-entry")
            let large = try f.kit("large", "  image: base\n")
            let grown = try await f.shell(
                "truncate -s 65M kits/large-1.0.0/zero; tar -czf large.tar.gz -C kits large-1.0.0")
            try #require(grown.code == 0, "\(grown)")
            try await f.refuse("kit", "install", large, code: 1, error: "archive-too-large")
            try await f.refuse("kit", "install", f.path("large.tar.gz"), code: 1, error: "archive-too-large")
            // Archives that want out, or that are none.
            let hostile = """
                import tarfile, io, sys
                good = b'apiVersion: aegis/v1\\nkind: Kit\\nmetadata: {name: evil, version: 1.0.0}\\n'
                def make(name, *entries):
                    with tarfile.open(name, 'w') as tar:
                        one = tarfile.TarInfo('kit.yaml'); one.size = len(good); tar.addfile(one, io.BytesIO(good))
                        for entry in entries: tar.addfile(entry, io.BytesIO(b'x' * entry.size))
                def file(name, **more):
                    one = tarfile.TarInfo(name); one.size = 1
                    for key, value in more.items(): setattr(one, key, value)
                    return one
                make('up.tar', file('../out'))
                make('abs.tar', file('/tmp/kit-out'))
                make('link.tar', file('l', type=tarfile.SYMTYPE, linkname='/etc', size=0), file('l/kit-out'))
                make('hard.tar', file('h', type=tarfile.LNKTYPE, linkname='kit.yaml', size=0))
                make('device.tar', file('d', type=tarfile.CHRTYPE, devmajor=1, devminor=3, size=0))
                open('noise.tar', 'wb').write(bytes(range(256)) * 64)
                """
            let made = try await f.run("/usr/bin/python3", ["-c", hostile], directory: f.path("."))
            try #require(made.code == 0, "\(made)")
            for (name, code, error) in [
                ("up", 6, "unsafe-path"), ("link", 6, "unsafe-entry"), ("hard", 6, "unsafe-entry"),
                ("device", 6, "unsafe-entry"), ("noise", 1, "bad-archive"),
            ] as [(String, Int32, String)] {
                try await f.refuse("kit", "install", f.path("\(name).tar"), code: code, error: error)
            }
            try f.file(f.path("README.md"), String(repeating: "This is no kit. ", count: 100))
            let text = try await f.aegis("kit", "install", f.path("README.md"))
            #expect(text.code == 1 && text.err.contains("neither a folder nor a whole archive of a kit"), "\(text)")
            let absolute = try await f.aegis("kit", "install", f.path("abs.tar"))
            #expect(absolute.code != 0 && !Files.exists("/tmp/kit-out"), "\(absolute)")
            #expect(try await f.kits().isEmpty)
            #expect(try Files.list("\(f.home)/kits").isEmpty)
        }
    }

    @Test(arguments: backends) func hooksRunInsideAndWhatFailsStopsTheStart(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "hooked",
                """
                  command: [sh, -c, 'echo command; touch /tmp/up; exec sleep 1000']
                  env: { WHO: kit }
                  hooks:
                    before:
                      - { run: [sh, -c, 'echo "before $WHO $(id -u) $(cat /proc/1/comm)"; touch /tmp/first'] }
                      - { run: [sh, -c, 'test -f /tmp/first; echo second'], user: nobody }
                    after:
                      - { run: [sh, -c, 'test -f /tmp/up && echo after'] }
                  health: { exec: [test, -f, /tmp/up], timeout: 20s }

                """)
            try await f.succeed("kit", "install", kit)
            try await f.succeed("instance", "start", "--name", "h", "--kit", "hooked", "--isolation", backend)
            let log = try await f.succeed("logs", "h").out
            #expect(
                log.contains("before kit 0") && log.contains("second") && log.contains("command")
                    && log.contains("after"), "\(log)")
            let order = ["before kit", "second", "command", "after"].map {
                log.range(of: $0)?.lowerBound ?? log.endIndex
            }
            #expect(order == order.sorted(), "\(log)")
            // At every start.
            try await f.succeed("instance", "restart", "h")
            #expect(try await f.succeed("logs", "h").out.components(separatedBy: "second").count == 3)
            try await f.succeed("instance", "delete", "h")

            let bad = try f.kit(
                "bad",
                "  command: [sleep, '1000']\n  hooks: { before: [{ run: [sh, -c, 'echo no such luck >&2; exit 3'] }] }\n"
            )
            try await f.succeed("kit", "install", bad)
            let failed = try await f.aegis("instance", "start", "--name", "b", "--kit", "bad", "--isolation", backend)
            #expect(
                failed.code == 1 && failed.err.contains("exit code 3: no such luck")
                    && failed.err.contains("(hook-failed)"),
                "\(failed)")
            try await f.refuse("instance", "info", "b", code: 4, error: "instance-not-found")
            let slow = try f.kit(
                "slow",
                "  command: [sleep, '1000']\n"
                    + "  hooks: { after: [{ run: [sh, -c, 'echo so far; sleep 1000'], timeout: 3s }] }\n")
            try await f.succeed("kit", "install", slow)
            // What it wrote is said, if it came to that in its time: the instance goes with its log.
            try await f.eventually("it is told what the hook had written") {
                let late = try await f.aegis(
                    "instance", "start", "--name", "s", "--kit", "slow", "--isolation", backend)
                #expect(late.code == 1 && late.err.contains("(hook-timeout)"), "\(late)")
                return late.err.contains("did not end within 3s: so far")
            }
            let ill = try f.kit(
                "ill", "  command: [sleep, '1000']\n  health: { exec: [sh, -c, 'echo not yet; false'], timeout: 10s }\n"
            )
            try await f.succeed("kit", "install", ill)
            let unwell = try await f.aegis("run", "--kit", "ill", "--isolation", backend)
            #expect(unwell.code == 125 && unwell.err.contains("not yet"), "\(unwell)")
            #expect(unwell.err.contains("(not-healthy)"), "\(unwell)")
            // A command that ends before it is healthy has its own end.
            let own = try await f.aegis("run", "--kit", "ill", "--isolation", backend, "--", "sh", "-c", "exit 7")
            #expect(own.code == 7)
        }
    }

    /// What a kit opens is open and nothing else, what it limits is limited, and whoever runs it can close it.
    @Test(arguments: backends) func whatAKitOpensAndLimitsIsSo(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            let kit = try f.kit(
                "egress",
                """
                  command: [sleep, '100000']
                  network: { allow: [web.example] }
                  limits: { cpus: 0.5, memory: 200Mi, pids: 90, timeout: 2h, grace: 1s }
                  grants: ['spawn: *']

                """)
            try await f.succeed("kit", "install", kit)
            let look = NetworkTests.attempts + "\nfor n in 'web', 'other': show(n, lambda: web(n + '.example')[0])"
            for (name, more, web) in [("open", [], "200"), ("closed", ["--network", "none"], "gaierror")]
                as [(String, [String], String)]
            {
                try await f.succeed(
                    words: ["run", "-d", "--name", name, "--kit", "egress", "--isolation", backend] + more)
                let result = try await f.succeed("exec", name, "--", "python3", "-c", look)
                let answers = NetworkTests.answers(result.out)
                #expect(answers["web"]?.hasPrefix(web) == true, "\(name): \(result)")
                #expect(answers["other"]?.hasPrefix("gaierror") == true, "\(name): \(result)")
            }
            let limits = try await f.kitRecord("open").limits
            #expect(limits.cpus == 0.5 && limits.memory?.bytes == 200 << 20 && limits.pids == 90, "\(limits)")
            #expect(limits.timeout?.milliseconds == 7_200_000 && limits.grace?.milliseconds == 1000, "\(limits)")
            #expect(try await f.succeed("kit", "info", "egress").out.contains("web.example"))
            #expect(try await f.succeed("instance", "info", "open").out.contains("200Mi"))
            // It may start others.
            let child = try await f.ask("open", "POST", "/v1/instances", #"{"command": ["sleep", "100000"]}"#)
            #expect(child.hasPrefix("201"), "\(child)")
        }
    }

    @Test(arguments: backends) func theRouterDoesWhatAKitSays(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let server = """
                import http.server
                class Web(http.server.BaseHTTPRequestHandler):
                    def do_GET(self):
                        self.send_response(200); self.send_header("X-Frame-Options", "ALLOW")
                        self.end_headers()
                        self.wfile.write(f"{self.path} {self.headers['X-Kit']}\\n".encode())
                http.server.HTTPServer(("127.0.0.1", 80), Web).serve_forever()

                """
            let kit = try f.kit(
                "routed",
                """
                  command: [python3, /opt/web.py]
                  files: [{ from: web.py, to: /opt/web.py }]
                  expose: ["80:http"]
                  routing:
                    path: /notes
                    health: /up
                    headers: { request: { X-Kit: one }, response: { X-Frame-Options: DENY } }

                """, files: ["web.py": server])
            try await f.succeed("kit", "install", kit)
            let shown = try await f.succeed("kit", "info", "routed").out
            #expect(shown.contains("/notes on the router's port") && shown.contains("X-Frame-Options: DENY"))
            let start = ["instance", "start", "--kit", "routed", "--isolation", backend, "--name"]
            try await f.succeed(words: start + ["web"])
            let status = try await f.shell("$AEGIS status | sed -n 's/^Port router: *//p'").out.dropLast()
            for url in ["http://\(status)/notes/a", "http://\(status)/web/a", try await f.url("web") + "/a"] {
                let answer = try await f.get(url, "-i", "-H", "X-Kit: mine")
                #expect(answer.contains("X-Frame-Options: DENY\r\n") && !answer.contains("ALLOW"), "\(answer)")
                #expect(answer.hasSuffix("/a one\n"), "\(answer)")
            }
            // At another place it is the same server, which is ready when the kit says so; the user may know better.
            for (name, spec, ready) in [("moved", "0:80:http,ui", "/up"), ("own", "80:http,ready=tcp", "tcp")] {
                try await f.succeed(words: start + [name, "--expose", spec])
                let record = try await f.succeed("instance", "info", name, "--output", "json").out
                #expect(record.replacing(" ", with: "").contains("\"ready\":\"\(ready)\""), "\(record)")
            }
        }
    }

    @Test(arguments: backends) func filesAreReadOnlyAndTheWorkspaceIsFilledOnce(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "filed",
                """
                  command: [sleep, '1000']
                  files:
                    - { from: conf, to: /etc/filed }
                    - { from: run.sh, to: /usr/local/bin/filed }
                  workspace:
                    - { from: seed }
                    - { from: run.sh, to: bin/tool }

                """, files: ["conf/a.ini": "a = 1\n", "run.sh": "#!/bin/sh\necho ran\n", "seed/x/y.txt": "seed\n"])
            try Files.setPermissions("\(kit)/run.sh", 0o700)
            try Files.setPermissions("\(kit)/conf/a.ini", 0o600)
            try await f.succeed("kit", "install", kit)
            let start = ["instance", "start", "--kit", "filed", "--isolation", backend, "--user", "nobody"]
            try await f.succeed(
                "instance", "start", "--name", "a", "--kit", "filed", "--isolation", backend, "--user", "nobody")
            let look = "cat /etc/filed/a.ini x/y.txt; filed; bin/tool; echo new > x/y.txt; echo w > w.txt"
            let seen = try await f.aegis("exec", "a", "--", "sh", "-c", look)
            #expect(seen.out == "a = 1\nseed\nran\nran\n" && seen.code == 0, "\(seen)")
            // Not even root writes there.
            let write = "echo x > /etc/filed/a.ini || echo refused; cat /etc/filed/a.ini"
            let written = try await f.aegis("exec", "--user", "root", "a", "--", "sh", "-c", write)
            #expect(written.out == "refused\na = 1\n", "\(written)")
            try await f.succeed("instance", "restart", "a")
            #expect(try await f.succeed("exec", "a", "--", "cat", "x/y.txt").out == "new\n")
            try await f.succeed("cp", "a:/etc/filed/a.ini", f.path("copied"))
            #expect(f.text(f.path("copied")) == "a = 1\n")
            // A named workspace is filled while it is empty; a folder of the user's is left alone.
            for name in ["b", "c"] {
                let result = try await f.run(Self.cli, start + ["--name", name, "--workspace", "shared"])
                try #require(result.code == 0, "\(result)")
                #expect(
                    try await f.succeed("exec", name, "--", "cat", "x/y.txt").out == (name == "b" ? "seed\n" : "mine\n")
                )
                try await f.succeed("exec", name, "--", "sh", "-c", "echo mine > x/y.txt")
                try await f.succeed("instance", "delete", name)
            }
            let own = try f.folder("own")
            #expect(
                try await f.succeed("run", "--kit", "filed", "--workspace", own, "--", "ls", "/workspace").out == "")
            // What the user mounts there wins.
            try "mine\n".write(toFile: f.path("a.ini"), atomically: true, encoding: .utf8)
            let mount = "\(f.path("a.ini")):/usr/local/bin/filed"
            #expect(
                try await f.succeed("run", "--kit", "filed", "--mount", mount, "--", "cat", "/usr/local/bin/filed").out
                    == "mine\n")
        }
    }
    private static var cli: String { DaemonFixture.cli }

    @Test func kitsBelongToTheNodeAndTheirSecretsAreAskedFor() async throws {
        try await DaemonFixture.with { f in
            let kit = try f.kit(
                "keyed",
                "  command: [sh, -c, 'echo $API_KEY']\n  secrets: [{ name: API_KEY, description: a key of yours }]\n")
            try await f.succeed("kit", "install", kit)
            let missing = try await f.aegis("run", "--kit", "keyed")
            #expect(
                missing.code == 125 && missing.err.contains("needs the secret 'API_KEY' (a key of yours)")
                    && missing.err.contains("aegis secret set API_KEY"), "\(missing)")
            try await f.succeed("secret", "set", "API_KEY", "-", input: Array("hidden".utf8))
            #expect(try await f.succeed("run", "--kit", "keyed").out == "hidden\n")
            // Another user sees kits and may use them, but not change them.
            let open = try f.kit("open", "  command: [echo, hello]\n")
            try await f.succeed("kit", "install", open)
            #expect(try await f.aegis(as: stranger, "kit", "list").out.contains("open"))
            let installed = try await f.aegis(as: stranger, "kit", "install", open)
            #expect(installed.code == 6 && installed.err.contains("(administrator-needed)"), "\(installed)")
            #expect(try await f.aegis(as: stranger, "kit", "uninstall", "open").code == 6)
            let used = try await f.aegis(as: stranger, "run", "--kit", "open")
            #expect(used.out == "hello\n", "\(used)")
            // Files that are not those that were installed are said.
            try "x".write(toFile: "\(f.home)/kits/open/1.0.0/files/more", atomically: true, encoding: .utf8)
            #expect(try await f.succeed("kit", "info", "open").out.contains("broken"))
        }
    }
}
