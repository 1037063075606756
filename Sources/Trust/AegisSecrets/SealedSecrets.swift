internal import AegisCore

/// The values that a running instance was given, sealed for its record: they outlive the daemon there and stand in no file in
/// the clear.
extension SecretStore {
    private static let formatVersion: UInt8 = 1

    /// Seals values with the store's key.
    ///
    /// - Parameters:
    ///   - secrets: names and values; a name may come more than once.
    ///   - owner: whom they belong to; under another name they do not open.
    /// - Returns: what may be stored.
    package func seal(_ secrets: [InjectedSecret], for owner: String) -> [UInt8] {
        var plain: [UInt8] = [Self.formatVersion]
        for secret in secrets {
            for field in [Array(secret.name.utf8), secret.value.reveal()] {
                for shift in [0, 8, 16, 24] { plain.append(UInt8(truncatingIfNeeded: field.count >> shift)) }
                plain += field
            }
        }
        defer { SecretKey.wipe(&plain) }
        return key.seal(plain, label: Self.injectedLabel(owner))
    }

    /// Opens what `seal` made.
    ///
    /// - Returns: the values in their order; nil when key, owner or a single bit is not the one that they were sealed with.
    package func unseal(_ sealed: [UInt8], for owner: String) -> [InjectedSecret]? {
        guard var plain = key.open(sealed, label: Self.injectedLabel(owner)) else { return nil }
        defer { SecretKey.wipe(&plain) }
        guard plain.first == Self.formatVersion else { return nil }
        var rest = plain.dropFirst()
        func field() -> [UInt8]? {
            guard rest.count >= 4 else { return nil }
            let count = rest.prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) }
            rest = rest.dropFirst(4)
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return Array(rest.prefix(count))
        }
        var secrets: [InjectedSecret] = []
        while !rest.isEmpty {
            guard let name = field(), let value = field() else { return nil }
            secrets.append(InjectedSecret(name: String(decoding: name, as: UTF8.self), value: Secret(value)))
        }
        return secrets
    }

    private static func injectedLabel(_ owner: String) -> String { "aegis injected secrets v1\0\(owner)" }
}
