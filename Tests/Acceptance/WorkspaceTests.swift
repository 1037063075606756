import Foundation
import LinuxSys
import Testing

@Suite struct WorkspaceTests {
    @Test(arguments: backends) func aHostFolderIsWrittenAsItsOwner(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            for owner in [stranger, 0] {
                let place = try f.folder("w\(owner)", owner: owner, mode: 0o700)
                try f.file("\(place)/in", "input\n", owner: owner, mode: 0o600)
                let r = try await f.aegis(
                    "run", "--isolation", backend, "--workspace", place, "--", "sh", "-c",
                    "cat in; echo a > a; mkdir d; echo b > d/b; chmod 0600 a; \(Inside.stat("in", "a")); pwd")
                #expect(r.code == 0 && r.out == "input\n600:0:0\n600:0:0\n/workspace\n", "\(owner) \(r)")
                let seen = try await f.shell("cd '\(place)'; stat -c '%n %u:%g %a' . a d d/b")
                #expect(
                    seen.out
                        == ". \(owner):\(owner) 700\na \(owner):\(owner) 600\nd \(owner):\(owner) 755\nd/b \(owner):\(owner) 644\n",
                    "\(seen)")
                // The user that the command runs as is the folder's owner; another user inside works as well.
                let user = try await f.aegis(
                    "run", "--isolation", backend, "--workspace", place, "--user", "1000:1000", "--", "sh", "-c",
                    "cat in; echo u > u; \(Inside.stat("in", "u"))")
                #expect(user.code == 0 && user.out == "input\n600:1000:1000\n644:1000:1000\n", "\(owner) \(user)")
                #expect(try Files.status("\(place)/u").user == owner)
                try Files.setPermissions(place, 0o777)
                let other = try await f.aegis(
                    "run", "--isolation", backend, "--workspace", place, "--", "python3", "-c",
                    "import os; os.setgid(33); os.setuid(33); open('o','w').write('x'); print(os.stat('o').st_uid)")
                #expect(other.code == 0 && other.out == "33\n", "\(owner) \(other)")
                let mark = try Files.status("\(place)/o").user
                #expect(mark != 33 && mark != 0 && mark != owner)
            }
        }
    }

    @Test func namedAndAutomaticWorkspacesLiveAsLongAsTheyShould() async throws {
        try await DaemonFixture.with { f in
            for (name, text) in [("one", "1"), ("two", "2")] {
                let r = try await f.aegis(
                    "run", "-d", "--name", name, "--isolation", "runc", "--workspace", "shared", "--", "sh", "-c",
                    "echo \(text) > \(name); sleep 600")
                try #require(r.code == 0, "\(r)")
            }
            let wait = try await f.aegis(
                "exec", "one", "--", "sh", "-c", "until [ -s one ] && [ -s two ]; do sleep 0.1; done; cat one two")
            #expect(wait.out == "1\n2\n", "\(wait)")
            try #require(
                await f.aegis("run", "-d", "--name", "auto", "--", "sh", "-c", "echo x > x; sleep 600").code == 0)
            _ = try await f.aegis("exec", "auto", "--", "sh", "-c", "until [ -s x ]; do sleep 0.1; done")
            try #require(await f.aegis("instance", "restart", "auto").code == 0)
            #expect(try await f.aegis("exec", "auto", "--", "cat", "x").out == "x\n")
            let before = try await f.shell("ls home/workspaces")
            #expect(before.out.contains("shared\n") && before.out.contains("i-"), "\(before)")
            try #require(await f.aegis("instance", "delete", "one", "two", "auto").code == 0)
            let after = try await f.shell("ls home/workspaces; cat home/workspaces/shared/one")
            #expect(after.out == "shared\n1\n", "\(after)")
            try #require(await f.aegis("down").code == 0)
            try await f.up()
            let again = try await f.aegis("run", "--workspace", "shared", "--", "cat", "two")
            #expect(again.out == "2\n", "\(again)")
        }
    }

    @Test func namedWorkspacesAreListedAndDeletedByThoseWhoseTheyAre() async throws {
        struct Listed: Decodable, Equatable {
            var name: String
            var owner: UInt32
            var size: Int
            var users: [String]
            private enum CodingKeys: String, CodingKey {
                case name, owner
                case size = "size_bytes"
                case users = "used_by"
            }
        }
        try await DaemonFixture.with { f in
            func list(_ result: CommandResult) throws -> [Listed] {
                #expect(result.code == 0, "\(result)")
                return try JSONDecoder().decode([Listed].self, from: Data(result.stdout))
            }
            for name in ["one", "two"] {
                try await f.succeed("instance", "create", "--name", name, "--workspace", "shared", "--", "true")
            }
            try await f.succeed("run", "--workspace", "own", "--", "sh", "-c", "head -c 1M /dev/urandom > big")
            let theirs = try await f.aegis(
                as: stranger, "run", "--workspace", "theirs", "--", "sh", "-c", "echo t > t")
            #expect(theirs.code == 0, "\(theirs)")
            let all = try list(try await f.aegis("workspace", "list", "--output", "json"))
            #expect(all.map(\.name) == ["own", "shared", "theirs"], "\(all)")
            #expect(all.map(\.owner) == [0, 0, stranger] && all.map(\.users) == [[], ["one", "two"], []], "\(all)")
            #expect(all[0].size >= 1 << 20, "\(all)")
            let seen = try list(try await f.aegis(as: stranger, "workspace", "list", "--output", "json"))
            #expect(seen.map(\.name) == ["theirs"], "\(seen)")
            // What an instance has, or another user, or nobody, stays.
            let used = try await f.aegis("workspace", "delete", "shared", "own")
            #expect(used.code == 5 && used.err.contains("used by one, two") && used.out == "own deleted\n", "\(used)")
            let denied = try await f.aegis(as: stranger, "workspace", "delete", "shared")
            #expect(denied.err.contains("(workspace-denied)"), "\(denied)")
            let typo = try await f.aegis("workspace", "delete", "sharde")
            #expect(typo.code == 4 && typo.err.contains("did you mean 'shared'?"), "\(typo)")
            try await f.succeed("instance", "delete", "one", "two")
            try await f.succeed("workspace", "delete", "shared")
            #expect(try await f.aegis(as: stranger, "workspace", "delete", "theirs").code == 0)
            #expect(try await f.succeed("workspace", "list").out == "No named workspaces\n")
            #expect(
                try await f.shell("ls -A home/workspaces/.trash home/workspaces/.records").out.count { $0 == "\n" } == 3
            )
        }
    }

    @Test(arguments: backends) func aWorkspaceOfAegisIsWritableForWhoeverTheCommandRunsAs(_ backend: String)
        async throws
    {
        try await DaemonFixture.with { f in
            func run(_ user: String?, _ workspace: String?, _ script: String) async throws -> String {
                let options =
                    (user.map { ["--user", $0] } ?? []) + (workspace.map { ["--workspace", $0] } ?? [])
                    + ["--artifacts", "out"]
                let r = try await f.run(
                    DaemonFixture.cli, ["run", "--isolation", backend] + options + ["--", "sh", "-c", script],
                    directory: f.path("."))
                #expect(r.code == 0, "\(user ?? "root"): \(r)")
                return r.out
            }
            let write = "echo z > z && mkdir -p output && echo r > output/r && "
            #expect(try await run("1000", nil, write + Inside.stat(".", "z")) == "755:1000:0\n644:1000:0\n")
            #expect(f.text(f.path("out/r")) == "r\n")
            #expect(try await run("nobody", nil, write + "cat z") == "z\n")
            // Root can give away what is there.
            #expect(
                try await run(
                    nil, nil,
                    "mkdir output && chown 1000:1000 . && touch a && chown 33:33 a && " + Inside.stat(".", "a"))
                    == "755:1000:1000\n644:33:33\n")
            // A named one is the first user's; for another one the two are each other.
            #expect(try await run("1000:1000", "shared", write + Inside.stat("z")) == "644:1000:1000\n")
            #expect(
                try await run("2000:2000", "shared", "echo y > z && echo n > n && " + Inside.stat(".", "z", "n"))
                    == "755:2000:2000\n644:2000:2000\n644:2000:2000\n")
            #expect(
                try await run(nil, "shared", "touch r && chown 5:5 r && " + Inside.stat(".", "z", "n", "r"))
                    == "755:0:0\n644:0:0\n644:0:0\n644:5:5\n")
            #expect(
                try await run("1000:1000", "shared", "cat n && " + Inside.stat("n", "r"))
                    == "n\n644:1000:1000\n644:5:5\n")
            let seen = try await f.shell("cd home/workspaces/shared; stat -c '%n %u:%g' . z n r")
            #expect(seen.out == ". 1000:1000\nz 1000:1000\nn 1000:1000\nr 5:5\n", "\(seen)")
        }
    }

    @Test func aWorkspaceBesideALimitedLayerIsTheUsersToo() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed(
                "run", "-d", "--name", "small", "--isolation", "runc", "--disk", "64Mi", "--user", "1000:1000", "--",
                "sh",
                "-c", "echo z > z; sleep 1000")
            let write = "until [ -s z ]; do sleep 0.1; done; echo y >> z; \(Inside.stat(".", "z"))"
            #expect(
                try await f.succeed("exec", "small", "--", "sh", "-c", write).out == "755:1000:1000\n644:1000:1000\n")
            // Root inside takes the folder; the next start does not take that for another owner.
            try await f.succeed("exec", "--user", "root", "small", "--", "chown", "0:0", ".")
            try await f.succeed("instance", "restart", "small")
            #expect(
                try await f.succeed("exec", "small", "--", "sh", "-c", Inside.stat(".", "z")).out
                    == "755:0:0\n644:1000:1000\n")
            let id = try await f.record("small").id
            #expect(f.text("\(f.home)/workspaces/.records/\(id)") != nil)
            try await f.succeed("instance", "delete", "small")
            #expect(f.text("\(f.home)/workspaces/.records/\(id)") == nil)
        }
    }

    @Test func whatIsCopiedInBeforeTheFirstStartIsTheCommands() async throws {
        try await DaemonFixture.with { f in
            try f.file(f.path("input"), "given\n")
            try await f.succeed(
                "instance", "create", "--name", "fed", "--isolation", "runc", "--user", "1000:1000", "--", "sh", "-c",
                "echo more >> input; echo mine > mine; sleep 1000")
            try await f.succeed("cp", f.path("input"), "fed:/workspace/input")
            try await f.succeed("instance", "start", "fed")
            let read = try await f.succeed(
                "exec", "fed", "--", "sh", "-c", "until [ -s mine ]; do sleep 0.1; done; cat input mine")
            #expect(read.out == "given\nmore\nmine\n")
            try await f.succeed("instance", "stop", "fed")
            try await f.succeed("cp", f.path("input"), "fed:/workspace/late")
            try await f.succeed("instance", "start", "fed")
            #expect(
                try await f.succeed("exec", "fed", "--", "sh", "-c", "echo x >> late; cat late").out == "given\nx\n")
        }
    }

    @Test func whatCannotBeAWorkspaceIsSaid() async throws {
        try await DaemonFixture.with { f in
            try Files.makeDirectories(f.path("work/sub"))
            try f.file(f.path("work/script.py"), "print('here')")
            let relative = try await f.aegis(
                "run", "--workspace", ".", "--", "python", "script.py", directory: f.path("work"))
            #expect(relative.code == 0 && relative.out == "here\n", "\(relative)")
            let below = try await f.aegis("run", "--workspace", "..", "--", "ls", directory: f.path("work/sub"))
            #expect(below.out.contains("script.py"), "\(below)")
            let missing = try await f.aegis("run", "--workspace", f.path("work/none/deep"), "--", "true")
            #expect(missing.code == 125 && missing.err.contains("path-not-found"), "\(missing)")
            #expect(missing.err.contains(f.path("work")), "\(missing)")
            let file = try await f.aegis("run", "--workspace", f.path("work/script.py"), "--", "true")
            #expect(file.code == 125 && file.err.contains("is a file, not a folder"), "\(file)")
            for place in [f.home, "/proc", "/sys/kernel", "/"] {
                let refused = try await f.aegis("run", "--workspace", place, "--", "true")
                #expect(refused.code == 125 && refused.err.contains("path-refused"), "\(place) \(refused)")
            }
            let hint = try await f.aegis("run", "--", "python", "script.py", directory: f.path("work"))
            #expect(hint.code == 2 && hint.err.contains("--workspace ."), "\(hint)")
            let none = try await f.aegis("instance", "list", "--output", "json")
            #expect(none.out == "[]\n", "\(none)")
        }
    }

    @Test(arguments: backends) func mountsAreReadOnlyUnlessTold(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let place = try f.folder("data", owner: stranger, mode: 0o700)
            try f.file("\(place)/f", "content\n", owner: stranger, mode: 0o600)
            let r = try await f.aegis(
                "run", "--isolation", backend, "--mount", "\(place):/data", "--mount", "\(place)/f:/etc/one-file",
                "--mount", "\(place):/out:rw", "--", "sh", "-c",
                "cat /data/f /etc/one-file; echo n > /out/new; echo x > /data/x; echo y > /etc/one-file; cd /data; ls")
            #expect(r.out == "content\ncontent\nf\nnew\n", "\(r)")
            #expect(r.err.contains("Read-only file system"), "\(r)")
            #expect(f.text("\(place)/f") == "content\n" && f.text("\(place)/x") == nil)
            #expect(try Files.status("\(place)/new").user == stranger)
            let missing = try await f.aegis("run", "--mount", "\(place)/no:/x", "--", "true")
            #expect(missing.code == 125 && missing.err.contains("path-not-found"), "\(missing)")
            let copied = try await f.aegis(
                "run", "-d", "--name", "m", "--isolation", backend, "--mount", "\(place):/data", "--", "sleep", "600")
            try #require(copied.code == 0, "\(copied)")
            let into = try await f.aegis("cp", "\(place)/f", "m:/data/x")
            #expect(into.code == 6 && into.err.contains("read-only"), "\(into)")
        }
    }

    /// What a caller that is not root gives its sandbox is what it can open, and no more than it may do with it.
    @Test(arguments: backends) func aStrangersSandboxHasTheStrangersRights(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let own = try f.folder("own", owner: stranger, mode: 0o700)
            let closed = try f.folder("closed", mode: 0o700)
            try f.file("\(closed)/f", "root-only")
            for arguments in [["--workspace", closed], ["--mount", "\(closed):/x"], ["--mount", "\(closed)/f:/x"]] {
                let r = try await f.aegis(
                    as: stranger, "run", "--isolation", backend, arguments[0], arguments[1], "--", "true")
                #expect(r.code == 125 && r.err.contains("path-denied"), "\(arguments) \(r)")
            }
            let works = try await f.aegis(
                as: stranger, "run", "--isolation", backend, "--workspace", own, "--", "sh", "-c", "echo a > a; id -u")
            #expect(works.code == 0 && works.out == "0\n", "\(works)")
            #expect(try Files.status("\(own)/a").user == stranger)

            // A folder that others share: files of root, of another user, of another caller's sandbox.
            let shared = try f.folder("shared", owner: stranger, mode: 0o777)
            try f.file("\(shared)/root", "root-only", mode: 0o600)
            try f.file("\(shared)/other", "other-only", owner: 5678, mode: 0o600)
            try Files.makeDirectories("\(shared)/folder", mode: 0o755)
            let made = try await f.aegis(
                "run", "--isolation", backend, "--mount", "\(shared):/s:rw", "--", "python3", "-c",
                "import os; os.umask(0o077); os.setgid(33); os.setuid(33); open('/s/sandbox','w').write('sandbox-only')"
            )
            try #require(made.code == 0, "\(made)")
            let attack = """
                cd /s; for n in root other sandbox; do cat $n; echo taken >> $n; chmod 777 $n; chown 0:0 $n; done
                echo taken > folder/new; echo mine > mine; cat mine
                """
            let r = try await f.aegis(
                as: stranger, "run", "--isolation", backend, "--mount", "\(shared):/s:rw", "--", "sh", "-c", attack)
            #expect(r.out == "mine\n", "\(r)")
            #expect(f.text("\(shared)/root") == "root-only" && f.text("\(shared)/other") == "other-only")
            #expect(f.text("\(shared)/sandbox") == "sandbox-only" && f.text("\(shared)/folder/new") == nil)
            #expect(try Files.status("\(shared)/mine").user == stranger)

            // Where the owner has no id inside, nobody can write: said before, not found out inside.
            let open = try f.folder("open", mode: 0o777)
            try f.file("\(open)/f", "readable\n")
            let refused = try await f.aegis(
                as: stranger, "run", "--isolation", backend, "--mount", "\(open):/s:rw", "--", "true")
            #expect(refused.code == 125 && refused.err.contains("belongs to uid 0"), "\(refused)")
            let readable = try await f.aegis(
                as: stranger, "run", "--isolation", backend, "--mount", "\(open):/s", "--", "cat", "/s/f")
            #expect(readable.out == "readable\n", "\(readable)")

            // aegis cp is the daemon's hand on the host: it has the stranger's rights there, too.
            let box = try await f.aegis(
                as: stranger, "run", "-d", "--name", "box", "--isolation", backend, "--mount", "\(shared):/s:rw", "--",
                "sleep", "600")
            try #require(box.code == 0, "\(box)")
            try f.file(f.path("up"), "mine", owner: stranger, mode: 0o644)
            for name in ["root", "other", "sandbox"] {
                let read = try await f.aegis(as: stranger, "cp", "box:/s/\(name)", "-")
                #expect(read.code != 0 && !read.out.contains("only"), "\(name) \(read)")
            }
            let into = try await f.aegis(as: stranger, "cp", f.path("up"), "box:/s/folder/new")
            #expect(into.code == 6 && f.text("\(shared)/folder/new") == nil, "\(into)")
            let fine = try await f.aegis(as: stranger, "cp", f.path("up"), "box:/s/up")
            #expect(fine.code == 0 && f.text("\(shared)/up") == "mine", "\(fine)")
            #expect(try Files.status("\(shared)/up").user == stranger)

            // Nor are the node's secrets, or files behind an image's name, the stranger's.
            try #require(await f.aegis("secret", "set", "KEY", "value", "--quiet").code == 0)
            let secret = try await f.aegis(as: stranger, "run", "--secret", "*", "--", "env")
            #expect(secret.code == 125 && secret.err.contains("administrator-needed"), "\(secret)")
            let image = try await f.aegis(as: stranger, "run", "--image", "oci:\(closed)", "--", "true")
            #expect(image.code == 125 && image.err.contains("path-denied"), "\(image)")
        }
    }
}
