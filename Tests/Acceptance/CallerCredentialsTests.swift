import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Registry credentials of whoever calls.
@Suite struct CallerCredentialsTests {
    /// The password of the user is "secret".
    private static let users = "user:$2y$05$Ap4D6PBvWLGXOIyhJ1H5v.3imXNiA5Oa2b5I0sJwC3d.TPX4mLGJG\n"
    private static let auth = "dXNlcjpzZWNyZXQ="

    private func login(_ f: DaemonFixture, _ registry: Registry, _ name: String, owner: UInt32, auth: String = auth)
        throws
        -> String
    {
        let path = "\(try f.folder("login-\(owner)-\(name)", owner: owner, mode: 0o700))/auth.json"
        try f.file(path, #"{"auths":{"127.0.0.1:\#(registry.port)":{"auth":"\#(auth)"}}}"#, owner: owner, mode: 0o600)
        return path
    }

    @Test func aUsersOwnCredentialsBringAnImageForThatUser() async throws {
        try await withRegistry(users: Self.users) { f, registry in
            try await registry.push(
                "app:1", config: #""Cmd":["/bin/echo","private"]"#, credentials: "user:secret", Registry.busybox)
            let image = registry.name("app:1")
            let file = try login(f, registry, "a", owner: stranger)
            func run(_ user: UInt32, _ more: String...) async throws -> CommandResult {
                try Files.setPermissions(f.path("."), 0o711)
                try Files.setPermissions(f.home, 0o711)
                try Files.setPermissions("\(f.home)/aegisd.sock", 0o666)
                return try await f.run(
                    "/usr/bin/setpriv",
                    [
                        "--reuid", "\(user)", "--regid", "\(user)", "--clear-groups", DaemonFixture.cli, "run",
                        "--isolation",
                    ]
                        + ["runc", "--image", image] + more, directory: "/")
            }
            let without = try await run(stranger)
            #expect(without.code == 125 && without.err.contains("image-auth-required"), "\(without)")
            #expect(without.err.contains("--authfile"), "\(without)")
            let with = try await run(stranger, "--authfile", file)
            #expect(with.out == "private\n", "\(with)")
            // It is here now, and theirs; nobody else has it, but administrators.
            #expect(try await run(stranger).out == "private\n")
            let other = try await run(stranger + 1)
            #expect(other.code == 125 && other.err.contains("image-private"), "\(other)")
            #expect(try await run(0).out == "private\n")
            // Asking again takes them again.
            let again = try await run(stranger, "--pull", "always")
            #expect(again.code == 125 && again.err.contains("image-"), "\(again)")
            #expect(try await run(stranger, "--pull", "always", "--authfile", file).out == "private\n")
            // A file that the caller may not read is not read by the daemon for them.
            let stolen = try await run(stranger + 1, "--authfile", file)
            #expect(stolen.code == 2 && stolen.err.contains("auth-file-unreadable"), "\(stolen)")
            // Wrong ones are said to be wrong, and nothing of an earlier pull is given away.
            let wrong = try login(f, registry, "wrong", owner: stranger + 1, auth: "dXNlcjp3cm9uZw==")
            let refused = try await run(stranger + 1, "--pull", "always", "--authfile", wrong)
            #expect(refused.code == 125 && refused.err.contains("image-auth-required"), "\(refused)")
            // With good ones of their own another user has it as well.
            let own = try login(f, registry, "own", owner: stranger + 1)
            #expect(try await run(stranger + 1, "--authfile", own).out == "private\n")
            #expect(try await run(stranger + 1).out == "private\n")
            try await nowhere(f)
        }
    }

    /// Neither password nor token is in a file of the daemon's, nor in its answers.
    private func nowhere(_ f: DaemonFixture) async throws {
        let found = try await f.shell(
            "grep -rlaF --devices=skip -e '\(Self.auth)' '\(f.home)' /run/aegis/\(try f.node) 2>/dev/null")
        #expect(found.out.isEmpty, "\(found)")
    }

    @Test func theFileNamedFirstCounts() async throws {
        try await withRegistry(users: Self.users) { f, registry in
            try await registry.push(
                "app:1", config: #""Cmd":["/bin/echo","private"]"#, credentials: "user:secret", Registry.busybox)
            let image = registry.name("app:1")
            let (good, bad) = (
                try login(f, registry, "good", owner: 0), try login(f, registry, "bad", owner: 0, auth: "dXNlcjp4")
            )
            func pull(_ environment: String, _ options: String = "") async throws -> CommandResult {
                try await f.shell(
                    "env -u XDG_RUNTIME_DIR HOME='\(f.path("."))/home-of-caller' \(environment) $AEGIS image pull \(options) \(image)"
                )
            }
            let none = try await pull("")
            #expect(none.code == 6 && none.err.contains("image-auth-required"), "\(none)")
            #expect(try await pull("REGISTRY_AUTH_FILE='\(bad)'").code == 6)
            #expect(try await pull("REGISTRY_AUTH_FILE='\(bad)'", "--authfile '\(good)'").code == 0)
            #expect(try await pull("REGISTRY_AUTH_FILE='\(good)'").code == 0)
            #expect(try await pull("REGISTRY_AUTH_FILE='\(good)'", "--authfile '\(bad)'").code == 6)
            let missing = try await pull("REGISTRY_AUTH_FILE=/none.json")
            #expect(missing.code == 2 && missing.err.contains("auth-file-unreadable"), "\(missing)")
            // The usual places: the first that knows the registry.
            let home = f.path("home-of-caller")
            try Files.makeDirectories("\(home)/.docker")
            try Files.makeDirectories("\(home)/.config/containers")
            try f.file("\(home)/.docker/config.json", try #require(f.text(good)))
            #expect(try await pull("").code == 0)
            try f.file("\(home)/.config/containers/auth.json", #"{"auths":{"elsewhere.example":{"auth":"eDp5"}}}"#)
            #expect(try await pull("").code == 0)
            try f.file("\(home)/.config/containers/auth.json", try #require(f.text(bad)))
            #expect(try await pull("").code == 6)
            // What an administrator has pulled by name is everybody's.
            let shared = try await f.aegis(as: stranger, "run", "--isolation", "runc", "--image", image)
            #expect(shared.out == "private\n", "\(shared)")
            try await nowhere(f)
        }
    }

    @Test func aHelperProgramOfTheCallersIsAsked() async throws {
        try await withRegistry(users: Self.users) { f, registry in
            try await registry.push(
                "app:1", config: #""Cmd":["/bin/echo","private"]"#, credentials: "user:secret", Registry.busybox)
            let folder = try f.folder("helpers", owner: stranger, mode: 0o700)
            let helper = """
                #!/bin/sh
                read -r server; echo "$(id -u) $1 $server" >> '\(folder)/asked'
                [ -e '\(folder)/locked' ] && { echo 'the key ring is locked'; exit 1; }
                [ "$server" = 127.0.0.1:\(registry.port) ] || { echo 'credentials not found in native keychain'; exit 1; }
                echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'
                """
            try await writeProgram("\(folder)/docker-credential-own", helper, on: f.loop)
            func pull(_ config: String) async throws -> CommandResult {
                try f.file("\(folder)/config.json", config, owner: stranger, mode: 0o600)
                _ = try await f.aegis(as: stranger, "status")
                return try await f.run(
                    "/usr/bin/setpriv",
                    [
                        "--reuid", "\(stranger)", "--regid", "\(stranger)", "--clear-groups", "/usr/bin/env",
                        "PATH=\(folder):/usr/bin:/bin", "HOME=/nonexistent", "DOCKER_CONFIG=\(folder)",
                        DaemonFixture.cli,
                        "run", "--isolation", "runc", "--pull", "always", "--image", registry.name("app:1"),
                    ], directory: "/")
            }
            for config in [
                #"{"credHelpers":{"127.0.0.1:\#(registry.port)":"own"}}"#, #"{"credsStore":"own"}"#,
                #"{"auths":{"127.0.0.1:\#(registry.port)":{}},"credsStore":"own"}"#,
            ] {
                let run = try await pull(config)
                #expect(run.code == 0 && run.out == "private\n" && run.err.isEmpty, "\(config) \(run)")
            }
            let asked = "\(stranger) get 127.0.0.1:\(registry.port)\n"
            #expect(f.text("\(folder)/asked") == asked + asked + asked)
            let other = try await pull(#"{"credHelpers":{"127.0.0.1:1":"own"}}"#)
            #expect(other.code == 125 && other.err.contains("(image-private)"), "\(other)")
            try f.file("\(folder)/locked", "")
            let locked = try await pull(#"{"credsStore":"own"}"#)
            #expect(
                locked.code == 125 && locked.err.contains("(credential-helper-failed)")
                    && locked.err.contains("docker-credential-own") && locked.err.contains("the key ring is locked"),
                "\(locked)")
            try await nowhere(f)
        }
    }

    @Test func credentialsComeOverTheSocketAndForTheRegistryOnly() async throws {
        try await DaemonFixture.with { f in
            let body =
                #"{"reference":"127.0.0.1:1/app:1","credentials":{"registry":"127.0.0.1:1","auth":"dXNlcjpzZWNyZXQ="}}"#
            let tcp = try await f.shell(
                """
                port=$($AEGIS status -o json | sed -n 's/.*127.0.0.1:\\([0-9]*\\).*/\\1/p' | head -1)
                curl -s -H "Authorization: Bearer $(cat '\(f.home)/token')" -d '\(body)' http://127.0.0.1:$port/v1/images
                """)
            #expect(tcp.out.contains("credentials-refused"), "\(tcp)")
            let other = try await f.shell(
                "curl -s --unix-socket '\(f.home)/aegisd.sock' -d '\(body.replacingOccurrences(of: "app:1\"", with: "app:1\"").replacingOccurrences(of: "\"registry\":\"127.0.0.1:1\"", with: "\"registry\":\"127.0.0.1:2\""))' http://x/v1/images"
            )
            #expect(other.out.contains("invalid-argument") && !other.out.contains("dXNlcjpzZWNyZXQ"), "\(other)")
            let malformed = try await f.shell(
                #"curl -s --unix-socket '\#(f.home)/aegisd.sock' -d '{"reference":"127.0.0.1:1/a","credentials":{"registry":"127.0.0.1:1","auth":"a b\n"}}' http://x/v1/images"#
            )
            #expect(malformed.out.contains("base64"), "\(malformed)")
        }
    }
}
