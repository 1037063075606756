import AegisTestSupport
import Foundation
import Testing

/// `aegis debug channel`
@Suite struct DebugChannelTests {
    @Test(arguments: backends) func messagesAreSeenAndSecretsAreNot(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("secret", "set", "KEY", "-", input: Array("canary-value".utf8))
            try await f.succeed(
                "instance", "create", "--name", "box", "--isolation", backend, "--secret", "KEY", "--env", "PLAIN=word",
                "--", "sh", "-c", "echo $KEY; sleep 600")
            // Before there is anything to see, and over the whole life.
            let output = f.path("seen")
            let watch = Task {
                try await f.shell("exec $AEGIS debug channel box > '\(output)' 2> '\(output).err'")
            }
            try await f.eventually("it watches") { f.text("\(output).err")?.contains("watching") == true }
            try await f.succeed("instance", "start", "box")
            let exec = try await f.succeed(
                "exec", "-i", "box", "--", "sh", "-c", "cat; exit", input: Array("12345".utf8))
            #expect(exec.out == "12345")
            _ = try await f.aegis("exec", "box", "--", "echo", "canary-value")
            try await f.succeed("instance", "delete", "box")
            #expect(try await watch.value.code == 0)
            let text = try #require(f.text(output))
            #expect(!text.contains("canary-value") && !text.contains("word") && text.contains("PLAIN=***"), "\(text)")
            let lines = try text.split(separator: "\n").map { line in
                try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            }
            func all(_ method: String, _ from: String) -> [[String: Any]] {
                lines.filter { $0["method"] as? String == method && $0["from"] as? String == from }
            }
            #expect(all("hello", "harness").count == 1 && all("runTask", "daemon").count == 1, "\(text)")
            // The command, the two execs and the door to the guest API.
            #expect(all("exec", "daemon").count == 2 && all("started", "harness").count == 4, "\(text)")
            let door = all("openDoor", "daemon")
            #expect(door.map { $0["arguments"] as? [String] } == [["7777", "/run/aegis/api.sock"]], "\(text)")
            #expect(all("stdin", "daemon").contains { $0["bytes"] as? Int == 5 }, "\(text)")
            #expect(all("stdout", "harness").contains { $0["bytes"] as? Int == 5 }, "\(text)")
            #expect(all("ended", "keeper").count == 1 && all("shutdown", "daemon").count == 1, "\(text)")
            #expect(all("exec", "daemon").last?["arguments"] as? [String] == ["echo", "***"], "\(text)")
        }
    }

    @Test func onlyTheOwnerLooksAndADaemonThatEndsDoesNotWait() async throws {
        try await DaemonFixture.with { f in
            try await f.succeed("instance", "create", "--name", "box", "--", "true")
            let other = try await f.aegis(as: stranger, "debug", "channel", "box")
            #expect(other.code == 4 && other.err.contains("instance-not-found"), "\(other)")
            let output = f.path("seen")
            let watch = Task { try await f.shell("exec $AEGIS debug channel box 2> '\(output).err'") }
            try await f.eventually("it watches") { f.text("\(output).err")?.contains("watching") == true }
            try await f.succeed("down")
            // The daemon has ended the stream in order. A stream that it had to wait for would have been cut off, which
            // the client says.
            let seen = try await watch.value
            #expect(seen.code == 0 && seen.out.isEmpty, "\(seen)")
            try await f.up()
            // Those who go away make room for others.
            for _ in 0..<6 {
                _ = try await f.shell("timeout -s INT 0.5 $AEGIS debug channel box")
            }
            // However slow the machine is.
            let last = try await f.shell(
                """
                $AEGIS debug channel box 2>last & watcher=$!
                for i in $(seq 600); do grep -q watching last && break; sleep 0.1; done
                kill -TERM $watcher; wait $watcher; cat last
                """)
            #expect(last.out.contains("watching"), "\(last)")
        }
    }
}
