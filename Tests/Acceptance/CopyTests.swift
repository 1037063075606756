import Foundation
import LinuxSys
import Testing

@Suite struct CopyTests {
    /// Files and trees go both ways by docker's rules, in the workspace and elsewhere.
    @Test(arguments: backends) func filesAndTreesGoBothWays(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try Files.makeDirectories(f.path("tree/sub"))
            try f.file(f.path("tree/a"), "one")
            try f.file(f.path("tree/sub/b"), "two", mode: 0o755)
            try #require(
                await f.aegis("run", "-d", "--name", "box", "--isolation", backend, "--", "sleep", "600").code == 0)
            for place in ["/workspace", "/var/lib"] {
                // A missing name takes the tree, an existing folder takes it under its own name, /. means the content.
                for (from, to) in [
                    ("tree", "new"), ("tree", "new"), ("tree/.", "new"), ("tree/a", "file"), ("tree/a", "new/"),
                ] {
                    let r = try await f.aegis("cp", f.path(from), "box:\(place)/\(to)")
                    try #require(r.code == 0, "\(place) \(from) \(to) \(r)")
                }
                let seen = try await f.aegis(
                    "exec", "box", "--", "sh", "-c",
                    "cd \(place); cat new/a new/sub/b new/tree/a new/tree/sub/b file; \(Inside.stat("new/sub/b"))")
                #expect(seen.out == "onetwoonetwoone755:0:0\n", "\(place) \(seen)")
                try #require(await f.aegis("cp", "box:\(place)/new", f.path("back")).code == 0)
                try #require(await f.aegis("cp", "box:\(place)/new/.", f.path("back/content")).code == 0)
                try #require(await f.aegis("cp", "box:\(place)/file", f.path("back")).code == 0)
                for name in ["a", "sub/b", "tree/sub/b", "content/a", "content/tree/a", "file"] {
                    #expect(f.text(f.path("back/\(name)")) == (name.hasSuffix("b") ? "two" : "one"), "\(place) \(name)")
                }
                try Files.removeTree(f.path("back"))
                let missing = try await f.aegis("cp", "box:\(place)/nothing", f.path("x"))
                #expect(missing.code == 4 && missing.err.contains("nothing"), "\(place) \(missing)")
                let parent = try await f.aegis("cp", f.path("tree"), "box:\(place)/no/where")
                #expect(parent.code == 4, "\(place) \(parent)")
                let over = try await f.aegis("cp", f.path("tree"), "box:\(place)/file")
                #expect(over.code == 2 && over.err.contains("over the file"), "\(place) \(over)")
                let piped = try await f.shell("$AEGIS cp box:\(place)/new - | tar t | sort | head -1")
                #expect(piped.out == "new/\n", "\(piped)")
                let fed = try await f.shell("tar c tree | $AEGIS cp - box:\(place)")
                #expect(fed.code == 0, "\(fed)")
            }
            // Stopped: the workspace can still be read and written, the rest cannot.
            try #require(await f.aegis("instance", "stop", "box").code == 0)
            let read = try await f.aegis("cp", "box:new/a", f.path("late"))
            #expect(read.code == 0 && f.text(f.path("late")) == "one", "\(read)")
            let write = try await f.aegis("cp", f.path("tree/a"), "box:added")
            #expect(write.code == 0, "\(write)")
            let other = try await f.aegis("cp", "box:/etc/passwd", f.path("late"))
            #expect(other.code == 5 && other.err.contains("stopped"), "\(other)")
            let local = try await f.aegis("cp", "a", "b")
            #expect(local.code == 2, "\(local)")
        }
    }

    /// What a guest plants in its workspace leads nowhere on the host.
    @Test func linksOfTheGuestLeadNowhere() async throws {
        try await DaemonFixture.with { f in
            try f.file(f.path("canary"), "host-only")
            try f.file(f.path("in"), "written")
            let plant = """
                ln -s \(f.path("canary")) /workspace/file; ln -s \(f.path(".")) /workspace/dir; ln -s / /workspace/root
                ln -s ../../../../../../../../etc /workspace/up; mkdir /workspace/tree
                ln -s /etc/passwd /workspace/tree/abs; ln -s ../../../../etc/passwd /workspace/tree/rel
                ln -s real /workspace/tree/inner; echo x > /workspace/tree/real; chmod 4755 /workspace/tree/real
                mkfifo /workspace/tree/fifo; sleep 600
                """
            try #require(
                await f.aegis("run", "-d", "--name", "evil", "--isolation", "runc", "--", "sh", "-c", plant).code == 0)
            let planted = try await f.aegis(
                "exec", "evil", "--", "sh", "-c", "until [ -p /workspace/tree/fifo ]; do sleep 0.1; done")
            try #require(planted.code == 0)
            for path in ["dir/canary", "root/etc/passwd", "up/passwd", "dir/.", "root/."] {
                let r = try await f.aegis("cp", "evil:\(path)", f.path("got"))
                #expect(r.code != 0 && !FileManager.default.fileExists(atPath: f.path("got")), "\(path) \(r)")
            }
            // A link itself may come as a link, never as what it names; one that leads out does not come.
            let link = try await f.aegis("cp", "evil:file", f.path("got"))
            #expect(!FileManager.default.fileExists(atPath: f.path("got")), "\(link)")
            #expect(link.code == 1 && link.err.contains("(not-copied)") && link.err.contains("outside"), "\(link)")
            let named = try await f.aegis("cp", "evil:tree/fifo", f.path("got"))
            #expect(named.code == 1 && named.err.contains("is a FIFO"), "\(named)")
            for path in ["dir", "root", "up", "dir/new", "root/tmp/new"] {
                let r = try await f.aegis("cp", f.path("in"), "evil:\(path)")
                #expect(f.text(f.path("in")) == "written" && f.text(f.path("new")) == nil, "\(path) \(r)")
                #expect(!FileManager.default.fileExists(atPath: "/tmp/new"), "\(path) \(r)")
            }
            #expect(f.text(f.path("canary")) == "host-only")
            let tree = try await f.aegis("cp", "evil:tree", f.path("tree"))
            #expect(tree.code == 0 && tree.err.contains("left out tree/fifo: FIFOs"), "\(tree)")
            let listed = try await f.shell("cd tree; find . -mindepth 1 | sort; stat -c %a real")
            #expect(listed.out == "./inner\n./real\n755\n", "\(listed) \(tree)")
            // The same tree over the harness's own stream, from outside the workspace.
            try #require(await f.aegis("exec", "evil", "--", "cp", "-a", "/workspace/tree", "/var/tree").code == 0)
            let guest = try await f.aegis("cp", "evil:/var/tree", f.path("tree2"))
            let shown = try await f.shell("cd tree2; find . -mindepth 1 | sort; stat -c %a real")
            #expect(shown.out == "./inner\n./real\n755\n", "\(shown) \(guest)")
            #expect(guest.code == 0 && guest.err.contains("left out tree/fifo: FIFOs"), "\(guest)")
        }
    }

    /// Set-id bits stay outside, whether a tree is copied or an archive: where a folder of the host can be written to, an
    /// instance could not have them.
    @Test func setIDBitsStayOutside() async throws {
        try await DaemonFixture.with { f in
            try Files.makeDirectories(f.path("odd"))
            try Files.makeDirectories(f.path("mine"))
            try f.file(f.path("odd/f"), "content", mode: 0o4755)
            try await f.succeed(
                "run", "-d", "--name", "box", "--isolation", "runc", "--workspace", f.path("mine"), "--", "sleep", "600"
            )
            for place in ["/tmp", "/workspace"] {
                let copied = try await f.shell(
                    "$AEGIS cp odd box:\(place)/copied && tar c odd | $AEGIS cp - box:\(place)/")
                #expect(copied.code == 0, "\(copied)")
                let seen = try await f.aegis(
                    "exec", "box", "--", "sh", "-c", "cd \(place); cat */f; \(Inside.stat("copied/f odd/f"))")
                #expect(seen.out == "contentcontent755:0:0\n755:0:0\n", "\(seen)")
            }
        }
    }

    /// A source that cannot be copied is no success; files of /proc are read although they say that they are empty.
    @Test(arguments: backends) func whatComesToNothingIsNoSuccess(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try #require(
                await f.aegis("run", "-d", "--name", "box", "--isolation", backend, "--", "sleep", "600").code == 0)
            let zero = try await f.aegis("cp", "box:/dev/zero", f.path("zero"))
            #expect(zero.code == 1 && zero.err.contains("zero: is a device (not-copyable)"), "\(zero)")
            let link = try await f.aegis("cp", "box:/proc/self/exe", f.path("exe"))
            #expect(link.code == 1 && link.err.contains("(not-copied)"), "\(link)")
            let version = try await f.aegis("cp", "box:/proc/version", f.path("version"))
            #expect(version.code == 0 && f.text(f.path("version"))?.hasPrefix("Linux") == true, "\(version)")
            let device = try await f.aegis("cp", "/dev/null", "box:/workspace/null")
            #expect(device.code == 1 && device.err.contains("is a device"), "\(device)")
            try f.file(f.path("real"), "content\n")
            try Files.makeLink(f.path("link"), to: "real")
            for source in [f.path("link"), "/proc/version"] {
                let up = try await f.aegis("cp", source, "box:/root/up")
                let seen = try await f.aegis("exec", "box", "--", "cat", "/root/up")
                #expect(up.code == 0 && seen.out == f.text(source), "\(source) \(up) \(seen)")
            }
        }
    }

    /// A workload that swaps folders for links while its files are copied gains nothing.
    @Test func aRacingWorkloadGainsNothing() async throws {
        try await DaemonFixture.with { f in
            let outside = try f.folder("outside")
            try f.file("\(outside)/f", "host-only")
            try Files.makeDirectories(f.path("up/d"))
            try f.file(f.path("up/d/g"), "from-here")
            let race = """
                cd /workspace; mkdir real; echo fine > real/f
                while :; do ln -s \(outside) d; rm d; mv real d; mv d real; done
                """
            try #require(
                await f.aegis("run", "-d", "--name", "racer", "--isolation", "runc", "--", "sh", "-c", race).code == 0)
            for round in 0..<30 {
                _ = try await f.aegis("cp", "racer:d/f", f.path("got\(round)"))
                #expect(f.text(f.path("got\(round)")) != "host-only")
                _ = try await f.aegis("cp", f.path("up/."), "racer:.")
                #expect(f.text("\(outside)/g") == nil)
            }
        }
    }
}
