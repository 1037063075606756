package import AegisCore
import AegisIO
import LinuxSys
import Synchronization

/// What an instance's network refused, counted and told.
extension Uplink {
    /// Counts a denial, and tells of it now or, when the same was told a moment ago, together with others of its kind.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - flow: what it was seen as, if known: what a probe of ours tried is not the instance's doing.
    func report(_ denial: NetworkDenial, of flow: ProbeFlow? = nil) {
        let (tells, schedules) = state.withLock { state -> (Bool, Bool) in
            if let flow, let known = state.probe[flow] {
                if known != ProofTrap.reason { state.probe[flow] = .some(denial.reason) }
                return (false, false)
            }
            state.denials += 1
            let tells = state.tally.take(denial, now: SystemTime.monotonic)
            let schedules = !state.isTelling && !state.isClosed
            if schedules { state.isTelling = true }
            return (tells, schedules)
        }
        if tells { observer.denied(denial, count: 1) }
        if schedules { gate.scope.spawn("network-denials") { await self.tellLater() } }
    }

    /// Tells what was kept back, period by period, until there is nothing more.
    private func tellLater() async {
        while true {
            try? await gate.loop.clock.sleep(for: .nanoseconds(Int64(DenialTally.period)))
            await tellUnheard()
            let (due, isOver) = state.withLock { state in
                let due = state.tally.due(now: SystemTime.monotonic)
                let isOver = state.tally.isEmpty || state.isClosed || Task.isCancelled
                if isOver { state.isTelling = false }
                return (due, isOver)
            }
            for one in due { observer.denied(one.denial, count: one.count) }
            writeMarks()
            if isOver { return }
        }
    }

    /// Tells what was kept back, at the end.
    func tellRest() {
        let rest = state.withLock { $0.tally.due(now: SystemTime.monotonic, all: true) }
        for one in rest { observer.denied(one.denial, count: one.count) }
        writeMarks()
    }

    /// Takes what the kernel's rules refused on the instance's link, or on its port in a group.
    func refused(_ refusal: LoggedPacket, inGroup: Bool) {
        let flow = ProbeFlow(refusal, inGroup: inGroup)
        if refusal.isProbe {
            // Not counted by the kernel, and told to nobody but the probe, were that over by now.
            guard let flow, expects(flow) else { return }
            return report(refusal.denial(of: instance, inGroup: inGroup), of: flow)
        }
        state.withLock { state in
            state.heard += 1
            state.hasHeard = true
        }
        report(refusal.denial(of: instance, inGroup: inGroup), of: flow)
        writeMarks()
    }

    /// Writes down how far the kernel's counters have been told of, so that whatever becomes of this daemon the next one knows what
    /// they count beyond it. What is kept back for a moment has not been told.
    private func writeMarks() {
        // In the lock, so that an older one never takes the place of a newer one.
        state.withLock { state in
            let told = state.heard - min(state.heard, state.tally.keptRefusals)
            var now = opening
            now.told.refused += told
            now.untold = state.untold
            _ = try? account.write(now.bytes[...], at: 0)
        }
    }

    /// Tells how much the kernel refused while nobody heard it. A daemon that dies over it leaves it to the next one: one that has
    /// told of it and not yet written that down has it told again. It is told at least once.
    ///
    /// - Returns: how much came through in that time.
    func tellMissed() -> UInt64 {
        let untold = state.withLock { state in
            state.denials += state.untold.refused
            return state.untold
        }
        if untold.refused > 0 {
            observer.denied(
                NetworkDenial(
                    instance, "*", nil, reason: "unheard",
                    "packets are refused while no daemon runs that could say where they went"), count: untold.refused)
        }
        // Whoever got through is killed, now or by the next daemon.
        state.withLock { $0.untold.refused = 0 }
        writeMarks()
        return untold.arrived
    }

    /// Counts what the kernel drops on an interface from now on. Blocks.
    func count(_ interface: String, isPort: Bool) throws(Errno) {
        let base = try KernelNetwork.dropped(interface, isPort: isPort, table: table, gateway: gateway.raw)
        state.withLock { state in
            state.counters.removeAll { $0.interface == interface }
            state.counters.append(Counter(interface: interface, isPort: isPort, base: base))
        }
    }

