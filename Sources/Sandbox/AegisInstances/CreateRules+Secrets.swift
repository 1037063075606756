internal import AegisCapabilities
internal import AegisCore
internal import AegisSandboxTypes
internal import AegisSecrets
internal import LinuxSys

/// What a request says of secrets.
extension CreateRules {
    /// Which secrets an instance gets, in canonical form.
    ///
    /// - Throws: `administrator-needed`, `invalid-argument`, `secret-not-found`.
    func secrets(_ names: [String]) throws -> [String] {
        // Secrets are the node's: who may not change them must not read them by way of an instance either.
        guard names.isEmpty || caller.uid == 0 || caller.uid == CurrentProcess.effectiveUser else {
            throw AegisError(
                .denied, "administrator-needed", "secrets belong to the whole node",
                hint: "ask root to start the instance, or hand the value over with --env")
        }
        guard names != ["*"] else { return names }
        let plain = try names.map { try SecretArgument(parsing: $0) }
        for wanted in plain {
            let name = wanted.name
            guard name != "*" else {
                throw AegisError.usage(
                    "'*' stands for all secrets and goes alone", hint: "give --secret '*' only, or name each one")
            }
            if case .plain = wanted, plain.contains(where: { $0 != wanted && $0.name == name }) {
                throw AegisError.usage(
                    "the secret '\(name)' is given both as a value and as a placeholder", hint: "give one form of it")
            }
            guard try services.secrets.exists(name) else {
                let known = try services.secrets.list().map(\.name)
                throw AegisError.notFound(
                    "secret-not-found", "no secret '\(name)'",
                    hint: nearest(name, in: known).map { "did you mean '\($0)'?" }
                        ?? "store it with 'aegis secret set \(name)'")
            }
        }
        return plain.map(\.description)
    }

    /// Those of them whose values stay outside.
    func brokered(_ secrets: [String]) -> [SecretBinding] {
        secrets.compactMap {
            if case .brokered(let binding)? = try? SecretArgument(parsing: $0) { binding } else { nil }
        }
    }
}
