import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Whose image is whose.
@Suite struct ImageCallerTests {
    @Test func anotherUsersArchiveIsNotForOthers() async throws {
        try await withRegistry { f, registry in
            let place = try f.folder("archives", owner: stranger, mode: 0o755)
            func archive(_ tag: String) async throws {
                try await registry.push(
                    "app:\(tag)", config: #""Cmd":["/bin/cat","/v"]"#, "\(Registry.busybox) echo \(tag) > v")
                let made = try await f.shell(
                    """
                    rm -f '\(place)/image.tar'; skopeo --insecure-policy copy -q --src-tls-verify=false \
                      docker://\(registry.name("app:\(tag)")) docker-archive:'\(place)/image.tar':local/x:1
                    chown \(stranger):\(stranger) '\(place)/image.tar'; chmod 600 '\(place)/image.tar'
                    """)
                try #require(made.code == 0, "\(made)")
            }
            func run(_ user: UInt32, _ policy: String = "if-not-present") async throws -> CommandResult {
                try await f.aegis(
                    as: user, "run", "--isolation", "runc", "--pull", policy, "--image",
                    "docker-archive:\(place)/image.tar")
            }
            try await archive("first")
            let mine = try await run(stranger)
            #expect(mine.out == "first\n", "\(mine)")
            for policy in ["if-not-present", "always", "never"] {
                let other = try await run(stranger + 1, policy)
                #expect(other.code == 125 && other.err.contains("path-denied"), "\(policy) \(other)")
            }
            try await archive("other")
            #expect(try await run(stranger).out == "other\n")
            // What the others may read is theirs too.
            try Files.setPermissions("\(place)/image.tar", 0o644)
            #expect(try await run(stranger + 1).out == "other\n")
            try Files.removeTree("\(place)/image.tar")
            let gone = try await run(stranger)
            #expect(gone.code == 125 && gone.err.contains("image-not-found"), "\(gone)")
        }
    }

    /// The password of the user is "secret".
    private static let users = "user:$2y$05$Ap4D6PBvWLGXOIyhJ1H5v.3imXNiA5Oa2b5I0sJwC3d.TPX4mLGJG\n"

    @Test func theNodesCredentialsAreForItsAdministrators() async throws {
        try await withRegistry(users: Self.users) { f, registry in
            try await registry.push(
                "app:1", config: #""Cmd":["/bin/echo","private"]"#, credentials: "user:secret", Registry.busybox)
            let image = registry.name("app:1")
            try await f.aegis("down")
            try f.file(
                f.path("auth.json"), #"{"auths":{"127.0.0.1:\#(registry.port)":{"auth":"dXNlcjpzZWNyZXQ="}}}"#,
                mode: 0o600)
            try f.file(
                "\(f.home)/aegis-config.yaml",
                """
                apiVersion: 100monkeys.ai/v1
                kind: NodeConfig
                spec:
                  images: { stall_timeout: 30s, pull_timeout: 10m }
                  registries:
                    - { name: "127.0.0.1:\(registry.port)", auth_file: "\(f.path("auth.json"))" }
                """)
            try await f.up()
            func run(_ user: UInt32) async throws -> CommandResult {
                try await f.aegis(as: user, "run", "--isolation", "runc", "--image", image)
            }
            let before = try await run(stranger)
            #expect(before.code == 125 && before.err.contains("image-auth-required"), "\(before)")
            #expect(try await run(0).out == "private\n")
            let denied = try await run(stranger)
            #expect(denied.code == 125 && denied.err.contains("image-private"), "\(denied)")
            #expect(denied.err.contains("aegis image pull \(image)"), "\(denied)")
            // A program inside an administrator's instance is no administrator: it has its own image, and what everybody has.
            try await f.succeed(
                "instance", "start", "--name", "outer", "--isolation", "runc", "--grant", "spawn: *", "--", "sleep",
                "100000")
            let child = try await f.ask("outer", "POST", "/v1/instances", #"{"image": "\#(image)", "pull": "never"}"#)
            #expect(child.hasPrefix("403") && child.contains("image-private"), "\(child)")
            let same = try await f.ask("outer", "POST", "/v1/instances", #"{"command": ["true"]}"#)
            #expect(same.hasPrefix("201"), "\(same)")
            try await f.succeed(
                "instance", "start", "--name", "private", "--isolation", "runc", "--grant", "spawn: *", "--image",
                image,
                "--", "/bin/sleep", "100000")
            let request = #"{"image": "\#(image)", "command": ["/bin/echo", "mine too"]}"#
            let own = try await f.aegis(
                "exec", "private", "--", "/bin/busybox", "wget", "-q", "-O", "-", "--header",
                "Content-Type: application/json", "--post-data", request, "http://127.0.0.1:7777/v1/instances")
            #expect(own.code == 0 && own.out.contains(#""parent""#), "\(own)")
            try await f.succeed("instance", "delete", "outer")
            try await f.succeed("instance", "delete", "private")
            // An administrator shares it by pulling it; nobody uses it then.
            let pulled = try await f.aegis("image", "pull", image, "--output", "json")
            #expect(pulled.code == 0 && pulled.out.filter { $0 != " " }.contains("\"in_use\":false"), "\(pulled)")
            #expect(try await run(stranger).out == "private\n")
        }
    }

    @Test func aPipeInPlaceOfTheAccountsIsSaidAtOnce() async throws {
        try await withRegistry { f, registry in
            try await registry.push(
                "pipe:1", config: #""Cmd":["/bin/true"],"User":"bob""#, "\(Registry.busybox) mkfifo etc/passwd")
            // Reading it would never end: the command's own deadline tells.
            let run = try await f.aegis("run", "--isolation", "runc", "--image", registry.name("pipe:1"))
            #expect(run.code == 125 && run.err.contains("image-unusable") && run.err.contains("/etc/passwd"), "\(run)")
        }
    }
}
