import LinuxSys

/// Packets of an instance that the kernel has counted.
struct CounterMarks: Sendable, Equatable {
    /// Packets and frames that the rules have dropped.
    var refused: UInt64
    /// Packets that came through to the trap.
    var arrived: UInt64

    static let none = CounterMarks(refused: 0, arrived: 0)

    /// What these count more than others, which may be a few ahead: the kernel's message of a packet may come before or after its
    /// counter is read.
    func beyond(_ other: CounterMarks) -> CounterMarks {
        CounterMarks(
            refused: refused - min(refused, other.refused), arrived: arrived - min(arrived, other.arrived))
    }

    static func + (a: CounterMarks, b: CounterMarks) -> CounterMarks {
        CounterMarks(refused: a.refused + b.refused, arrived: a.arrived + b.arrived)
    }
}

/// How far the kernel's counters of an instance have been told of. It is kept in a file that outlives the daemon: what the counters
/// say more to the next one is what nobody has heard of.
struct CounterAccount: Sendable, Equatable {
    /// What they were when all of it had been told, or was found to be told.
    var told: CounterMarks
    /// What was counted before, by rules that are no more, and is to be told still. It is here before those rules go, and as
    /// long as it has not been told, however many daemons die meanwhile.
    var untold: CounterMarks
    /// Which load of the gateway's rules, and of the trap's, counts from 0 to `told`.
    var generation: Generation

    /// Numbers of the kernel's.
    struct Generation: Sendable, Equatable {
        var gateway: UInt64
        var trap: UInt64
    }

    /// The account when the counters are these: what they count that nobody has heard of is untold; all of it, where rules have been
    /// loaded since.
    func brought(to now: InstanceCounters.Reading) -> CounterAccount {
        let base = CounterMarks(
            refused: now.generation.gateway == generation.gateway ? told.refused : 0,
            arrived: now.generation.trap == generation.trap ? told.arrived : 0)
        return CounterAccount(
            told: CounterMarks(
                refused: max(now.marks.refused, base.refused), arrived: max(now.marks.arrived, base.arrived)),
            untold: untold + now.marks.beyond(base), generation: now.generation)
    }
}

extension CounterAccount {
    /// What a file begins with that has all of this. One of the release before has two numbers, of 8 bytes, and no version.
    private static let version: UInt8 = 2
    private static let size = 48
    private static let firstSize = 16

    /// What a file holds; nil for one that is not whole, or of a later version.
    ///
    /// - Parameters:
    ///   - bytes: what it holds.
    ///   - now: what the counters say, for a file that does not say whose it is: it is of the rules that are there, unless they have
    ///     counted fewer arrivals. Nil: not known, and such a file says nothing.
    init?(bytes: [UInt8], _ now: InstanceCounters.Reading?) {
        if bytes.count == Self.firstSize {
            guard let now else { return nil }
            let told = Self.numbers(bytes[...])
            self.init(
                told: CounterMarks(refused: told[0], arrived: told[1] > now.marks.arrived ? 0 : told[1]), untold: .none,
                generation: now.generation)
            return
        }
        guard bytes.count == 1 + Self.size, bytes.first == Self.version else { return nil }
        let numbers = Self.numbers(bytes.dropFirst())
        self.init(
            told: CounterMarks(refused: numbers[0], arrived: numbers[1]),
            untold: CounterMarks(refused: numbers[2], arrived: numbers[3]),
            generation: Generation(gateway: numbers[4], trap: numbers[5]))
    }

    private static func numbers(_ bytes: ArraySlice<UInt8>) -> [UInt64] {
        stride(from: bytes.startIndex, to: bytes.endIndex, by: 8).map { start in
            bytes[start..<start + 8].reduce(0) { $0 << 8 | UInt64($1) }
        }
    }

    /// What a file holds.
    var bytes: [UInt8] {
        let numbers = [
            told.refused, told.arrived, untold.refused, untold.arrived, generation.gateway, generation.trap,
        ]
        return [Self.version]
            + numbers.flatMap { value in
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

    /// What they say at one moment, and the rules that have counted.
    struct Reading: Sendable, Equatable {
        var marks: CounterMarks
        var generation: CounterAccount.Generation
    }

    /// What they say now: of its link and of its port in a group, whether it has one now or not. Blocks.
    func read() throws(Errno) -> Reading {
        let table = GatewayRules.table(node)
        let generation = CounterAccount.Generation(
            gateway: try KernelNetwork.generation(of: table, in: gateway.raw),
            trap: try KernelNetwork.generation(of: ProofTrap.table(node), in: trap.raw))
        let packets = try KernelNetwork.dropped(
            "\(GatewayRules.prefix(node))\(index)", isPort: false, table: table, gateway: gateway.raw)
        let frames = try KernelNetwork.dropped(
            GatewayRules.port(node, index), isPort: true, table: table, gateway: gateway.raw)
        let arrived = try KernelNetwork.arrived(
            from: AddressPlan.instance(index), table: ProofTrap.table(node), trap: trap.raw)
        return Reading(marks: CounterMarks(refused: packets + frames, arrived: arrived), generation: generation)
    }
}
