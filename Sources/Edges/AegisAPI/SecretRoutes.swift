package import AegisAudit
internal import AegisCore
internal import AegisIO
internal import AegisInstances
internal import AegisJSON
internal import AegisSandboxTypes
package import AegisSecrets
internal import AegisWire
internal import FoundationEssentials

/// Secrets: set, list, delete. A value goes in and never comes out.
package struct SecretRoutes: Sendable {
    private struct Value: Decodable, Sendable {
        var value: [UInt8]
        enum CodingKeys: String, CodingKey, CaseIterable { case value, data }
        init(from decoder: any Decoder) throws {
            try decoder.refuseUnknownKeys(CodingKeys.self)
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            // `data` is base64, for a value that is not UTF-8.
            if let data = try fields.decodeIfPresent(Data.self, forKey: .data) {
                guard !fields.contains(.value) else { throw AegisError.usage("'value' and 'data' are both given") }
                value = Array(data)
            } else {
                value = Array(try fields.decode(String.self, forKey: .value).utf8)
            }
        }
    }

    private typealias Shown = AegisSandboxTypes.SecretInfo

    private let secrets: SecretStore
    private let audit: any AuditTrail

    /// Routes over a store, whose changes are recorded.
    package init(_ secrets: SecretStore, audit: any AuditTrail) {
        self.secrets = secrets
        self.audit = audit
    }

    package var routes: [Route] {
        [
            .json(.get, "/v1/secrets", "List secrets (names only)") { [secrets] context in
                try requireRoot(context)
                return Page(items: try secrets.list().map(Self.info))
            },
            .json(.get, "/v1/secrets/{name}", "Show a secret without its value") { [secrets] context in
                try requireRoot(context)
                return try Self.one(secrets, context.parameter("name"))
            },
            .json(.put, "/v1/secrets/{name}", "Store a secret") { [secrets, audit] context in
                try requireRoot(context)
                let name = context.parameter("name")
                // Bytes as they are, or JSON {"value": text}.
                let body = try await context.request.body.collect(upTo: 1 << 20)
                let isJSON = context.request.headers.first("content-type")?.hasPrefix("application/json") == true
                let value = isJSON ? try JSONBody.decode(Value.self, body).value : body
                let event = Self.event(.secretSet, name, context)
                try await BlockingPool.shared.run {
                    _ = try secrets.set(name, to: Secret(value)) { () throws(AegisError) in try audit.record(event) }
                }
                return try Self.one(secrets, name)
            },
            .json(.delete, "/v1/secrets/{name}", "Delete a secret") { [secrets, audit] context in
                try requireRoot(context)
                let name = context.parameter("name")
                let last = try Self.one(secrets, name)
                let event = Self.event(.secretDeleted, name, context)
                try await BlockingPool.shared.run {
                    try audit.record(event)
                    try secrets.delete(name)
                }
                return last
            },
        ]
    }

    private static func event(_ kind: AuditKind, _ name: String, _ context: RequestContext) -> AuditEvent {
        AuditEvent(kind, ("secret", .string(name)), ("uid", .number(context.caller.uid)))
    }

    private static func one(_ secrets: SecretStore, _ name: String) throws -> Shown {
        let all = try secrets.list()
        guard let found = all.first(where: { $0.name == name }) else {
            throw AegisError.notFound(
                "secret-not-found", "no secret '\(name)'",
                hint: nearest(name, in: all.map(\.name)).map { "did you mean '\($0)'?" } ?? "see 'aegis secret list'")
        }
        return info(found)
    }

    private static func info(_ secret: AegisSecrets.SecretInfo) -> Shown {
        Shown(name: secret.name, createdAt: secret.created, updatedAt: secret.updated)
    }
}

/// Credentials of a caller come over the local socket only: the kernel says whose they are, and nobody listens.
func requireSocket(_ context: RequestContext) throws(AegisError) {
    guard case .unix = context.request.peer else {
        throw AegisError(
            .denied, "credentials-refused", "registry credentials are not taken over TCP",
            hint: "send the request to the daemon's socket")
    }
}

/// Secrets and images belong to the node: only root and the daemon's own user change them.
func requireRoot(_ context: RequestContext) throws(AegisError) {
    guard context.isAdministrator else { throw administratorNeeded }
}
