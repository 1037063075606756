package import AegisCore

/// An exposed port, as the instance record shows it.
package struct ExposedPort: Sendable, Equatable {
    /// What is exposed; its public port is the one that the instance keeps, 0 while none was found.
    package var spec: ExposeSpec
    /// Why nobody listens on the public port.
    package var error: RecordedError?

    package init(_ spec: ExposeSpec) { self.spec = spec }

    package var guestPort: UInt16 { spec.guestPort }
    package var publicPort: UInt16 { spec.publicPort }

    /// Where clients reach it from this host; nil while nobody listens.
    package var url: String? {
        guard spec.publicPort != 0, error == nil else { return nil }
        let host = spec.address.isAny ? (spec.address.isIPv6 ? "[::1]" : "127.0.0.1") : spec.address.beforePort
        return "\(spec.portProtocol.rawValue)://\(host):\(spec.publicPort)"
    }

    /// What has to be said of a port that more than this host reaches; nil for loopback.
    package var warning: String? {
        guard !spec.address.isLoopback else { return nil }
        return "port \(spec.guestPort) is reachable on \(spec.address) by other hosts, and has no authentication"
    }
}

extension ExposedPort: Codable {
    private enum CodingKeys: String, CodingKey {
        case url, address, ui, wake, cooldown, wait, ready, spec, error
        case guestPort = "guest_port"
        case publicPort = "public_port"
        case portProtocol = "protocol"
    }

    /// Reads the record; the text of `spec` is what counts.
    package init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        spec = try ExposeSpec(parsing: c.decode(String.self, forKey: .spec))
        error = try c.decodeIfPresent(RecordedError.self, forKey: .error)
    }

    package func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        try c.encode(spec.description, forKey: .spec)
        try c.encode(spec.guestPort, forKey: .guestPort)
        try c.encode(spec.publicPort, forKey: .publicPort)
        try c.encode(spec.portProtocol, forKey: .portProtocol)
        try c.encode(url, forKey: .url)
        try c.encode(spec.address.description, forKey: .address)
        try c.encode(spec.ui, forKey: .ui)
        try c.encode(spec.wake, forKey: .wake)
        try c.encode(spec.cooldown, forKey: .cooldown)
        try c.encode(spec.wait, forKey: .wait)
        try c.encode(spec.ready.description, forKey: .ready)
        try c.encode(error, forKey: .error)
    }
}

/// The body of `POST /v1/instances/{id}/expose`.
package struct ExposeRequest: Sendable, Codable, Equatable {
    /// As `--expose` takes it.
    package var spec: String
    package init(spec: String) { self.spec = spec }

    package enum CodingKeys: String, CodingKey, CaseIterable { case spec }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        spec = try decoder.container(keyedBy: CodingKeys.self).decode(String.self, forKey: .spec)
    }
}

/// The body of `POST /v1/instances/{id}/keepalive`.
package struct KeepaliveRequest: Sendable, Codable, Equatable {
    /// How long from now on the instance must not sleep; 0 ends an earlier lease.
    package var ttl: TimeSpan
    package init(ttl: TimeSpan) { self.ttl = ttl }

    package enum CodingKeys: String, CodingKey, CaseIterable { case ttl }
    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        ttl = try decoder.container(keyedBy: CodingKeys.self).decode(TimeSpan.self, forKey: .ttl)
    }
}

/// The answer to a keepalive.
package struct Lease: Sendable, Codable, Equatable {
    /// When it ends; nil when there is none any more.
    package var expiresAt: Timestamp?
    package init(expiresAt: Timestamp?) { self.expiresAt = expiresAt }
    private enum CodingKeys: String, CodingKey { case expiresAt = "expires_at" }
}
