/// Who is asked next at one provider. Pure: it is given the time and answers who may begin.
///
/// Each agent has a lane for each priority, first come first served. Of the lanes' heads the most urgent goes first; a head grows
/// more urgent while it waits, up to `.high`. Among equals the agents take turns: each turn moves an agent's pass on by one, and the
/// smallest pass is next. A head that waited for twenty steps of ageing goes before everything that waited less. So nobody starves:
/// before a head there are only heads that are older, and a lane is finite.
struct ScheduleMachine: Sendable {
    typealias ID = UInt64

    /// What a step has led to.
    struct Outcome: Equatable {
        /// May begin, in this order.
        var granted: [ID] = []
        /// Did not begin in time.
        var expired: [ID] = []
    }
    private struct Waiting {
        var id: ID
        var ticket: ScheduleTicket
        /// When nothing of its lane stood before it any more.
        var headSince: Duration

        func isLate(at now: Duration) -> Bool { ticket.deadline.map { $0 <= now } ?? false }
    }
    private struct Agent {
        var lanes = [[Waiting]](repeating: [], count: InferencePriority.allCases.count)
        var pass: Int
        var isIdle: Bool { lanes.allSatisfy(\.isEmpty) }
    }
    private struct Running {
        var tokens: Int
        var since: Duration
    }
    /// What stands at the front of a lane.
    private struct Head {
        var agent: String
        var lane: Int
        var level: Int
        var pass: Int
        var id: ID

        func goes(before other: Head) -> Bool {
            if level != other.level { return level > other.level }
            if level > InferencePriority.high.rawValue || pass == other.pass { return id < other.id }
            return pass < other.pass
        }
    }

    /// How many steps of ageing put a head before everything else.
    static let patience = 20
    /// Of how many agents without a call the pass is remembered.
    private static let remembered = 256

    private let policy: SchedulePolicy
    private var agents: [String: Agent] = [:]
    private var running: [ID: Running] = [:]
    private var requests: TokenBucket?
    private var tokens: TokenBucket?
    private var heldUntil = Duration.zero
    private var next: ID = 0
    /// The pass of whoever had the last turn: who comes anew begins here.
    private var pass = 0
    /// How long a call takes; nil until one has ended.
    private(set) var meanCall: Duration?
    private(set) var waitingCount = 0
    /// No deadline of a call that waits is earlier.
    private var earliestDeadline: Duration?

    init(_ policy: SchedulePolicy, at now: Duration) {
        self.policy = policy
        requests = policy.requestsPerMinute.map { TokenBucket(perMinute: $0, at: now) }
        tokens = policy.tokensPerMinute.map { TokenBucket(perMinute: $0, at: now) }
    }

    var runningCount: Int { running.count }
    /// Of how many agents something is known.
    var rememberedAgents: Int { agents.count }

    /// Puts a call into its lane, and lets begin what can.
    mutating func enter(_ ticket: ScheduleTicket, at now: Duration) throws(ScheduleRefusal) -> (ID, Outcome) {
        guard waitingCount < policy.maxWaiting else { throw .full(waitingCount) }
        let lane = ticket.priority.rawValue
        fill(at: now)
        if let deadline = ticket.deadline {
            let wait = estimatedWait(ticket, ahead: agents[ticket.agent]?.lanes[lane].count ?? 0, at: now)
            guard now + wait < deadline else { throw .late(wait) }
            earliestDeadline = min(earliestDeadline ?? deadline, deadline)
        }
        next += 1
        var agent = agents[ticket.agent] ?? Agent(pass: pass)
        if agent.isIdle { agent.pass = max(agent.pass, pass) }
        agent.lanes[lane].append(Waiting(id: next, ticket: ticket, headSince: now))
        agents[ticket.agent] = agent
        waitingCount += 1
        return (next, advance(at: now))
    }

    /// A call has ended: its place is free. `used` corrects the tokens that it was counted with; 0 is a call that was not made.
    mutating func leave(_ id: ID, used: Int?, at now: Duration) -> Outcome {
        guard let run = running.removeValue(forKey: id) else { return advance(at: now) }
        let took = now - run.since
        if used != 0 { meanCall = meanCall.map { $0 + (took - $0) / 8 } ?? took }
        fill(at: now)
        // A call that was not made is none of the minute's.
        if used == 0 { requests?.giveBack(1) }
        if let used {
            if used <= run.tokens { tokens?.giveBack(run.tokens - used) } else { tokens?.take(used - run.tokens) }
        }
        return advance(at: now)
    }

    /// A call waits no longer. False when it did not wait: it has begun, or ended.
    mutating func cancel(_ id: ID, at now: Duration) -> (wasWaiting: Bool, Outcome) {
        for (name, agent) in agents {
            for (lane, waiting) in agent.lanes.enumerated() {
                guard let index = waiting.firstIndex(where: { $0.id == id }) else { continue }
                remove(index, lane, name, at: now)
                return (true, advance(at: now))
            }
        }
        return (false, advance(at: now))
    }

