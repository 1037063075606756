internal import AegisCapabilities
internal import CNetlink
internal import LinuxSys

/// Namespaces, veth pairs and the sockets of the gateway, as the kernel makes them.
enum KernelNetwork {
    /// A new namespace that is mounted on an existing empty file: nothing is forwarded in it.
    static func makeNamespace(on path: String) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe cn_make_namespace(path))
    }

    /// The namespace that is mounted on a file; `ENOENT` when there is none.
    static func openNamespace(_ path: String) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe cn_open_namespace(path))
    }

    /// Joins the gateway and an instance; fine when they are joined already.
    static func attach(_ link: String, gateway: Int32, instance: Int32, address: UInt32) throws(Errno) {
        guard unsafe cn_attach(gateway, instance, link, AddressPlan.gateway, address) == 0 else { throw Errno.current }
    }

    /// Takes a link away; fine when it is gone.
    static func detach(_ link: String, gateway: Int32) throws(Errno) {
        guard unsafe cn_detach(gateway, link) == 0 else { throw Errno.current }
    }

    /// Gives the gateway the only way that it has: to a namespace that takes every address for its own.
    static func makeTrap(_ link: String, gateway: Int32, trap: Int32) throws(Errno) {
        let status = unsafe cn_trap(
            gateway, trap, link, AddressPlan.gateway, AddressPlan.trap, AddressPlan.instances.lowerBound - 1,
            AddressPlan.instancesPrefix)
        guard status == 0 else { throw Errno.current }
    }

    /// A member's place in the kernel.
    struct Port: Sendable {
        var bridge: String
        var name: String
        /// The table of the rules for frames.
        var table: String
        var address: UInt32

        /// What the rules for frames let it carry: an element of their set `ports`. The hardware address is made of the other.
        var pin: String {
            let bytes = [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: address >> $0) }
            let hardware = ([0x02, 0xab] + bytes).map { byte in
                (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
            return "\"\(name)\" . \(hardware.joined(separator: ":")) . \(IPAddress(ipv4: address))"
        }
    }

    /// Makes an instance a member of a group; fine when it is one already.
    static func join(_ port: Port, gateway: Int32, instance: Int32) throws(Errno) {
        guard
            unsafe cn_join(
                gateway, instance, port.bridge, port.name, port.table, port.address, AddressPlan.groupPrefix) == 0
        else { throw Errno.current }
    }

    /// Takes a member out, and the bridge with the last; fine when it is gone.
    static func leave(_ port: Port, isLast: Bool, gateway: Int32) throws(Errno) {
        let status =
            isLast
            ? unsafe cn_leave(gateway, port.bridge, port.name, port.table, port.address)
            : unsafe cn_leave(gateway, nil, port.name, port.table, port.address)
        guard status == 0 else { throw Errno.current }
    }

    /// Whether a member's port is there, and the rules let its frames carry its address.
    static func isPinned(_ port: Port, gateway: Int32) throws(Errno) -> Bool {
        let result = unsafe cn_is_pinned(gateway, port.name, port.table, port.address)
        guard result >= 0 else { throw Errno.current }
        return result == 1
    }

    /// A socket that hears what the rules of a namespace tell of.
    static func log(of namespace: Int32) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: cn_refusals(namespace, GatewayRules.logGroup))
    }

    /// The kernel's number of an interface of the gateway's.
    static func number(of link: String, gateway: Int32) throws(Errno) -> UInt32 {
        let number = unsafe cn_link_index(gateway, link)
        guard number > 0 else { throw Errno.current }
        return UInt32(number)
    }

    /// How many packets of an interface, or frames of a port, the rules have dropped since they were loaded.
    static func dropped(_ interface: String, isPort: Bool, table: String, gateway: Int32) throws(Errno) -> UInt64 {
        var count: UInt64 = 0
        guard unsafe cn_dropped(gateway, isPort ? 1 : 0, table, interface, &count) == 0 else { throw Errno.current }
        return count
    }

    /// How long ago members of a group have last sent something to a port, or have got something from it; nil when that is too long
    /// ago to be known, or never was.
    static func unused(_ port: String, table: String, gateway: Int32) throws(Errno) -> Duration? {
        let lasting = UInt64(GatewayRules.remembersUse.components.seconds) * 1000
        let time = unsafe cn_unused(gateway, table, port, lasting)
        guard time < 0 else { return .milliseconds(time) }
        guard Errno.current == .noSuchFile else { throw Errno.current }
        return nil
    }

    /// A datagram of a probe's, and where it comes in.
    struct ProbeMark: Sendable {
        var interface: String
        var flow: ProbeFlow
    }

    /// Has the rules know what a probe is about to send for a probe's, or forget it. Where they cannot, it is counted as the
    /// instance's: the proof itself finds out what is wrong with them.
    static func mark(_ marks: [ProbeMark], _ isExpected: Bool, table: String, gateway: Int32) {
        let list = marks.compactMap { mark -> cn_probe_flow? in
            guard mark.flow.destination.address.isIPv4 else { return nil }
            var one = cn_probe_flow()
            one.bridged = mark.flow.inGroup ? 1 : 0
            unsafe withUnsafeMutableBytes(of: &one.interface) {
                unsafe $0.copyBytes(from: mark.interface.utf8.prefix(15))
            }
            one.address = UInt32(truncatingIfNeeded: mark.flow.destination.address.value)
            one.port = mark.flow.destination.port
            one.source_port = mark.flow.source.port
            return one
        }
        guard !list.isEmpty else { return }
        _ = unsafe cn_expect_probes(gateway, table, list, list.count, isExpected ? 1 : 0)
    }

    /// How many packets from an address have come through to the trap since its rules were loaded.
    static func arrived(from address: UInt32, table: String, trap: Int32) throws(Errno) -> UInt64 {
        var count: UInt64 = 0
        guard unsafe cn_arrived(trap, table, address, &count) == 0 else { throw Errno.current }
        return count
    }

    /// Which load of a table's rules is in force: another number after each; 0 while there are none.
    static func generation(of table: String, in namespace: Int32) throws(Errno) -> UInt64 {
        var handle: UInt64 = 0
        guard unsafe cn_table_handle(namespace, table, &handle) == 0 else { throw Errno.current }
        return handle
    }

    /// A listening socket that hears one link only; address 0 is every one.
    static func listener(
        on link: String, gateway: Int32, address: UInt32 = AddressPlan.gateway, port: UInt16
    ) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe cn_bound_socket(gateway, stream, link, address, port, 256))
    }

    /// A datagram socket that hears one link only; address 0 is every one.
    static func datagrams(
        on link: String, gateway: Int32, address: UInt32 = AddressPlan.gateway, port: UInt16
    ) throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: unsafe cn_bound_socket(gateway, datagram, link, address, port, 0))
    }
    private static var stream: Int32 { 1 }
    private static var datagram: Int32 { 2 }

    /// Whether an address is one of this host's own.
    static func isLocal(_ address: IPAddress) throws(Errno) -> Bool {
        let result = unsafe cn_is_local(address.description)
        guard result >= 0 else { throw Errno.current }
        return result == 1
    }
}