    /// How many packets and frames of the instance the kernel has dropped.
    func dropped() async -> UInt64 {
        let (counters, table, gateway) = (state.withLock { $0.counters }, table, gateway)
        let count = try? await BlockingPool.shared.run {
            try counters.map { one in
                let now = try KernelNetwork.dropped(
                    one.interface, isPort: one.isPort, table: table, gateway: gateway.raw)
                // Rules that were loaded anew count from nothing.
                return now >= one.base ? now - one.base : now
            }.reduce(0, +)
        }
        return count ?? 0
    }

    /// Tells how many more the kernel has dropped than it has told of one by one, which it does not do in a flood.
    func tellUnheard() async {
        guard state.withLock({ $0.hasHeard }) else { return }
        let all = await dropped()
        // What was on its way when the counters were read is here by then.
        try? await gate.loop.clock.sleep(for: .milliseconds(50))
        let more = state.withLock { state -> UInt64 in
            state.hasHeard = false
            guard all > state.heard else { return 0 }
            let more = all - state.heard
            state.heard = all
            state.denials += more
            return more
        }
        guard more > 0 else { return }
        observer.denied(
            NetworkDenial(
                instance, "*", nil, reason: "flood", "packets are refused, too many at once to say where they went"),
            count: more)
        writeMarks()
    }

    /// Tells of a connection that was allowed but did not come about.
    func note(_ error: AegisError) {
        guard state.withLock({ $0.failures.pass(error.message, now: SystemTime.monotonic) }) else { return }
        observer.failed(error)
    }

    // MARK: Probes

    /// What the kernel's rules are to know of these attempts: the datagrams, which they drop themselves. All else is refused by us.
    func marks(of flows: [ProbeFlow]) -> [KernelNetwork.ProbeMark] {
        let port = state.withLock { $0.counters.first { $0.isPort }?.interface }
        return flows.compactMap { flow in
            guard flow.transport == .udp, flow.destination.port != AddressPlan.resolverPort else { return nil }
            guard let interface = flow.inGroup ? port : link else { return nil }
            return KernelNetwork.ProbeMark(interface: interface, flow: flow)
        }
    }

    /// From now on denials of these attempts are a probe's.
    func expect(_ flows: [ProbeFlow]) {
        state.withLock { state in for flow in flows { state.probe[flow] = .some(nil) } }
    }

    /// Whether this is an attempt of a probe that is under way.
    func expects(_ flow: ProbeFlow) -> Bool { state.withLock { $0.probe[flow] != nil } }

    /// An attempt of a probe's has come where nothing may.
    ///
    /// - Returns: whether it is one; then its proof fails for it.
    func cameThrough(_ flow: ProbeFlow) -> Bool {
        state.withLock { state in
            guard state.probe[flow] != nil else { return false }
            state.probe[flow] = .some(ProofTrap.reason)
            return true
        }
    }

    /// For what reason an attempt was refused, as far as is known.
    func refusal(of flow: ProbeFlow) -> String? { state.withLock { $0.probe[flow] ?? nil } }

    /// A probe is over.
    func forget(_ flows: [ProbeFlow]) { state.withLock { state in for flow in flows { state.probe[flow] = nil } } }
}

/// Lets each distinct text through once a minute.
struct RepetitionFilter {
    private static let period: UInt64 = 60_000_000_000
    private static let most = 64
    private var last: [String: UInt64] = [:]

    /// Whether the text is to be told.
    mutating func pass(_ text: String, now: UInt64) -> Bool {
        if let before = last[text], now &- before < Self.period { return false }
        if last.count >= Self.most { last = last.filter { now &- $0.value < Self.period } }
        guard last.count < Self.most else { return false }
        last[text] = now
        return true
    }
}

/// Who is told what an instance was refused.
package protocol NetworkObserver: Sendable {
    /// A denial.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - count: how often it happened since the same was last told.
    func denied(_ denial: NetworkDenial, count: UInt64)
    /// A request with brokered secrets is about to go out.
    ///
    /// - Throws: when that cannot be recorded; it does not go out then.
    func used(_ secrets: [String], host: String, method: String) throws(AegisError)
    /// A connection was allowed but could not be made.
    func failed(_ error: AegisError)
    /// A probe found that the network does not refuse what it has to: the instance must not go on.
    func unproven(_ error: AegisError)
}
