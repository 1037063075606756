package import AegisCapabilities
package import AegisIO

/// Finds the addresses of names in the outside world; nothing inside ever does.
package protocol NameResolver: Sendable {
    /// The addresses of a name, best first.
    ///
    /// - Parameters:
    ///   - name: without a search list: it is what it says.
    ///   - instance: who wants them.
    /// - Returns: at least one.
    /// - Throws: `ResolutionError` when there are none; `CancellationError`.
    func addresses(of name: String, for instance: String) async throws -> [IPAddress]
}

/// Why a name has no addresses.
package struct ResolutionError: Error, Sendable, CustomStringConvertible {
    /// In the words of who was asked.
    package var message: String
    /// Makes an error.
    package init(_ message: String) { self.message = message }
    package var description: String { message }
}

/// The resolver of this host: its hosts file, then the name servers of its `resolv.conf`, both as they are at that moment.
///
/// No thread waits for an answer (decision D7). Names that hang hold up those of their own instance at most.
package struct HostResolver: NameResolver {
    /// Lookups at a time, each of which has a few sockets; more wait for their turn.
    package static let limit = 256
    /// Of one instance.
    package static let share = 32

    private let loop: EventLoop
    private let servers: String?
    private let deadline: Duration
    private let turns = LookupTurns(limit: Self.limit, share: Self.share)

    /// Makes a resolver.
    ///
    /// - Parameters:
    ///   - loop: where answers are waited for.
    ///   - servers: name servers to be asked instead of the host's, as `ADDRESS:PORT`, with commas.
    ///   - deadline: how long one lookup may take, from its turn.
    package init(on loop: EventLoop, servers: String? = nil, deadline: Duration = .seconds(10)) {
        self.loop = loop
        self.servers = servers
        self.deadline = deadline
    }

    package func addresses(of name: String, for instance: String) async throws -> [IPAddress] {
        try await turns.take(instance) {
            let (loop, servers) = (loop, servers)
            // A hosts file can be large, and `resolv.conf` on a slow disk.
            let (found, lookup) = try await BlockingPool.shared.run {
                let found = try HostLookup(name, in: .file, on: loop).read()
                return (found, found.isEmpty ? try HostLookup(name, in: .servers(servers), on: loop) : nil)
            }
            guard let lookup else { return found }
            return try await lookup.ask(within: deadline, withIPv6: Self.hasIPv6)
        }
    }

    /// Whether there is any way for IPv6 from here; the address is one of those that are given to hosts.
    private static var hasIPv6: Bool {
        guard let any = IPAddress("2600::1") else { return false }
        return (try? KernelNetwork.isLocal(any)) != nil
    }
}
