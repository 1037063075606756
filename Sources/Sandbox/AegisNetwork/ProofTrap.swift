import AegisIO
import LinuxSys
import Synchronization

/// The forbidden host that the daemon keeps for its proofs (decision D22): a namespace that takes every address for its own and
/// has nothing but these sockets. The gateway's only route leads there. So whatever a broken policy lets through, a probe's or
/// an instance's, comes to somebody of ours and to nobody else, and that is noticed.
final class ProofTrap: Sendable {
    /// The gateway's end of the way to it. It is none of the links' names: the rules take nothing from it and let nothing out.
    static let link = "trap"
    /// What it says to whoever arrives.
    static let greeting = Array("aegis: this must have been refused\n".utf8)
    /// Ports of the probes' attempts.
    private static let ports: [UInt16] = [9, 80, 443]
    static let datagramPort: UInt16 = 123

    private let listeners: [Listener]
    private let datagrams: FileStream
    private let isAlarmed = Atomic<Bool>(false)

    /// Opens its sockets.
    init(in namespace: SharedNamespace, on loop: EventLoop) throws {
        listeners = try Self.ports.map { port in
            try Listener(
                adopting: KernelNetwork.listener(on: "eth0", gateway: namespace.raw, address: 0, port: port), on: loop)
        }
        datagrams = try FileStream(
            KernelNetwork.datagrams(on: "eth0", gateway: namespace.raw, address: 0, port: Self.datagramPort), on: loop)
    }

    /// Answers connections, and takes note of datagrams, until `close`.
    ///
    /// - Parameter alarm: what is done when something has arrived; what arrives meanwhile is answered only.
    func serve(_ alarm: @escaping @Sendable () async -> Void) async {
        await withDiscardingTaskGroup { group in
            for listener in listeners {
                group.addTask {
                    await withDiscardingTaskGroup { group in
                        while let client = try? await listener.accept() {
                            _ = try? client.writeNow(Self.greeting[...])
                            client.close()
                            group.addTask { await self.tell(alarm) }
                        }
                    }
                }
            }
            group.addTask { await self.hear(alarm) }
        }
    }

    private func hear(_ alarm: @escaping @Sendable () async -> Void) async {
        var memory = [UInt8](repeating: 0, count: 64)
        await withDiscardingTaskGroup { group in
            while (try? await datagrams.waitUntilReadable()) != nil {
                while (try? datagrams.withDescriptor(
                    "reading", { descriptor throws(Errno) in try descriptor.receiveDatagram(into: &memory) })) != nil
                {
                    group.addTask { await self.tell(alarm) }
                }
            }
        }
    }

    private func tell(_ alarm: @Sendable () async -> Void) async {
        guard !isAlarmed.exchange(true, ordering: .relaxed) else { return }
        await alarm()
        isAlarmed.store(false, ordering: .relaxed)
    }

    /// Ends it.
    func close() {
        for listener in listeners { listener.close() }
        datagrams.close()
    }
}
