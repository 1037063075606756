import AegisIO
import LinuxSys

/// The forbidden host that the daemon keeps for its proofs (decision D22): a namespace that takes every address for its own and
/// has nothing but these sockets. The gateway's only route leads there. So whatever a broken policy lets through, a probe's or
/// an instance's, comes to somebody of ours and to nobody else, and the kernel tells of it, whatever protocol and port it is for.
final class ProofTrap: Sendable {
    /// The gateway's end of the way to it. It is none of the links' names: the rules take nothing from it and let nothing out.
    static let link = "trap"
    /// What it says to whoever connects.
    static let greeting = Array("aegis: this must have been refused\n".utf8)
    /// What stands in place of a denial's reason for a probe's attempt that came here.
    static let reason = "came-through"
    /// Ports that are answered: those of the probes' attempts.
    private static let ports: [UInt16] = [9, 80, 443]
    /// Packets that one alarm names at most.
    private static let mostNamed = 256

    /// The name of its table.
    static func table(_ node: String) -> String { "\(GatewayRules.table(node))_trap" }

    /// What may arrive is everything; what is answered is what the probes try. Each sender is told of often enough to be known, and
    /// not so often that it could drown the others; and is counted, for a daemon to come.
    static func rules(_ node: String) -> String {
        let table = table(node)
        let answered = ports.map(String.init).joined(separator: ", ")
        return """
            add table inet \(table)
            delete table inet \(table)
            table inet \(table) {
              set arrived { type ipv4_addr; size 65535; flags dynamic; counter; }
              set telling { type ipv4_addr; size 65535; flags dynamic; }
              chain arriving { type filter hook prerouting priority raw; policy accept;
                iifname "eth0" update @arrived { ip saddr }
                iifname "eth0" update @telling { ip saddr limit rate 100/second burst 200 packets } \
            log group \(GatewayRules.logGroup) snaplen 96
              }
              chain input { type filter hook input priority filter; policy drop;
                tcp dport { \(answered) } accept
              }
            }

            """
    }

    private let listeners: [Listener]
    private let arrivals: FileStream

    /// Opens its sockets in a namespace that has the rules.
    init(in namespace: SharedNamespace, on loop: EventLoop) throws {
        arrivals = try FileStream(KernelNetwork.log(of: namespace.raw), on: loop)
        listeners = try Self.ports.map { port in
            try Listener(
                adopting: KernelNetwork.listener(on: "eth0", gateway: namespace.raw, address: 0, port: port), on: loop)
        }
    }

    /// Answers connections and tells of what arrives, until `close`.
    ///
    /// - Parameter alarm: what is done when something has arrived, one time after the other; without packets when there were more
    ///   than the kernel could keep.
    func serve(_ alarm: @escaping @Sendable (Set<LoggedPacket>) async -> Void) async {
        await withDiscardingTaskGroup { group in
            for listener in listeners {
                group.addTask {
                    while let client = try? await listener.accept() {
                        _ = try? client.writeNow(Self.greeting[...])
                        client.close()
                    }
                }
            }
            group.addTask { await self.hear(alarm) }
        }
    }

    private func hear(_ alarm: @Sendable (Set<LoggedPacket>) async -> Void) async {
        while (try? await arrivals.waitUntilReadable()) != nil {
            guard let packets = take() else { return }
            await alarm(packets)
        }
    }

    /// All that is there; nil when there never will be anything again.
    private func take() -> Set<LoggedPacket>? {
        var packets: Set<LoggedPacket> = []
        while packets.count < Self.mostNamed {
            do throws(IOError) {
                packets.formUnion(
                    try arrivals.withDescriptor("reading what arrived") { descriptor throws(Errno) in
                        try LoggedPacket.read(descriptor)
                    })
            } catch {
                switch error.errno {
                case .wouldBlock?: return packets
                case .noBufferSpace?: continue
                default: return nil
                }
            }
        }
        return packets
    }

    /// Ends it.
    func close() {
        for listener in listeners { listener.close() }
        arrivals.close()
    }
}
