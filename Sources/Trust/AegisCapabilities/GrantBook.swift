package import AegisCore
import Synchronization

/// All grants of a node, who holds them and what was used of them: the one door that every gate goes through (decision D32).
///
/// Thread-safe; nothing waits but for one short lock, and nothing suspends. Time never goes back in the book: where the clock
/// does, the book's time stands still until it is reached again.
package final class GrantBook: Sendable {
    /// How large the book may grow.
    package struct Bounds: Sendable {
        /// Live grants of one holder.
        package var grantsPerHolder = 1024
        /// Grants in all, revoked ones that are still known included.
        package var grants = 262_144
        /// How often a grant may be derived further.
        package var depth = 16
        /// Revoked grants that are remembered for each holder, so that refusals can name them.
        package var remembered = 64
        /// The bounds as they stand.
        package init() {}
    }

    struct Holder {
        var live: [GrantNode] = []
        var index = GrantIndex([])
        /// Oldest first.
        var revoked: [GrantNode] = []
    }

    /// When a grant was taken back, and why.
    struct Retraction: Hashable {
        var time: Timestamp
        var reason: String
    }

    struct State: Sendable {
        var now = Timestamp(milliseconds: .min)
        var holders: [HolderID: Holder] = [:]
        var grants: [GrantID: GrantNode] = [:]
        /// What is taken back and not recorded so far: a store would give it again.
        var unsaved: [GrantID: Retraction] = [:]
        var generator: any RandomNumberGenerator & Sendable
    }

    /// The paths that no grant reaches.
    package let protected: ProtectedPaths
    let bounds: Bounds
    let journal: (any GrantJournal)?
    private let clock: @Sendable () -> Timestamp
    private let state: Mutex<State>
    /// Who waits for a revocation.
    let revocations = RevocationSignal()

    /// Opens a book.
    ///
    /// - Parameters:
    ///   - snapshot: what it holds at first; open reservations in it stay counted in full. Handles are new.
    ///   - protected: the paths that no grant reaches.
    ///   - journal: where changes are saved; nil is nowhere.
    ///   - bounds: how large it may grow.
    ///   - random: where ids and handles come from; it must not be predictable.
    ///   - clock: the time.
    package init(
        _ snapshot: GrantSnapshot = GrantSnapshot(), protected: ProtectedPaths = .kernel,
        journal: (any GrantJournal)? = nil, bounds: Bounds = Bounds(),
        random: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        clock: @escaping @Sendable () -> Timestamp = GrantBook.steadyClock()
    ) {
        self.protected = protected
        self.bounds = bounds
        self.journal = journal
        self.clock = clock
        var state = State(generator: random)
        state.restore(snapshot)
        self.state = Mutex(state)
    }

    /// The time of day when this was called, and from there on what has passed: setting the host's clock changes nothing.
    ///
    /// - Returns: a clock.
    package static func steadyClock() -> @Sendable () -> Timestamp {
        let start = Timestamp.now()
        let origin = ContinuousClock.now
        return {
            let (seconds, attoseconds) = origin.duration(to: .now).components
            return Timestamp(milliseconds: start.milliseconds + seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        }
    }

    /// Runs a short step on the state, at the book's time.
    func locked<T: Sendable, E: Error>(_ body: (inout State, Timestamp) throws(E) -> T) throws(E) -> T {
        let time = clock()
        return try state.withLock { (state: inout State) throws(E) -> T in
            state.now = max(state.now, time)
            return try body(&state, state.now)
        }
    }

    // MARK: Reading

    /// Every grant, for a store.
    package func snapshot() -> GrantSnapshot { locked { state, _ in GrantSnapshot(state.grants.values.map(\.record)) } }

    /// What a holder has, revoked grants that are still known included: for showing, and for trying `evaluate` without effect.
    package func grants(of holder: HolderID) -> GrantSet {
        let held = locked { state, now in state.holders[holder]?.held(at: now) ?? [] }
        return GrantSet(held, protected: protected)
    }

    /// Which actions a holder would be admitted to now, in the order of `actions`. Nothing is counted, and nothing is told of
    /// those that it would not: what a holder is offered, not what it may do.
    package func allowed(_ actions: [Action], for holder: HolderID) -> [Bool] {
        locked { state, now in
            guard let own = state.holders[holder] else { return actions.map { _ in false } }
            // Each step of each agent asks this for all the tools there are.
            let tools = own.tools(at: now)
            return actions.map { action in
                if case .tool(let name) = action, let tools { return tools.areAll || tools.names.contains(name) }
                return protected.refuses(action) == nil && own.choose(Request(action), at: now) != nil
            }
        }
    }

    /// The records of a holder's live grants, in the order in which they were given.
    package func records(of holder: HolderID) -> [GrantRecord] {
        locked { state, _ in state.holders[holder]?.live.map(\.record) ?? [] }
    }

    /// A grant by its id; nil when it is not known (any more).
    package func record(_ id: GrantID) -> GrantRecord? { locked { state, _ in state.grants[id]?.record } }

    /// What a holder shows for its live grants, in the order of `records(of:)`.
    package func handles(of holder: HolderID) -> [GrantHandle] {
        locked { state, _ in state.holders[holder]?.live.map(\.handle) ?? [] }
    }

    /// How many admissions of these grants are neither settled nor refunded: what a revocation has to wait for.
    package func openAdmissions(of grants: [GrantID]) -> Int {
        locked { state, _ in grants.reduce(0) { $0 + (state.grants[$1]?.open ?? 0) } }
    }
}

extension GrantBook.State {
    /// A new unpredictable handle.
    mutating func newHandle() -> GrantHandle { GrantHandle(high: generator.next(), low: generator.next()) }

    /// An id that nothing has.
    mutating func newID(besides taken: Set<GrantID>) -> GrantID {
        while true {
            let id = GrantID(generator.next())
            if grants[id] == nil, !taken.contains(id) { return id }
        }
    }

    /// Takes grants in, each after the one that it was derived from.
    mutating func restore(_ snapshot: GrantSnapshot) {
        let known = Dictionary(snapshot.grants.map { ($0.id, $0) }) { first, _ in first }
        for record in snapshot.grants { restore(record, known) }
        // As they were given; ids are random.
        for key in holders.keys {
            holders[key]?.live.sort { ($0.issued, $0.id) < ($1.issued, $1.id) }
            holders[key]?.revoked.sort { ($0.revoked ?? $0.issued, $0.id) < ($1.revoked ?? $1.issued, $1.id) }
            holders[key]?.reindex()
        }
    }

    private mutating func restore(_ record: GrantRecord, _ known: [GrantID: GrantRecord]) {
        // From the nearest that is there already down to the one that is wanted; a line is never longer than its depth.
        var line = [record]
        while let parent = line.last?.parent, grants[parent] == nil, let above = known[parent],
            line.count <= known.count
        {
            line.append(above)
        }
        for record in line.reversed() where grants[record.id] == nil {
            var record = record
            let parent = record.parent.flatMap { grants[$0] }
            // A child whose line is cut must not outlive it: its counters and revocation are gone.
            if record.parent != nil, parent == nil || parent?.revoked != nil, record.revoked == nil {
                record.revoked = parent?.revoked ?? record.issued
            }
            insert(GrantNode(record, parent: parent, handle: newHandle()))
        }
    }

    mutating func insert(_ node: GrantNode) {
        grants[node.id] = node
        node.parent?.children.append(node.id)
        if node.revoked == nil {
            holders[node.holder, default: GrantBook.Holder()].live.append(node)
        } else {
            holders[node.holder, default: GrantBook.Holder()].revoked.append(node)
        }
    }
}
