import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// `base`, built by this machine's own package tools.
@Suite struct BaseImageTests {
    /// One whole build: what has an older base keeps it, everybody else gets the new one, and the same packages make the
    /// same image.
    @Test func aFreshBaseTakesThePlaceOfTheOldOneOnceAndForAll() async throws {
        try await withRegistry { f, registry in
            let packages = "cat home/images/layers/sha256/*/tree/var/lib/dpkg/status | sha256sum"
            let before = (id: try await baseID(f), packages: try await f.shell(packages).out)
            let old = try await pretendAnOlderBase(f, registry)
            try await f.succeed("run", "-d", "--name", "web", "--isolation", "runc", "--", "sleep", "1000")
            try await f.succeed("exec", "web", "--", "sh", "-c", "echo mine > /own")
            let untouched = try await f.succeed("image", "build", "base")
            #expect(
                untouched.out.contains(old) && untouched.out.contains("here already, built ")
                    && untouched.out.contains("--fresh"), "\(untouched)")

            // Two callers share one build.
            let build: @Sendable () async throws -> CommandResult = {
                try await f.aegis("image", "build", "base", "--fresh", deadline: .seconds(600))
            }
            async let other = build()
            let (first, second) = (try await build(), try await other)
            #expect(first.code == 0 && first.out == second.out && first.out.contains("before: \(old)"), "\(first)")
            let id = try #require(first.out.split(separator: " ").first { $0.hasPrefix("sha256:") })
            #expect(id != old)
            try await expectPython(f)

            // A start over the layers that its own layer was written over; they stay as long as it does.
            for _ in 0..<2 {
                #expect(try await f.succeed("exec", "web", "--", "cat", "/own", "/old").out == "mine\nold\n")
                try await f.succeed("image", "prune")
                try await f.succeed("instance", "restart", "web")
            }
            #expect(try await f.shell("ls home/images/layers/sha256 | wc -l").out == "2\n")
            try await f.succeed("instance", "delete", "web")
            try await f.succeed("image", "prune")
            #expect(try await f.shell("ls home/images/layers/sha256 | wc -l").out == "1\n")

            // This machine's base was built at another time: the same packages make the same image.
            let same = try await f.shell(packages).out == before.packages
            #expect(try await baseID(f) == String(id) && same == (id == before.id), "\(before), now \(id)")
            #expect(try await f.shell("ls home/images/tmp").out.isEmpty)
        }
    }

    @Test func onlyBaseIsBuiltAfresh() async throws {
        try await DaemonFixture.shared { f in
            try await f.refuse("image", "build", "x", "--fresh", code: 2, error: "invalid-argument")
            let body = #"{"reference":"127.0.0.1:1/x","fresh":true}"#
            let answer = try await f.run(
                "/usr/bin/curl",
                ["-s", "--unix-socket", "\(f.home)/aegisd.sock", "http://localhost/v1/images", "-d", body])
            #expect(answer.out.contains("is not built here"), "\(answer)")
        }
    }

    /// The id that `base` stands for.
    private func baseID(_ f: DaemonFixture) async throws -> String {
        struct Image: Decodable { var reference, id: String }
        let json = try await f.succeed("image", "list", "--output", "json")
        let images = try JSONDecoder().decode([Image].self, from: Data(json.stdout))
        return try #require(images.first { $0.reference == "base" }).id
    }

    /// Lets the name `base` stand for another image, as one that was built long ago.
    ///
    /// - Returns: the id of that image.
    private func pretendAnOlderBase(_ f: DaemonFixture, _ registry: Registry) async throws -> String {
        try await registry.push("old:1", "\(Registry.busybox) echo old > old")
        let pulled = try await f.succeed("image", "pull", registry.name("old:1"), "--quiet")
        let script = """
            import glob, json
            refs = {json.load(open(p))["reference"]: p for p in glob.glob("home/images/refs/*.json")}
            base, old = json.load(open(refs["base"])), json.load(open(refs["\(registry.name("old:1"))"]))
            base["image"], base["resolved"] = old["image"], old["image"]
            import os
            os.unlink(refs["base"])
            json.dump(base, open(refs["base"], "w"))
            """
        _ = try await f.shell("python3 -c '\(script)'")
        try await f.succeed("image", "delete", registry.name("old:1"))
        return pulled.out.trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private func expectPython(_ f: DaemonFixture) async throws {
        let look = """
            readlink /usr/bin/python; python -c 'import ssl, sqlite3, json; print(1)'; test -s /etc/ssl/certs/ca-certificates.crt
            test ! -s /etc/machine-id && ls /var/lib/apt/lists /var/cache/apt/archives && command -v cat
            """
        let inside = try await f.succeed("run", "--isolation", "runc", "--", "sh", "-c", look)
        #expect(inside.out.hasPrefix("python3\n1\n") && inside.out.hasSuffix("/cat\n"), "\(inside)")
    }
}
