import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@testable import aegis

/// Which credentials are the caller's for an image.
@Suite struct RegistryLoginTests {
    private func found(_ auths: String, _ image: String?) async throws -> RegistryCredentials? {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        let file = folder.path("auth.json")
        try Files.writeAtomically(file, Array(#"{"auths":{\#(auths)}}"#.utf8))
        let caller = Caller(
            user: 1, workingDirectory: folder.path, variable: { _ in nil }, fileType: { _ in nil })
        return try await onLoop { loop in
            try await RegistryLogin.find(image: image, authfile: "auth.json", caller, on: loop)
        }
    }

    @Test(arguments: [
        ("r.example/app:1", #""r.example":{"auth":"YQ=="}"#, "r.example YQ=="),
        (
            "r.example:5000/app@sha256:00", #""r.example:5000":{"auth":"YQ=="},"r.example":{"auth":"Yg=="}"#,
            "r.example:5000 YQ=="
        ),
        // The most exact entry counts.
        ("r.example/team/app", #""r.example":{"auth":"YQ=="},"r.example/team":{"auth":"Yg=="}"#, "r.example Yg=="),
        (
            "r.example/team/app:2", #""r.example/team/app":{"auth":"Yw=="},"r.example/team":{"auth":"Yg=="}"#,
            "r.example Yw=="
        ),
        ("r.example/teams/app", #""r.example/team":{"auth":"Yg=="}"#, "none"),
        // Old forms of keys.
        ("python:3.12", #""https://index.docker.io/v1/":{"auth":"YQ=="}"#, "docker.io YQ=="),
        ("me/app", #""docker.io":{"auth":"YQ=="}"#, "docker.io YQ=="),
        ("r.example/app", #""https://r.example/v2/":{"auth":"YQ=="}"#, "r.example YQ=="),
        ("localhost/app", #""localhost":{"auth":"YQ=="}"#, "localhost YQ=="),
        // One that a helper program keeps holds nothing.
        ("r.example/app", #""r.example":{}"#, "none"),
        ("r.example/app", #""r.example":{"identitytoken":"tok"}"#, "r.example token tok"),
        ("base", #""docker.io":{"auth":"YQ=="}"#, "none"),
        ("oci-archive:/x/y.tar", #""docker.io":{"auth":"YQ=="}"#, "none"),
    ]) func theEntryOfTheRegistryIsTaken(_ image: String, _ auths: String, _ expected: String) async throws {
        let own = try await found(auths, image)
        let text = own.map { "\($0.registry) \($0.auth ?? "token \($0.identityToken ?? "")")" } ?? "none"
        #expect(text == expected)
        #expect(own.map { "\($0) \(String(reflecting: $0))" } ?? "••• •••" == "••• •••")
    }

    /// What a helper program says and what becomes of it.
    @Test(arguments: [
        (#"echo '{"ServerURL":"x","Username":"user","Secret":"secret"}'"#, "dXNlcjpzZWNyZXQ="),
        (#"echo '{"Username":"<token>","Secret":"tok"}'"#, "token tok"),
        (#"[ "$(cat)" = r.example ] && echo '{"Username":"a","Secret":"b"}'"#, "YTpi"),
        ("echo 'credentials not found in native keychain'; exit 1", "none"),
        (#"echo '{"Username":"user","Secret":""}'"#, "none"),
        ("echo 'the key ring is locked'; exit 1", "the key ring is locked"),
        ("echo 'no terminal' >&2; exit 3", "no terminal"),
        ("exit 7", "ended with 7"),
        ("echo secret-without-form", "no Username and Secret"),
        ("head -c 100000 /dev/zero", "credential-helper-failed"),
        ("exec sleep 1000", "no answer within"),
    ]) func aHelperProgramIsAsked(_ script: String, _ expected: String) async throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        try await onLoop { loop in
            try await writeProgram(folder.path("docker-credential-own"), "#!/bin/sh\n\(script)\n", on: loop)
        }
        for config in [#"{"credsStore":"own"}"#, #"{"credHelpers":{"r.example":"own"},"credsStore":"absent"}"#] {
            try Files.writeAtomically(folder.path("config.json"), Array(config.utf8))
            let caller = Caller(
                user: 1, workingDirectory: folder.path,
                variable: { $0 == "PATH" ? "\(folder.path):/usr/bin:/bin" : $0 == "DOCKER_CONFIG" ? folder.path : nil },
                fileType: { _ in nil })
            let patience: Duration = expected == "no answer within" ? .milliseconds(50) : .seconds(30)
            let text = try await onLoop { loop in
                do {
                    let own = try await RegistryLogin.find(
                        image: "r.example/app:1", authfile: nil, caller, on: loop, patience: patience)
                    return own.map { $0.auth ?? "token \($0.identityToken ?? "")" } ?? "none"
                } catch { return "\(error)" }
            }
            #expect(
                text == expected || (text.contains("(credential-helper-failed)") && text.contains(expected)), "\(text)")
            #expect(!text.contains("secret-without-form"))
        }
    }

    /// A name in the file, whether the registry has an entry, and what comes of a program that is not there.
    @Test(arguments: [
        (#"{"credsStore":"absent"}"#, false), (#"{"credsStore":"absent","auths":{"https://r.example":{}}}"#, true),
        (#"{"credHelpers":{"r.example":"absent"}}"#, true), (#"{"credHelpers":{"other.example":"absent"}}"#, false),
        (#"{"credHelpers":{"r.example":"../../bin/sh"}}"#, true),
        // An entry of its own is there without any program.
        (#"{"credsStore":"absent","auths":{"r.example":{"auth":"YQ=="}}}"#, false),
    ]) func aMissingHelperIsSaidWhereItIsNeeded(_ config: String, _ isNeeded: Bool) async throws {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        try Files.writeAtomically(folder.path("auth.json"), Array(config.utf8))
        let caller = Caller(
            user: 1, workingDirectory: folder.path, variable: { $0 == "PATH" ? "/usr/bin:/bin" : nil },
            fileType: { _ in nil })
        let error = try await onLoop { loop in
            do {
                _ = try await RegistryLogin.find(image: "r.example/app", authfile: "auth.json", caller, on: loop)
                return ""
            } catch { return "\(error)" }
        }
        #expect(isNeeded == error.contains("is not on PATH") && isNeeded != error.isEmpty, "\(error)")
    }
}
