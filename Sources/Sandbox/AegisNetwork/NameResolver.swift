package import AegisCapabilities
internal import AegisIO

/// Finds the addresses of names in the outside world; nothing inside ever does.
package protocol NameResolver: Sendable {
    /// The addresses of a name, best first.
    ///
    /// - Throws: why there are none.
    func addresses(of name: String) async throws -> [IPAddress]
}

/// The resolver of this host, as its `resolv.conf`, `hosts` and `nsswitch.conf` say.
package struct HostResolver: NameResolver {
    /// Threads of its own: a name server that does not answer must hold up nothing else.
    private static let pool = BlockingPool(threads: 8, queueLimit: 256)
    /// Makes a resolver.
    package init() {}

    package func addresses(of name: String) async throws -> [IPAddress] {
        try await Self.pool.run { try KernelNetwork.resolve(name) }
    }
}
