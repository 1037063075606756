internal import AegisCore
internal import AegisJSON

/// Keeps a ledger from being flooded without losing what matters: reports beyond a rate are counted instead of written, and a
/// refusal that comes again and again is told with how often. Pure; times are milliseconds.
struct RateGate {
    /// Reports a second, and how many at once.
    let reportsPerSecond: Int
    /// The same refusal is written so often in a window, and counted from there on.
    static let sameInWindow = 20
    /// Milliseconds of a window.
    static let window: Int64 = 1000
    /// Different refusals that are told apart; beyond it each is written.
    static let tracked = 512

    private struct Repeated {
        /// The newest of them: the same as the others but for the work that it belongs to.
        var event: AuditEvent
        var since: Int64
        var until: Int64
        var written = 0
        var counted: UInt64 = 0
    }
    fileprivate struct Sameness: Hashable {
        var kind: AuditKind
        var agent: String?
        var fields: [JSONValue.Field]

        init(_ event: AuditEvent) {
            (kind, agent) = (event.kind, event.agent)
            fields = event.fields.filter { !ofOneCall.contains($0.name) }
        }
    }
    /// Fields that are new each time and say nothing of what was refused.
    private static let ofOneCall: Set<String> = ["approval", "call_id"]
    private var tokens: Double
    private var refilled: Int64 = .min
    private var dropped: [String: UInt64] = [:]
    private var repeats: [Sameness: Repeated] = [:]

    init(reportsPerSecond: Int) {
        self.reportsPerSecond = reportsPerSecond
        tokens = Double(reportsPerSecond)
    }

    /// Whether something is counted that the ledger does not tell yet.
    var owes: Bool { !dropped.isEmpty || repeats.values.contains { $0.counted > 0 } }

    /// Whether an event is written; when not, it is counted.
    mutating func admits(_ event: AuditEvent, at now: Int64) -> Bool {
        switch event.kind.role {
        case .effect: true
        case .report: admitsReport(event, now)
        case .denial: admitsDenial(event, now)
        }
    }

    private mutating func admitsReport(_ event: AuditEvent, _ now: Int64) -> Bool {
        let most = Double(reportsPerSecond)
        if now > refilled {
            let passed = refilled == .min ? 0 : Double(now - refilled)
            tokens = min(most, tokens + passed * most / 1000)
            refilled = now
        }
        guard tokens >= 1 else {
            dropped[event.kind.description, default: 0] += 1
            return false
        }
        tokens -= 1
        return true
    }

    private mutating func admitsDenial(_ event: AuditEvent, _ now: Int64) -> Bool {
        let same = Sameness(event)
        guard var known = repeats[same], now - known.since < Self.window || known.counted > 0 else {
            if repeats[same] == nil, repeats.count >= Self.tracked {
                repeats = repeats.filter { $0.value.counted > 0 || now - $0.value.since < Self.window }
                guard repeats.count < Self.tracked else { return true }
            }
            repeats[same] = Repeated(event: event, since: now, until: now, written: 1)
            return true
        }
        defer { repeats[same] = known }
        (known.event, known.until) = (event, now)
        if known.written < Self.sameInWindow {
            known.written += 1
            return true
        }
        known.counted += 1
        return false
    }

    /// A record that tells what was counted.
    struct Debt {
        let event: AuditEvent
        fileprivate enum Source {
            case dropped
            case repeated(Sameness)
        }
        fileprivate let source: Source
    }

    /// What is to be told of what was counted; what is over and was not counted is forgotten.
    ///
    /// - Parameters:
    ///   - now: the time.
    ///   - all: also of refusals whose window is not over.
    /// - Returns: the records, each of which is owed until it is `paid`: a disk may have no room for it.
    mutating func debts(at now: Int64, all: Bool) -> [Debt] {
        var debts: [Debt] = []
        if !dropped.isEmpty {
            let counts = dropped.sorted { $0.key < $1.key }.map { JSONValue.Field($0.key, .number($0.value)) }
            debts.append(Debt(event: AuditEvent(.recordsDropped, ("counts", .object(counts))), source: .dropped))
        }
        for (key, known) in repeats where all || now - known.since >= Self.window {
            guard known.counted > 0 else {
                repeats[key] = nil
                continue
            }
            var event = AuditEvent(
                .denialRepeated, agent: known.event.agent, ("of", .string(known.event.kind.description)),
                ("times", .number(known.counted)),
                ("since", .string(Timestamp(milliseconds: known.since).description)),
                ("until", .string(Timestamp(milliseconds: known.until).description)))
            event.fields.append(.init("what", .object(key.fields)))
            // It stands for many, which may be of several turns; the first of them are written with their own. Where it ended is
            // what whoever follows a trace wants to find.
            event.owner = known.event.owner
            (event.parent, event.trace, event.step) = (known.event.parent, known.event.trace, known.event.step)
            debts.append(Debt(event: event, source: .repeated(key)))
        }
        return debts
    }

    /// Forgets what is written now.
    mutating func paid(_ debt: Debt) {
        switch debt.source {
        case .dropped: dropped = [:]
        case .repeated(let key): repeats[key] = nil
        }
    }
}
