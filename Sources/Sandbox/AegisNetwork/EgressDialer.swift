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
    /// - Throws: `NetworkDenial` when the addresses are none that may be reached, an `AegisError` when nobody answers.
    func dial(_ destination: Destination, for instance: String) async throws -> FileStream {
        do {
            return try await withDeadline(Self.deadline, clock: loop.clock) {
                try await connect(to: addresses(for: destination, instance), destination)
            }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(.timeout, "egress-timeout", "\(destination) did not answer in time")
        }
    }

    private func addresses(for destination: Destination, _ instance: String) async throws -> [IPAddress] {
        let found: [IPAddress]
        switch destination.host {
        case .address(let address): found = [address]
        case .name(let name):
            do { found = try await resolver.addresses(of: name.description, for: instance) } catch let error
                as ResolutionError
            {
                throw AegisError(.failed, "name-not-found", "\(name) has no address: \(error.message)")
            }
        }
        var refusals: [String] = []
        let usable = found.filter { address in
            guard let reason = refusal(of: address, destination, instance) else { return true }
            refusals.append("\(address) is \(reason)")
            return false
        }
        guard usable.isEmpty, !refusals.isEmpty else { return usable }
        throw NetworkDenial(
            instance, destination, reason: "address-refused",
            "'\(destination)' is refused: \(refusals.prefix(3).joined(separator: ", "))",
            hint: "private addresses and neighbours of this host need a grant of their own: --allow CIDR")
    }

    /// Why an address must not be connected to; nil when it may be.
    private func refusal(of address: IPAddress, _ destination: Destination, _ instance: String) -> String? {
        switch AddressClass(address) {
        case .forbidden(let what): return what
        case .restricted:
            // A name that leads into a private network opens it only to who was let in there by address.
            let request = Request(.connect(Destination(address, port: destination.port)))
            guard case .allow = evaluate(request, with: grants.grants(of: HolderID(instance)), at: .now()) else {
                return "private or reserved"
            }
        case .open:
            if let reason = refusal(ofNeighbour: address, destination, instance) { return reason }
        }
        // What cannot be looked up cannot be reached either; connecting says why.
        return (try? KernelNetwork.isLocal(address)) == true ? "this host" : nil
    }

    /// Why a public address must not be connected to as one on a network of this host's; nil when it is none, or was let in as one.
    private func refusal(ofNeighbour address: IPAddress, _ destination: Destination, _ instance: String) -> String? {
        let network: AddressBlock
        do throws(Errno) {
            guard let found = try KernelNetwork.neighbourhood(of: address) else { return nil }
            network = found
        } catch { return "not known to be none of this host's neighbours (\(error))" }
        // As with private addresses, a large block does not mean them: one does that lies in their network.
        let held = grants.grants(of: HolderID(instance))
        let near = held.grants.filter {
            guard case .network(let pattern) = $0.terms.capability, case .block(let block) = pattern.target else {
                return false
            }
            return network.contains(block)
        }
        let request = Request(.connect(Destination(address, port: destination.port)))
        guard case .allow = evaluate(request, with: GrantSet(near, protected: held.protected), at: .now()) else {
            return "on a network of this host's own"
        }
        return nil
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
