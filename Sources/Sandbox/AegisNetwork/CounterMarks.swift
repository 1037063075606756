import LinuxSys

/// How far the kernel's counters of an instance have been told of. It is kept in a file that outlives the daemon: what the counters
/// say more to the next one is what nobody has heard of.
struct CounterMarks: Sendable, Equatable {
    /// Packets and frames that the rules have dropped.
    var refused: UInt64
    /// Packets that came through to the trap.
    var arrived: UInt64

    init(refused: UInt64, arrived: UInt64) {
        self.refused = refused
        self.arrived = arrived
    }

    /// What a file holds; nil for one that is not whole.
    init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        func number(_ range: Range<Int>) -> UInt64 { bytes[range].reduce(0) { $0 << 8 | UInt64($1) } }
        self.init(refused: number(0..<8), arrived: number(8..<16))
    }

    /// What these count more than others. Counters that went back have been made anew, and say what they count. That of refusals may
    /// seem to have gone back by a few: the kernel's message of a packet may come before or after its counter is read.
    func beyond(_ other: CounterMarks) -> CounterMarks {
        let excess = other.refused > refused ? other.refused - refused : 0
        let isSame = excess <= min(Self.overlap, other.refused / 2)
        return CounterMarks(
            refused: excess == 0 ? refused - other.refused : isSame ? 0 : refused,
            arrived: arrived >= other.arrived ? arrived - other.arrived : arrived)
    }

    /// Packets that may be told twice where counters and messages of the kernel meet.
    private static let overlap: UInt64 = 16

    /// What a file holds.
    var bytes: [UInt8] {
        [refused, arrived].flatMap { value in
            stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> UInt64($0)) }
        }
    }
}

/// The counters of one instance in the gateway and in the trap.
struct InstanceCounters: Sendable {
    let node: String
    /// The number of the instance's link.
    let index: UInt32
    let gateway: SharedNamespace
    let trap: SharedNamespace

    /// What they say now: of its link and of its port in a group, whether it has one now or not. Blocks.
    func read() throws(Errno) -> CounterMarks {
        let table = GatewayRules.table(node)
        let packets = try KernelNetwork.dropped(
            "\(GatewayRules.prefix(node))\(index)", isPort: false, table: table, gateway: gateway.raw)
        let frames = try KernelNetwork.dropped(
            GatewayRules.port(node, index), isPort: true, table: table, gateway: gateway.raw)
        let arrived = try KernelNetwork.arrived(
            from: AddressPlan.instance(index), table: ProofTrap.table(node), trap: trap.raw)
        return CounterMarks(refused: packets + frames, arrived: arrived)
    }
}
