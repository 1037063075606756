import AegisSandboxTypes
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@testable import aegis

/// Which credentials are the caller's for an image.
@Suite struct RegistryLoginTests {
    private func found(_ auths: String, _ image: String?) throws -> RegistryCredentials? {
        let folder = try TemporaryDirectory()
        defer { withExtendedLifetime(folder) {} }
        let file = folder.path("auth.json")
        try Files.writeAtomically(file, Array(#"{"auths":{\#(auths)}}"#.utf8))
        let caller = Caller(
            user: 1, workingDirectory: folder.path, variable: { _ in nil }, fileType: { _ in nil })
        return try RegistryLogin.find(image: image, authfile: "auth.json", caller)
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
    ]) func theEntryOfTheRegistryIsTaken(_ image: String, _ auths: String, _ expected: String) throws {
        let own = try found(auths, image)
        let text = own.map { "\($0.registry) \($0.auth ?? "token \($0.identityToken ?? "")")" } ?? "none"
        #expect(text == expected)
        #expect(own.map { "\($0) \(String(reflecting: $0))" } ?? "••• •••" == "••• •••")
    }
}
