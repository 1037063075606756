internal import AegisClient
internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisSandboxTypes
internal import LinuxSys

/// Asks a program that keeps credentials, `docker-credential-NAME get`: it reads the registry's name and answers with JSON.
///
/// It runs as the caller, with the caller's environment, and is a program of the caller's own PATH.
struct CredentialHelper: Sendable {
    /// What the file calls it.
    let name: String
    /// The file, and what of it names the helper, for messages.
    let origin: String
    let caller: Caller
    let loop: EventLoop
    /// How long it may take: it may ask a person or a server.
    let patience: Duration

    /// The most bytes of an answer.
    private static let limit = 64 << 10
    /// What every helper says when it has nothing; there is no exit code for it.
    private static let nothing = "credentials not found"

    private var program: String { "docker-credential-\(name)" }

    /// Where the program is; nil when it is not on the caller's PATH.
    var path: String? {
        // A name that leads elsewhere names no helper.
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 32 && $0 < 127 && $0 != UInt8(ascii: "/") }) else {
            return nil
        }
        return Files.findExecutable(program, path: caller.variable("PATH") ?? "")
    }

    /// Its credentials for a registry.
    ///
    /// - Returns: nil when it has none.
    /// - Throws: `credential-helper-failed`.
    func credentials(for registry: String) async throws(AegisError) -> RegistryCredentials? {
        guard let path else {
            throw failure(registry, "it is not on PATH", hint: "install \(program), or remove it from the file")
        }
        // The name that programs for docker know its own registry by.
        let server = registry == RegistryLogin.conventional ? "https://index.docker.io/v1/" : registry
        let spec = ProcessSpec(
            executable: path, arguments: [program, "get"], environment: CurrentProcess.environment)
        let output: ProcessOutput
        do {
            output = try await runProcess(
                spec, input: Array("\(server)\n".utf8), outputLimit: Self.limit, deadline: patience, on: loop)
        } catch let error as IOError where error.kind == .timeout {
            throw failure(registry, "it gave no answer within \(patience)", hint: "is it waiting for a password?")
        } catch { throw failure(registry, "\(error)") }
        guard output.status.isSuccess else {
            let said = Self.line(output.stdout) ?? Self.line(output.stderr)
            if let said, said.contains(Self.nothing) { return nil }
            throw failure(registry, said ?? "it ended with \(output.status.shellCode) and said nothing")
        }
        guard let answer = try? JSONValue(parsing: output.stdout), let user = answer["Username"]?.text,
            let secret = answer["Secret"]?.text
        else { throw failure(registry, "its answer has no Username and Secret") }
        guard !secret.isEmpty else { return nil }
        // So a token is told from a password.
        if user == "<token>" { return RegistryCredentials(registry: registry, auth: nil, identityToken: secret) }
        let auth = Base64.encode(Array("\(user):\(secret)".utf8))
        return RegistryCredentials(registry: registry, auth: auth, identityToken: nil)
    }

    private func failure(_ registry: String, _ why: String, hint: String? = nil) -> AegisError {
        .failed(
            "credential-helper-failed",
            "\(program) (\(origin)) gives no credentials for '\(registry)': \(why)",
            hint: hint ?? "try it: echo \(registry) | \(program) get")
    }

    /// The first line of what it said that is one.
    private static func line(_ bytes: [UInt8]) -> String? {
        String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).lazy
            .map { String($0.prefix(200)) }.first { !$0.allSatisfy(\.isWhitespace) }
    }
}
