package import AegisSandboxTypes

/// Who needs an instance awake, how long nobody did, and what follows: a pure machine (decisions D11, D25).
///
/// It is the only thing that pausing looks at. Times are those of one monotonic clock, handed in. The ledger is open while
/// the instance runs: whoever is counted then may use it at once. It closes in the same step that finds nobody counted, so a
/// pause and a new hold are always in an order: the hold comes first and there is no pause, or the ledger is closed first and
/// the hold knows that it must wake the instance.
package struct WakeLedger: Sendable, Equatable {
    /// Where the instance stands, as far as sleep is concerned.
    package enum Stage: Sendable, Equatable {
        case running, paused
        /// Stopped, or on its way somewhere.
        case other
    }

    /// When it sleeps; nil = never.
    package struct Rules: Sendable, Equatable {
        package var pause: Duration?
        package var stop: Duration?
        /// Percent of one processor above which it is not idle; nil = not looked at.
        package var cpu: Double?

        package init(pause: Duration? = nil, stop: Duration? = nil, cpu: Double? = nil) {
            self.pause = pause
            self.stop = stop
            self.cpu = cpu
        }
    }

    /// What an exposed port may do.
    package struct Port: Sendable, Equatable {
        package var wake: ExposeSpec.WakeRule
        package var cooldown: Duration?

        package init(wake: ExposeSpec.WakeRule = .connect, cooldown: Duration? = nil) {
            self.wake = wake
            self.cooldown = cooldown
        }
    }

    /// What became of a wish to hold.
    package struct Admission: Sendable, Equatable {
        /// The instance runs, and goes on running while the hold lives.
        package var isAwake: Bool
        /// Whether the hold counts as use: it wakes, and the idle time begins anew at its end.
        package var counts: Bool

        package init(isAwake: Bool, counts: Bool) {
            self.isAwake = isAwake
            self.counts = counts
        }
    }

    /// Whether a reason may wake a sleeping instance.
    package enum Verdict: Sendable, Equatable {
        case may
        /// The port's wake rule is `never`, or nothing is exposed there.
        case never
        /// The port's wake rule is `http`, and there is no request.
        case needsRequest
        /// The port's cooldown has that long to go.
        case cooling(Duration)
    }

    /// What the idle time says should happen.
    package enum Due: Sendable, Equatable {
        /// Nothing, until the stage or the rules change.
        case nothing
        /// Ask again after that long.
        case later(Duration)
        case pause
        case stop
    }

    package private(set) var stage = Stage.other
    /// Whether holds are granted without asking anybody.
    package private(set) var isOpen = false
    package private(set) var counts: [HoldReason: Int] = [:]
    /// How many hold it.
    package private(set) var held = 0
    /// Since when nobody has used it; its last use, while somebody does.
    package private(set) var idleSince = Duration.zero
    private var rules = Rules()
    private var ports: [UInt16: Port] = [:]
    /// When a port with a cooldown last counted as use.
    private var lastCounted: [UInt16: Duration] = [:]
    /// Holds of such a port that are open and count.
    private var openCounted: [UInt16: Int] = [:]

    /// Nobody holds, nothing sleeps.
    package init() {}

    // MARK: What is known

    /// Takes new rules; they count from now on for the idle time that has passed already.
    package mutating func set(_ rules: Rules, ports: [UInt16: Port]) {
        self.rules = rules
        self.ports = ports
        lastCounted = lastCounted.filter { ports[$0.key]?.cooldown != nil }
    }

    /// The instance has come to a stage. Idle time begins with running and with a pause.
    package mutating func enter(_ new: Stage, now: Duration) {
        isOpen = new == .running
        guard new != stage else { return }
        // A pause for want of use began when the use ended; one that somebody asked for begins a new idle time.
        if new == .running || (new == .paused && !isIdlePause) { idleSince = now }
        if new != .other { isIdlePause = false }
        stage = new
    }
    private var isIdlePause = false

    /// How long ago ports with a cooldown last counted as use.
    package func ages(now: Duration) -> [UInt16: Duration] {
        Dictionary(uniqueKeysWithValues: lastCounted.map { ($0, openCounted[$0] == nil ? now - $1 : .zero) })
    }

    /// Takes over what an earlier daemon knew of that; the rules are known already.
    ///
    /// - Parameters:
    ///   - ages: how long ago ports counted, by a clock that counts on while no daemon runs. What lies in the future, which
    ///     only a clock that was set can tell of, was now.
    ///   - now: the time of the monotonic clock.
    package mutating func recall(_ ages: [UInt16: Duration], now: Duration) {
        for (port, age) in ages where ports[port]?.cooldown != nil { lastCounted[port] = now - max(.zero, age) }
    }

    // MARK: Holding

    /// Counts a holder, first of all; then says whether it must wait for the instance to be woken.
    package mutating func hold(_ why: HoldReason, now: Duration) -> Admission {
        counts[why, default: 0] += 1
        held += 1
        let isCounted: Bool =
            if let port = why.port, let rule = ports[port], let cooldown = rule.cooldown {
                (openCounted[port] ?? 0) > 0 || left(of: cooldown, on: port, now: now) == nil
            } else { true }
        if isCounted, let port = why.port, ports[port]?.cooldown != nil {
            openCounted[port, default: 0] += 1
            lastCounted[port] = now
        }
        return Admission(isAwake: isOpen, counts: isCounted)
    }

    /// A holder has gone.
    ///
    /// - Returns: whether it was the last one.
    @discardableResult
    package mutating func release(_ why: HoldReason, counts isCounted: Bool, now: Duration) -> Bool {
        let count = (counts[why] ?? 0) - 1
        counts[why] = count > 0 ? count : nil
        held = max(0, held - 1)
        if isCounted {
            idleSince = max(idleSince, now)
            if let port = why.port, let open = openCounted[port] {
                openCounted[port] = open > 1 ? open - 1 : nil
                lastCounted[port] = now
            }
        }
        return held == 0
    }

    /// Whether a holder, counted with `admission`, may wake the instance.
    package func verdict(_ why: HoldReason, _ admission: Admission, now: Duration) -> Verdict {
        guard let number = why.port else { return .may }
        guard let port = ports[number], port.wake != .never else { return .never }
        if port.wake == .http, case .connection = why { return .needsRequest }
        guard !admission.counts, let cooldown = port.cooldown else { return .may }
        return .cooling(left(of: cooldown, on: number, now: now) ?? .zero)
    }

    private func left(of cooldown: Duration, on port: UInt16, now: Duration) -> Duration? {
        guard let last = lastCounted[port] else { return nil }
        let passed = now - last
        return passed < cooldown ? cooldown - passed : nil
    }

    // MARK: Sleeping

    /// What should happen now.
    package func due(now: Duration) -> Due {
        let idle = now - idleSince
        let stop = rules.stop.map { $0 - idle }
        let pause = stage == .running ? rules.pause.map { $0 - idle } : nil
        guard stage != .other, let next = [pause, stop].compactMap(\.self).min() else { return .nothing }
        if held > 0 {
            // Whenever it is released, its idle time ends a whole span after this moment at the earliest.
            return .later([stage == .running ? rules.pause : nil, rules.stop].compactMap(\.self).min() ?? next)
        }
        if next > .zero { return .later(next) }
        return if let stop, stop <= .zero { .stop } else { .pause }
    }

    /// Closes the ledger for a sleep that is due, if nobody holds at this very moment.
    ///
    /// - Returns: whether it is closed: from here on whoever comes must wake the instance.
    package mutating func closeIfIdle(_ wanted: Due, now: Duration) -> Bool {
        guard held == 0, wanted == .pause || wanted == .stop, due(now: now) == wanted else { return false }
        isOpen = false
        isIdlePause = wanted == .pause
        return true
    }

    /// Closes the ledger for a pause that was asked for.
    ///
    /// - Parameter force: also while somebody holds.
    /// - Returns: whether it is closed.
    package mutating func closeForPause(force: Bool) -> Bool {
        guard force || held == 0 else { return false }
        isOpen = false
        return true
    }

    /// Something other than a hold has used the instance: its idle time begins anew.
    package mutating func use(now: Duration) { idleSince = max(idleSince, now) }
}