extension FileDescriptor {
    /// Where a redirected connection was going.
    borrowing func originalDestination() throws(Errno) -> (address: IPAddress, port: UInt16) {
        var address: UInt32 = 0
        var port: UInt16 = 0
        guard unsafe cn_original_destination(raw, &address, &port) == 0 else { throw Errno.current }
        return (IPAddress(ipv4: address), port)
    }

    /// The other side of a connection.
    borrowing func peer() throws(Errno) -> (address: IPAddress, port: UInt16) {
        var address: UInt32 = 0
        var port: UInt16 = 0
        guard unsafe cn_peer(raw, &address, &port) == 0 else { throw Errno.current }
        return (IPAddress(ipv4: address), port)
    }

    /// Takes one datagram.
    ///
    /// - Returns: how many bytes, and who sent them.
    borrowing func receiveDatagram(into memory: inout [UInt8]) throws(Errno) -> (Int, UInt32, UInt16) {
        var address: UInt32 = 0
        var port: UInt16 = 0
        let count = unsafe memory.withUnsafeMutableBytes {
            unsafe cn_receive_from(raw, $0.baseAddress, $0.count, &address, &port)
        }
        guard count >= 0 else { throw Errno.current }
        return (count, address, port)
    }

    /// Sends one datagram, or not: nothing waits.
    borrowing func sendDatagram(_ bytes: [UInt8], to address: UInt32, _ port: UInt16) {
        _ = unsafe bytes.withUnsafeBytes { unsafe cn_send_to(raw, $0.baseAddress, $0.count, address, port) }
    }
}
