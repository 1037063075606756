internal import AegisCore

/// A caller's own credentials for one registry, for one request: they are never stored and never shown.
package struct RegistryCredentials: Sendable, Codable, Equatable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    /// `HOST[:PORT]`; they are used for no other.
    package var registry: String
    /// Base64 of `USER:PASSWORD`.
    package var auth: String?
    /// A token that stands for user and password.
    package var identityToken: String?

    /// The most bytes of each value.
    private static let limit = 64 << 10

    /// Makes credentials as a file of them holds them.
    package init(registry: String, auth: String?, identityToken: String?) {
        self.registry = registry
        self.auth = auth
        self.identityToken = identityToken
    }

    package var description: String { "•••" }
    package var debugDescription: String { "•••" }
    package var customMirror: Mirror { Mirror(self, children: [] as [Mirror.Child]) }

    package enum CodingKeys: String, CodingKey, CaseIterable {
        case registry, auth
        case identityToken = "identity_token"
    }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        registry = try c.decode(String.self, forKey: .registry)
        auth = try c.decodeIfPresent(String.self, forKey: .auth)
        identityToken = try c.decodeIfPresent(String.self, forKey: .identityToken)
        guard auth != nil || identityToken != nil,
            [auth, identityToken].allSatisfy({ $0?.utf8.count ?? 1 <= Self.limit }),
            auth?.utf8.allSatisfy(Self.isBase64) ?? true
        else {
            throw AegisError.usage(
                "'credentials' holds neither a base64 'auth' nor an 'identity_token' of up to 64 KiB")
        }
    }

    private static func isBase64(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"), UInt8(ascii: "/"), UInt8(ascii: "="):
            true
        default: false
        }
    }
}
