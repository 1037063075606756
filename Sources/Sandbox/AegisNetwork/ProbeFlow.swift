import AegisCapabilities
import AegisIO
import LinuxSys

/// One attempt of a probe's as it is seen where it arrives: all that tells it from what the instance's own programs do at the same
/// time, who may have the same port towards another place.
struct ProbeFlow: Sendable, Hashable {
    /// The protocols of IPv4 that probes use.
    enum Transport: UInt8, Sendable { case tcp = 6, udp = 17 }

    /// A place in the network.
    struct Place: Sendable, Hashable {
        var address: IPAddress
        var port: UInt16
    }

    var transport: Transport
    var source: Place
    var destination: Place
    /// Whether it is a frame of the instance's port in its group, not a packet of its link.
    var inGroup = false
}

extension ProbeFlow {
    /// What a trial will be seen as; nil for what cannot be sent at all, so that nobody sees it.
    ///
    /// - Parameters:
    ///   - trial: what is tried.
    ///   - port: the port that it is tried from.
    ///   - own: the instance's address.
    init?(_ trial: PolicyProver.Trial, from port: UInt16, of own: UInt32) {
        var source = own
        switch trial.kind {
        case .tcp, .echo: transport = .tcp
        case .udp, .question: transport = .udp
        case .frame:
            // As `cn_attempt_all` forges it.
            (transport, source, inGroup) = (.udp, trial.address ^ 1, true)
        case .tcpSix: return nil
        }
        self.source = Place(address: IPAddress(ipv4: source), port: port)
        destination = Place(address: IPAddress(ipv4: trial.address), port: trial.port)
    }

    /// What a redirected connection is; nil when it has ended already.
    init?(_ client: FileStream) {
        let ends = try? client.withDescriptor("asking for its ends") { descriptor throws(Errno) in
            (try descriptor.peer(), try descriptor.originalDestination())
        }
        guard let ((from, port), (to, wanted)) = ends else { return nil }
        self.init(
            transport: .tcp, source: Place(address: from, port: port), destination: Place(address: to, port: wanted))
    }

    /// What a packet is that the kernel has told of; nil for what no probe sends.
    init?(_ packet: LoggedPacket, inGroup: Bool = false) {
        guard packet.etherType == 0x0800, let transport = Transport(rawValue: packet.transport) else { return nil }
        self.init(
            transport: transport, source: Place(address: IPAddress(ipv4: packet.source), port: packet.sourcePort),
            destination: Place(address: IPAddress(ipv4: packet.address), port: packet.port), inGroup: inGroup)
    }
}
