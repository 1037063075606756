import AegisCapabilities
import AegisCore
import AegisIO
import LinuxSys

/// Opens connections to the outside for instances, where their grants and the addresses themselves allow it.
struct EgressDialer: Sendable {
    let grants: GrantBook
    let resolver: any NameResolver
    let loop: EventLoop

    /// How long finding and reaching a server may take.
    private static var deadline: Duration { .seconds(15) }
    /// How many addresses of one name are tried.
    private static var attempts: Int { 6 }

    /// Connects to where an instance may go.
    ///
    /// - Parameters:
    ///   - destination: where to.
    ///   - instance: for whom.
    ///   - admitted: what has admitted this connection, and counts it.
    /// - Returns: the connection.
    /// - Throws: `NetworkDenial` when the addresses are none that may be reached, an `AegisError` when nobody answers.
    func dial(
        _ destination: Destination, for instance: String, admitted: Capability? = nil
    ) async throws -> FileStream {
        do {
            return try await withDeadline(Self.deadline, clock: loop.clock) {
                try await connect(to: addresses(for: destination, instance, admitted), destination)
            }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(.timeout, "egress-timeout", "\(destination) did not answer in time")
        }
    }

    private func addresses(
        for destination: Destination, _ instance: String, _ admitted: Capability?
    ) async throws -> [IPAddress] {
        let found: [IPAddress]
        // A name that was admitted says nothing of the addresses that it leads to.
        var ofAddress: Capability?
        switch destination.host {
        case .address(let address): (found, ofAddress) = ([address], admitted)
        case .name(let name):
            do { found = try await resolver.addresses(of: name.description, for: instance) } catch let error
                as ResolutionError
            {
                throw AegisError(.failed, "name-not-found", "\(name) has no address: \(error.message)")
            }
        }
        var refusals: [String] = []
        let held = grants.grants(of: HolderID(instance))
        let usable = found.filter { address in
            guard
                let reason = held.refusal(
                    of: address, port: destination.port, at: HostRoutes.place(of: address), admitted: ofAddress,
                    now: .now())
            else { return true }
            refusals.append("\(address) is \(reason)")
            return false
        }
        guard usable.isEmpty, !refusals.isEmpty else { return usable }
        throw NetworkDenial(
            instance, destination, reason: "address-refused",
            "'\(destination)' is refused: \(refusals.prefix(3).joined(separator: ", "))",
            hint: "private addresses and neighbours of this host need a grant of their own: --allow CIDR")
    }

    private func connect(to addresses: [IPAddress], _ destination: Destination) async throws -> FileStream {
        var failure = "it has no address"
        let ordered = addresses.filter(\.isIPv4) + addresses.filter { !$0.isIPv4 }
        for (number, address) in ordered.prefix(Self.attempts).enumerated() {
            // One that does not answer must leave time for the others.
            let time: Duration = number + 1 == min(ordered.count, Self.attempts) ? Self.deadline : .seconds(4)
            do throws(IOError) {
                return try await Connect.tcp(
                    host: address.description, port: destination.port, on: loop, deadline: time)
            } catch {
                if error.kind == .cancelled { throw CancellationError() }
                failure = "\(error)"
            }
        }
        throw AegisError(.failed, "egress-failed", "\(destination) cannot be reached: \(failure)")
    }
}
