internal import AegisSandboxTypes
internal import Synchronization

/// Whoever can have a sandbox made ready for its next start.
protocol StandbyOwner: AnyObject, Sendable {
    var id: String { get }
    /// Makes it, unless it is not wanted any more; returns when it is there, or is not going to be.
    func makeStandby() async
    /// Ends it, or its making; returns when nothing is left of it.
    ///
    /// - Parameter sparingAwaited: leave one alone that is being made and that a start waits for already.
    func dropStandby(sparingAwaited: Bool) async
}

/// Which instances want a sandbox made ready for their next start, and what those that are ready use.
package final class StandbyBoard: Sendable {
    /// What an instance has of it.
    enum Place: Sendable, Equatable {
        /// To be made, not before a time on the clock of uptime, for a reason.
        case waiting(until: Duration, String?)
        /// There, with so many bytes.
        case ready(UInt64)
    }

    private struct Entry {
        var owner: any StandbyOwner
        var place: Place
        var turn: UInt64
    }
    private struct State {
        var entries: [String: Entry] = [:]
        var turns: UInt64 = 0
        var last: UInt64?
        var isClosed = false
        var poke: @Sendable () -> Void = {}
    }
    private let state = Mutex(State())

    package init() {}

    /// Calls `body` whenever there may be something to make.
    func whenWanted(_ body: @escaping @Sendable () -> Void) { state.withLock { $0.poke = body } }

    /// Somebody wants one made; whoever wants it already keeps its place.
    ///
    /// - Parameters:
    ///   - owner: who.
    ///   - until: not before that time.
    ///   - why: why not before.
    func want(_ owner: any StandbyOwner, notBefore until: Duration = .zero, because why: String? = nil) {
        let poke = state.withLock { state -> (@Sendable () -> Void)? in
            guard !state.isClosed, state.entries[owner.id] == nil else { return nil }
            state.turns += 1
            state.entries[owner.id] = Entry(owner: owner, place: .waiting(until: until, why), turn: state.turns)
            return state.poke
        }
        poke?()
    }

    /// It is not made before a time.
    func postpone(_ id: String, until: Duration, _ why: String) {
        state.withLock { state in
            guard case .waiting? = state.entries[id]?.place else { return }
            state.entries[id]?.place = .waiting(until: until, why)
        }
    }

    /// It is there.
    func isReady(_ owner: any StandbyOwner, _ bytes: UInt64) {
        state.withLock { state in
            state.last = bytes
            let turn = state.entries[owner.id]?.turn ?? 0
            if !state.isClosed { state.entries[owner.id] = Entry(owner: owner, place: .ready(bytes), turn: turn) }
        }
    }

    /// It was taken, has gone, or is not wanted any more. Others may have room now.
    func withdraw(_ id: String) {
        let poke = state.withLock { state in state.entries.removeValue(forKey: id) == nil ? nil : state.poke }
        poke?()
    }

    /// Who comes next; nil when there is nobody to whom anything can be made now.
    func next(now: Duration) -> (any StandbyOwner)? {
        state.withLock { state in
            state.entries.values
                .filter { if case .waiting(let until, _) = $0.place { until <= now } else { false } }
                .min { $0.turn < $1.turn }?.owner
        }
    }

    /// When somebody has to be looked at again.
    var retryAt: Duration? {
        state.withLock { state in
            state.entries.values
                .compactMap { if case .waiting(let until, _) = $0.place { until } else { nil } }
                .min()
        }
    }

    /// Where an instance stands; nil when it wants none.
    func place(of id: String) -> Place? { state.withLock { $0.entries[id]?.place } }

    /// Bytes that those which are ready use together.
    var bytes: UInt64 { state.withLock { state in state.entries.values.reduce(0) { $0 + Self.bytes($1) } } }

    /// What one more will use, as far as can be told.
    var typical: UInt64? { state.withLock { $0.last } }

    private static func bytes(_ entry: Entry) -> UInt64 {
        if case .ready(let bytes) = entry.place { bytes } else { 0 }
    }

    /// What there is of it; nil when nobody wants any.
    var report: StandbyReport? {
        state.withLock { state in
            guard !state.entries.isEmpty else { return nil }
            let ready = state.entries.values.count { if case .ready = $0.place { true } else { false } }
            return StandbyReport(
                ready: ready, waiting: state.entries.count - ready,
                memoryBytes: state.entries.values.reduce(0) { $0 + Self.bytes($1) })
        }
    }

    /// Whoever has one, or waits for one.
    var owners: [any StandbyOwner] { state.withLock { $0.entries.values.map(\.owner) } }

    /// Nobody wants any from now on.
    ///
    /// - Returns: whoever had one or waited for one.
    func close() -> [any StandbyOwner] {
        state.withLock { state in
            state.isClosed = true
            state.poke = {}
            defer { state.entries = [:] }
            return state.entries.values.map(\.owner)
        }
    }

    /// Whether nobody can have one any more.
    var isClosed: Bool { state.withLock { $0.isClosed } }
}
