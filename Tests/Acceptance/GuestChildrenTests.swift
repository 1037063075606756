import AegisTestSupport
import Foundation
import Testing

extension DaemonFixture {
    /// The answer to a program inside that wants a child: the status and the body.
    fileprivate func spawn(_ parent: String, _ body: String) async throws -> (status: String, body: String) {
        let answer = try await ask(parent, "POST", "/v1/instances", body)
        return (String(answer.prefix(3)), String(answer.dropFirst(4)))
    }

    /// The same, which must succeed; the child's id.
    fileprivate func child(of parent: String, _ body: String) async throws -> String {
        struct Made: Decodable { var id: String }
        let answer = try await spawn(parent, body)
        try #require(answer.status == "201", "\(answer)")
        return try JSONDecoder().decode(Made.self, from: Data(answer.body.utf8)).id
    }

    fileprivate func parent(_ name: String, _ backend: String, _ more: String...) async throws {
        let result = try await run(
            Self.cli, ["instance", "start", "--name", name, "--isolation", backend] + more + ["--", "sleep", "100000"])
        try #require(result.code == 0, "\(result)")
    }
}

/// Instances that a program inside another starts: where that was granted, with no more rights, and no longer.
@Suite struct GuestChildrenTests {
    private static let sleeper = #"{"command": ["sleep", "100000"]}"#

