internal import AegisCore
package import AegisSandboxTypes
internal import Synchronization

/// What happened to instances of late, for any number of followers; bounded, and nobody who follows can hold it up.
///
/// Room is shared fairly: first among users, then among each user's instances. Whoever has many events loses the oldest of
/// its own before one is taken from somebody who has few, so no instance can push out what happened to others.
package final class EventRing: Sendable {
    /// Events that are kept for certain, of all instances together.
    package static let limit = 4096
    /// How many more there may be before room is made, so that making it costs little for each.
    package static let slack = 256
    /// Sources of which it is known apart what was lost.
    fileprivate static let knownLosses = 1024

    /// Where an event comes from.
    fileprivate struct Source: Hashable {
        var owner: UInt32
        var instance: String?
    }

    fileprivate struct Entry {
        var record: EventRecord
        var source: Source
    }

    /// What is not kept of one source any more.
    fileprivate struct Loss {
        /// The number of the last one.
        var last: UInt64
        var count: UInt64
    }

    fileprivate struct State {
        /// In the order of their numbers.
        var events: [Entry] = []
        /// The number of the last one.
        var last: UInt64
        var losses: [Source: Loss] = [:]
        /// The same by owner, of sources that are not known apart any more.
        var otherLosses: [UInt32: Loss] = [:]
        var nextWaiter: UInt64 = 0
        var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    }
    private let state: Mutex<State>
    /// What comes before the number of the first one. Numbers up to here are of daemons before this one.
    private let start: UInt64

    /// None yet.
    ///
    /// - Parameter start: what the numbers begin after: more than any daemon before has come to.
    package init(after start: UInt64 = 0) {
        self.start = start
        state = Mutex(State(last: start))
    }

    /// A start for a daemon that begins now: microseconds since 1970. None has so many events that it would outrun the clock.
    package static var freshStart: UInt64 { UInt64(clamping: Timestamp.now().milliseconds) * 1000 }

    /// Adds an event; its number is set here.
    package func post(_ record: EventRecord, owner: UInt32) {
        let woken = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.last += 1
            var record = record
            record.number = state.last
            state.events.append(Entry(record: record, source: Source(owner: owner, instance: record.instance)))
            if state.events.count > Self.limit + Self.slack { state.makeRoom() }
            defer { state.waiting = [:] }
            return Array(state.waiting.values)
        }
        for one in woken { one.resume() }
    }

    /// The events after a number that a caller may see.
    ///
    /// - Parameters:
    ///   - number: of the last one that was seen; 0 is none.
    ///   - caller: who asks.
    ///   - instance: only that instance's.
    /// - Returns: them, behind a `gap` where some that the caller may have seen are not kept any more, and the number to go
    ///   on after.
    package func events(after number: UInt64, for caller: Caller, instance: String? = nil) -> ([EventRecord], UInt64) {
        func maySee(_ source: Source) -> Bool {
            caller.maySee(owner: source.owner) && (instance == nil || instance == source.instance)
        }
        return state.withLock { state in
            // Nobody knows what came after a number of an earlier daemon's. It lies ahead where the clock was set back.
            let isForeign = number > 0 && number < start || number > state.last
            let wanted = number
            let number = isForeign ? start : number
            var found: [EventRecord] = []
            // Which instance's the other ones were is not known any more: it may have been the one that is asked for.
            let losses =
                state.losses.filter { maySee($0.key) }.map(\.value)
                + state.otherLosses.filter { caller.maySee(owner: $0.key) }.map(\.value)
            let lost = losses.reduce(0) { $0 + ($1.last > number ? min($1.count, $1.last - number) : 0) }
            if isForeign {
                let text = "the daemon was started anew: what it has not told before is not known any more"
                found.append(EventRecord(time: .now(), type: "gap", message: text, count: lost))
            } else if wanted > 0, lost > 0 {
                found.append(
                    EventRecord(time: .now(), type: "gap", message: "events were not kept for so long", count: lost))
            }
            for entry in state.events[state.firstIndex(after: number)...] where maySee(entry.source) {
                found.append(entry.record)
            }
            return (found, state.last)
        }
    }

    /// Waits until there are events after a number, or the task is cancelled.
    package func wait(after number: UInt64) async {
        let id = state.withLock { state -> UInt64 in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let goesOn = state.withLock { state -> Bool in
                    if state.last > number || Task.isCancelled { return true }
                    state.waiting[id] = continuation
                    return false
                }
                if goesOn { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: id) }?.resume()
        }
    }
}

extension EventRing.State {
    /// The index of the first event after a number.
    fileprivate func firstIndex(after number: UInt64) -> Int {
        var (low, high) = (0, events.count)
        while low < high {
            let middle = (low + high) / 2
            if events[middle].record.number > number { high = middle } else { low = middle + 1 }
        }
        return low
    }

    /// Drops events until there are no more than are to be kept.
    fileprivate mutating func makeRoom() {
        var counts: [UInt32: [EventRing.Source: EventRing.Loss]] = [:]
        for entry in events {
            let before = counts[entry.source.owner]?[entry.source]?.count ?? 0
            counts[entry.source.owner, default: [:]][entry.source] = .init(last: entry.record.number, count: before + 1)
        }
        let owners = counts.mapValues { own in
            EventRing.Loss(last: own.values.map(\.last).max() ?? 0, count: own.values.reduce(0) { $0 + $1.count })
        }
        var surplus: [EventRing.Source: UInt64] = [:]
        for (owner, room) in EventRing.shares(of: UInt64(EventRing.limit), among: owners) {
            let own = counts[owner] ?? [:]
            for (source, share) in EventRing.shares(of: room, among: own) {
                surplus[source] = (own[source]?.count ?? 0) - share
            }
        }
        var kept: [EventRing.Entry] = []
        kept.reserveCapacity(EventRing.limit + EventRing.slack + 1)
        for entry in events {
            guard let more = surplus[entry.source], more > 0 else {
                kept.append(entry)
                continue
            }
            surplus[entry.source] = more - 1
            losses[entry.source] = .init(last: entry.record.number, count: (losses[entry.source]?.count ?? 0) + 1)
        }
        events = kept
        guard losses.count > EventRing.knownLosses else { return }
        // The oldest half.
        for (source, loss) in losses.sorted(by: { $0.value.last < $1.value.last }).prefix(losses.count / 2) {
            losses[source] = nil
            let before = otherLosses[source.owner] ?? .init(last: 0, count: 0)
            otherLosses[source.owner] = .init(last: max(before.last, loss.last), count: before.count + loss.count)
        }
    }
}

extension EventRing {
    /// Shares room so that nobody gets less because another wants more; who is older is cut first.
    fileprivate static func shares<Key: Hashable>(of room: UInt64, among wanted: [Key: Loss]) -> [Key: UInt64] {
        var (left, shares) = (room, [Key: UInt64]())
        let order = wanted.sorted { ($0.value.count, $0.value.last) < ($1.value.count, $1.value.last) }
        for (index, one) in order.enumerated() {
            let share = min(one.value.count, left / UInt64(order.count - index))
            shares[one.key] = share
            left -= share
        }
        return shares
    }
}