    /// Nothing begins before a time: the provider has asked for it.
    mutating func hold(until time: Duration) { heldUntil = max(heldUntil, time) }

    /// Lets begin what can at this time, and gives up what is too late.
    mutating func advance(at now: Duration) -> Outcome {
        fill(at: now)
        var outcome = Outcome(expired: expire(at: now))
        while running.count < policy.concurrent, now >= heldUntil, requests?.wait(for: 1) ?? .zero == .zero,
            let head = bestHead(at: now)
        {
            guard let waiting = agents[head.agent]?.lanes[head.lane].first else { break }
            // The best one waits for its tokens, and all others with it: a large call must not be overtaken for ever.
            guard tokens?.wait(for: waiting.ticket.tokens) ?? .zero == .zero else { break }
            remove(0, head.lane, head.agent, at: now)
            pass = max(pass, head.pass)
            agents[head.agent, default: Agent(pass: pass)].pass = head.pass + 1
            requests?.take(1)
            tokens?.take(waiting.ticket.tokens)
            running[head.id] = Running(tokens: waiting.ticket.tokens, since: now)
            outcome.granted.append(head.id)
        }
        forgetIdle()
        return outcome
    }

    /// When `advance` has something to do by itself; nil when only a call that enters or leaves changes anything.
    func wakeTime(at now: Duration) -> Duration? {
        guard waitingCount > 0 else { return nil }
        var times = earliestDeadline.map { [$0] } ?? []
        if running.count < policy.concurrent, let head = bestHead(at: now),
            let waiting = agents[head.agent]?.lanes[head.lane].first
        {
            let rate = max(requests?.wait(for: 1) ?? .zero, tokens?.wait(for: waiting.ticket.tokens) ?? .zero)
            times.append(max(heldUntil, now + rate))
        }
        return times.min()
    }

    // MARK: Parts

    private mutating func fill(at now: Duration) {
        requests?.fill(at: now)
        tokens?.fill(at: now)
    }

    /// After how long a call begins that has so many of its own before it: too short rather than too long.
    private func estimatedWait(_ ticket: ScheduleTicket, ahead: Int, at now: Duration) -> Duration {
        let rate = max(requests?.wait(for: ahead + 1) ?? .zero, tokens?.wait(for: ticket.tokens) ?? .zero)
        let places = running.count < policy.concurrent && waitingCount == 0
        // What the call that runs longest has behind it need not be waited for.
        let oldest = running.values.map { now - $0.since }.max() ?? .zero
        let turns = places ? .zero : (meanCall ?? .zero) * (ahead + 1) / policy.concurrent - oldest
        return max(heldUntil - now, max(rate, turns), .zero)
    }

    private mutating func expire(at now: Duration) -> [ID] {
        guard let earliest = earliestDeadline, earliest <= now else { return [] }
        var expired: [ID] = []
        for name in agents.keys.sorted() {
            for lane in InferencePriority.allCases.map(\.rawValue) {
                while let index = agents[name]?.lanes[lane].firstIndex(where: { $0.isLate(at: now) }) {
                    if let id = agents[name]?.lanes[lane][index].id { expired.append(id) }
                    remove(index, lane, name, at: now)
                }
            }
        }
        earliestDeadline = deadlines.min()
        return expired.sorted()
    }

    private var deadlines: [Duration] {
        agents.values.flatMap { $0.lanes.flatMap { $0.compactMap(\.ticket.deadline) } }
    }

    private mutating func remove(_ index: Int, _ lane: Int, _ name: String, at now: Duration) {
        agents[name]?.lanes[lane].remove(at: index)
        waitingCount -= 1
        if index == 0, agents[name]?.lanes[lane].isEmpty == false { agents[name]?.lanes[lane][0].headSince = now }
    }

    private func bestHead(at now: Duration) -> Head? {
        var best: Head?
        for (name, agent) in agents {
            for (lane, waiting) in agent.lanes.enumerated() {
                guard let first = waiting.first else { continue }
                let head = Head(
                    agent: name, lane: lane, level: level(lane, waited: now - first.headSince), pass: agent.pass,
                    id: first.id)
                if best.map({ head.goes(before: $0) }) ?? true { best = head }
            }
        }
        return best
    }

    private func level(_ lane: Int, waited: Duration) -> Int {
        let high = InferencePriority.high.rawValue
        let steps = waited.nanoseconds / policy.ageing.nanoseconds
        return steps >= Int64(Self.patience) ? high + 1 : min(high, lane + Int(steps))
    }

    /// Who has had no more turns than others needs no memory of them; of the rest only so many are remembered.
    private mutating func forgetIdle() {
        guard agents.count - waitingCount > Self.remembered else { return }
        agents = agents.filter { !$0.value.isIdle || $0.value.pass > pass }
        guard agents.count - waitingCount > Self.remembered / 2 else { return }
        agents = agents.filter { !$0.value.isIdle }
    }
}
