import AegisCapabilities
internal import CNetlink
internal import LinuxSys

/// A packet or frame that the kernel's rules have told of: one that they refused, or one that should not have come so far.
struct LoggedPacket: Sendable, Hashable {
    /// The kernel's number of the interface that it came in on.
    var link: UInt32
    /// As 0x0800 for IPv4.
    var etherType: UInt16
    /// Of IPv4, as 17 for UDP.
    var transport: UInt8
    /// Where it was for; 0 when that is not known.
    var address: UInt32
    /// Whom it says that it is from.
    var source: UInt32
    var port: UInt16
    var sourcePort: UInt16
    /// Whether the rules knew it for a probe's, and have not counted it.
    var isProbe = false

    /// Takes what a socket of `KernelNetwork.log` has.
    ///
    /// - Throws: `EAGAIN` when there is nothing, `ENOBUFS` when there was more than the kernel could keep.
    static func read(_ socket: borrowing FileDescriptor) throws(Errno) -> [LoggedPacket] {
        var room = [cn_refusal](repeating: cn_refusal(), count: 64)
        let count = unsafe cn_read_refusals(socket.raw, &room, room.count)
        guard count >= 0 else { throw Errno.current }
        return room[..<Int(count)].map { one in
            LoggedPacket(
                link: one.link, etherType: one.ethertype, transport: one.protocol, address: one.address,
                source: one.source, port: one.port, sourcePort: one.source_port,
                isProbe: one.is_probe != 0)
        }
    }

    private var host: String {
        etherType == 0x0800 || address != 0 ? IPAddress(ipv4: address).description : kind
    }

    /// As `UDP to 192.0.2.1:123`.
    var text: String { address == 0 ? kind : "\(kind) to \(host)\(port == 0 ? "" : ":\(port)")" }

    /// The reasons that are told of one.
    static let reasons = ["protocol-denied", "frame-denied"]

    /// What is told of it.
    func denial(of instance: String, inGroup: Bool) -> NetworkDenial {
        let (host, what) = (host, text)
        if inGroup {
            return NetworkDenial(
                instance, host, port == 0 ? nil : port, reason: "frame-denied",
                "\(what) is refused in the group: its sender, its receiver or its kind is not a member's",
                hint: "members of a group reach each other's addresses by IPv4")
        }
        return NetworkDenial(
            instance, host, port == 0 ? nil : port, reason: "protocol-denied",
            "\(what) is refused: only TCP, and questions for names, leave a sandbox")
    }

    /// The kind of packet in words.
    private var kind: String {
        switch (etherType, transport) {
        case (0x0800, 1): "ICMP"
        case (0x0800, 6): "TCP"
        case (0x0800, 17): "UDP"
        case (0x0800, let other): "IP protocol \(other)"
        case (0x0806, _): "ARP"
        case (0x86dd, _): "IPv6"
        case (let other, _): "Ethernet 0x\(String(other, radix: 16))"
        }
    }
}