    @Test(arguments: backends) func aChildRunsIsReadAndEndsWithItsParent(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.parent("mother", backend, "--grant", "spawn: *")
            let worker = try await f.child(of: "mother", #"{"command": ["sh", "-c", "echo from the child; exit 3"]}"#)
            try await f.eventually("the child has ended") {
                try await f.ask("mother", "GET", "/v1/instances/\(worker)").contains(#""exit_code":3"#)
            }
            let log = try await f.ask("mother", "GET", "/v1/instances/\(worker)/logs")
            #expect(log.contains("from the child"), "\(log)")
            let second = try await f.child(of: "mother", Self.sleeper)
            let list = try await f.ask("mother", "GET", "/v1/instances")
            #expect(list.contains(worker) && list.contains(second), "\(list)")
            #expect(try await f.ask("mother", "DELETE", "/v1/instances/\(worker)").hasPrefix("200"))
            // Its people see whose it is; another instance does not see it at all.
            #expect(try await f.succeed("instance", "info", second, "-o", "json").out.contains(#""parent""#))
            try await f.parent("other", backend, "--grant", "spawn: *")
            #expect(try await f.ask("other", "GET", "/v1/instances/\(second)").hasPrefix("404"))
            #expect(try await f.ask("other", "DELETE", "/v1/instances/mother").hasPrefix("404"))
            // The bond holds over a daemon's death, and a parent that is stopped takes its children along.
            try await f.crash()
            try await f.up()
            #expect(try await f.record(second).state == "running")
            let third = try await f.child(of: "mother", Self.sleeper)
            try await f.succeed("instance", "stop", "mother")
            try await f.eventually("the children are gone") {
                let ids = try await f.list().map(\.id)
                return !ids.contains(second) && !ids.contains(third)
            }
        }
    }

    /// It ends by itself, or is killed inside.
    @Test(arguments: backends) func aChildEndsWithItsParentHoweverThatEnds(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let script = "echo $$ > /tmp/pid; while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 4"
            for (name, end, code) in [("itself", "touch /tmp/end", 4), ("killed", "kill -9 $(cat /tmp/pid)", 137)] {
                let mother = "\(name)-\(backend)"
                try await f.succeed(
                    "instance", "start", "--name", mother, "--isolation", backend, "--grant", "spawn: *", "--", "sh",
                    "-c", script)
                try await f.eventually("it has written who it is") {
                    try await f.aegis("exec", mother, "--", "test", "-s", "/tmp/pid").code == 0
                }
                let first = try await f.child(of: mother, Self.sleeper)
                let second = try await f.child(of: mother, Self.sleeper)
                for child in [first, second] { #expect(try await f.record(child).state == "running") }
                // The parent's end may cut this off.
                _ = try await f.aegis("exec", mother, "--", "sh", "-c", end)
                try await f.eventually("\(mother) has ended") { try await f.record(mother).state == "stopped" }
                #expect(try await f.record(mother).exitCode == Int32(code))
                try await f.eventually("the children of \(mother) are gone") {
                    let ids = try await f.list().map(\.id)
                    return !ids.contains(first) && !ids.contains(second)
                }
                try await f.succeed("instance", "delete", mother)
            }
        }
    }

    @Test(arguments: backends) func whoWasNotGrantedItOrHasUsedItUpIsRefused(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let (plain, once) = ("plain-\(backend)", "once-\(backend)")
            try await f.parent(plain, backend)
            let refused = try await f.spawn(plain, Self.sleeper)
            #expect(refused.status == "403" && refused.body.contains("spawn"), "\(refused)")
            try await f.parent(once, backend, "--grant", #"{grant: "spawn: *", max_calls: 1}"#)
            _ = try await f.child(of: once, Self.sleeper)
            let again = try await f.spawn(once, Self.sleeper)
            #expect(again.status == "403", "\(again)")
            let wrong = try await f.aegis("run", "--grant", "tool: web_fetch", "--", "true")
            #expect(wrong.code == 2 && wrong.err.contains("spawn"), "\(wrong)")
            let typo = try await f.aegis("run", "--grant", "spwan: *", "--", "true")
            #expect(typo.code == 2 && typo.err.contains("spawn: *"), "\(typo)")
            try await f.succeed("instance", "delete", plain)
            try await f.succeed("instance", "delete", once)
        }
    }

    /// Neither another daemon nor another run makes more of it, and one that was refused is none.
    @Test(arguments: backends) func howManyOneStartsIsCountedOverItsWholeLife(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            try await f.parent("twice", backend, "--grant", #"{grant: "spawn: *", max_calls: 2}"#)
            let wrong = #"{"command": ["true"], "workspace": "/root"}"#
            let wide = try await f.spawn("twice", wrong)
            #expect(wide.status == "403", "\(wide)")
            try await f.parent("brief", backend, "--grant", #"{grant: "spawn: *", expires: 1s}"#)
            try await f.eventually("its grant has expired") {
                try await f.spawn("brief", wrong).body.contains("expired")
            }
            _ = try await f.child(of: "twice", Self.sleeper)
            try await f.crash()
            try await f.up()
            _ = try await f.child(of: "twice", Self.sleeper)
            for verb in ["", "restart"] {
                if !verb.isEmpty { try await f.succeed("instance", verb, "twice") }
                let third = try await f.spawn("twice", Self.sleeper)
                #expect(third.status == "403" && third.body.contains("used up"), "\(third)")
                if !verb.isEmpty { try await f.succeed("instance", verb, "brief") }
                let late = try await f.spawn("brief", wrong)
                #expect(late.body.contains("expired"), "\(late)")
            }
        }
    }

    /// A child reaches what it has of its parent's places, and loses with its parent what that loses.
    @Test(arguments: backends) func aChildReachesWhatItsParentHandsOn(_ backend: String) async throws {
        try await OutsideWorld.with { f in
            try await f.parent(
                "mother", backend, "--grant", "spawn: *", "--allow", "web.example", "--allow", "other.example",
                "--allow", "sub.wild.example")
            let child = try await f.child(
                of: "mother",
                #"{"command": ["sleep", "100000"], "network": {"allow": ["web.example", "sub.wild.example"]}}"#)
            let reach = ["exec", child, "--", "python3", "-c", NetworkTests.attempts]
            func look(_ when: String, _ places: String...) async throws {
                var words = reach
                for (key, host) in [("a", "web"), ("b", "other"), ("c", "sub.wild")] {
                    words[words.count - 1] += "\nshow('\(key)', lambda: web('\(host).example'))"
                }
                let result = try await f.run(DaemonFixture.cli, words)
                let answers = NetworkTests.answers(result.out)
                for key in ["a", "b", "c"] {
                    let expected = places.contains(key) ? "(200, " : "gaierror"
                    #expect(answers[key]?.hasPrefix(expected) == true, "\(when), \(key): \(result)")
                }
            }
            try await look("at first", "a", "c")
            try await f.crash()
            try await f.up()
            try await look("taken over", "a", "c")
            var words = reach
            words[words.count - 1] += """

                s = socket.create_connection(('web.example', 7), 10); s.sendall(b'x'); open('/tmp/held', 'w').close()
                show('held', lambda: s.recv(1))
                """
            let held = try f.begin(program: DaemonFixture.cli, words)
            try await f.eventually("a connection is open") {
                try await f.aegis("exec", child, "--", "test", "-e", "/tmp/held").code == 0
            }
            try await f.succeed(
                "instance", "network", "mother", "--allow", "other.example", "--allow", "sub.wild.example")
            let result = try await held.result()
            #expect(result.out.hasPrefix("held ConnectionResetError"), "\(result)")
            try await look("cut", "c")
            // What is left to it is left to it under the next daemon, too.
            try await f.crash()
            try await f.up()
            try await look("taken over again", "c")
        }
    }

    @Test(arguments: backends) func childrenShareTheProcessorsOfTheirParent(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "shared-\(backend)"
            try await f.parent(name, backend, "--grant", "spawn: *", "--cpus", "1")
            let wants = #"{"command": ["sleep", "100000"], "limits": {"cpus": 0.6}}"#
            let first = try await f.child(of: name, wants)
            let second = try await f.spawn(name, wants)
            #expect(second.status == "403" && second.body.contains("processors"), "\(second)")
            let third = try await f.child(of: name, Self.sleeper)
            #expect(try await f.succeed("instance", "info", third, "-o", "json").out.contains(#""cpus": 0.125"#))
            // One that its parent has stopped can be read until it is removed.
            #expect(try await f.ask(name, "POST", "/v1/instances/\(first)/stop").hasPrefix("200"))
            #expect(try await f.ask(name, "GET", "/v1/instances/\(first)").contains(#""state":"stopped""#))
            try await f.succeed("instance", "delete", name)
        }
    }

    @Test(arguments: backends) func aChildHasNoMoreRightsThanItsParent(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "bounded-\(backend)"
            try await f.parent(
                name, backend, "--grant", "spawn: *", "--memory", "256Mi", "--env", "OWN=secret-of-the-parent")
            let wide = [
                (#"{"command": ["true"], "limits": {"memory": "1Gi"}}"#, "memory"),
                (#"{"command": ["true"], "limits": {"grace": "2m"}}"#, "grace"),
                (#"{"command": ["true"], "secrets": ["NOT_MINE"]}"#, "NOT_MINE"),
                (
                    #"{"command": ["true"], "mounts": [{"source": "/etc", "target": "/e", "read_only": true}]}"#,
                    "mounts"
                ),
                (#"{"command": ["true"], "workspace": "/root"}"#, "workspace"),
                (#"{"command": ["true"], "expose": ["80"]}"#, "expose"),
                (#"{"command": ["true"], "name": "taken"}"#, "name"),
                (#"{"command": ["true"], "image": "oci:/etc"}"#, "image"),
                (#"{"command": ["true"], "network": {"mode": "allow"}}"#, "network"),
                (#"{"command": ["true"], "network": {"allow": ["example.com"]}}"#, "example.com"),
                (#"{"command": ["true"], "network": {"group": "team"}}"#, "team"),
                (#"{"command": ["true"], "image": "registry.invalid/data:leak", "pull": "always"}"#, "pull"),
            ]
            for (body, word) in wide {
                let answer = try await f.spawn(name, body)
                #expect(answer.status == "403" && answer.body.contains(word), "\(body): \(answer)")
            }
            // A name is not looked up either: that would tell the registry what the program chose.
            let image = try await f.spawn(name, #"{"command": ["true"], "image": "registry.invalid/data:leak"}"#)
            #expect(image.status.hasPrefix("4") && image.body.contains("registry.invalid"), "\(image)")
            // Weaker isolation than its parent's it does not get; there is none that is weaker than that of `runc`.
            if backend == "runsc" {
                let weaker = try await f.spawn(name, #"{"command": ["true"], "isolation": "runc"}"#)
                #expect(weaker.status != "201" && weaker.body.contains("isolation"), "\(weaker)")
            }
            // What it does not name is the parent's bound; nothing else of the parent comes along.
            let child = try await f.child(
                of: name, #"{"command": ["sh", "-c", "echo ${OWN:-none}; sleep 100000"]}"#)
            let record = try await f.succeed("instance", "info", child, "-o", "json").out
            #expect(record.contains(#""memory": "256Mi""#), "\(record)")
            try await f.eventually("it has spoken") { try await f.succeed("logs", child).out == "none\n" }
            // Together they have no more than the parent either.
            let second = try await f.spawn(name, Self.sleeper)
            #expect(second.status == "403" && second.body.contains("memory"), "\(second)")
            // Nor can it start others: that was granted to the parent alone.
            let grandchild = try await f.spawn(child, Self.sleeper)
            #expect(grandchild.status == "403", "\(grandchild)")
            try await f.succeed("instance", "delete", name)
            try await f.eventually("it went along") { try await !f.list().map(\.id).contains(child) }
        }
    }
}
