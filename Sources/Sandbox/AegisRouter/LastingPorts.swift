import AegisIO
internal import LinuxSys

/// Ports that an instance keeps for its life, where nobody has named one.
///
/// The kernel's own choice is a port that it also gives to connections which go out: while no daemon listens on it, as between `down` and
/// `up`, any of them can take it, and the number is not to be had again. Those outside of that range are left alone.
enum LastingPorts {
    /// What the kernel gives to connections that go out (ip(7), `ip_local_port_range`).
    struct Outgoing: Equatable {
        var first: UInt16
        var last: UInt16

        /// Linux's own setting.
        static let usual = Outgoing(first: 32768, last: 60999)

        init(first: UInt16, last: UInt16) { (self.first, self.last) = (first, last) }

        /// Reads what the kernel says: two numbers.
        init?(_ text: [UInt8]) {
            let numbers = text.split { $0 == 9 || $0 == 10 || $0 == 32 }.map {
                UInt16(String(decoding: $0, as: UTF8.self))
            }
            guard numbers.count == 2, let first = numbers[0], let last = numbers[1], first <= last else { return nil }
            self.init(first: first, last: last)
        }

        static var current: Outgoing {
            (try? Files.read("/proc/sys/net/ipv4/ip_local_port_range", limit: 64)).flatMap(Outgoing.init) ?? .usual
        }

        /// Ports above those that well-known services have, and outside of these; empty where the range leaves too few.
        var others: Range<UInt32> {
            let below = UInt32(20_000)..<max(20_000, UInt32(first))
            let above = (UInt32(last) + 1)..<65_536
            let best = below.count >= above.count ? below : above
            return best.count >= 1000 ? best : 0..<0
        }
    }

    /// Ports that are tried before the kernel chooses.
    private static let tries = 64

    /// Listens on a port.
    ///
    /// - Parameters:
    ///   - address: a numeric one.
    ///   - port: 0 = any free one that stays free for us.
    ///   - loop: who watches it.
    ///   - outgoing: what the kernel gives to others.
    /// - Returns: the listener.
    /// - Throws: `IOError` of kind `.system`.
    static func listen(
        address: String, port: UInt16, on loop: EventLoop, outgoing: @autoclosure () -> Outgoing = .current
    ) throws(IOError) -> Listener {
        let others = port == 0 ? outgoing().others : 0..<0
        if !others.isEmpty {
            for _ in 0..<tries {
                let port = UInt16(UInt32.random(in: others))
                do throws(IOError) {
                    return try Listener.tcp(address: address, port: port, on: loop, backlog: 4096)
                } catch {
                    guard error.errno == .addressInUse else { throw error }
                }
            }
        }
        return try Listener.tcp(address: address, port: port, on: loop, backlog: 4096)
    }
}
