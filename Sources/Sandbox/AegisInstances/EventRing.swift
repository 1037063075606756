internal import AegisCore
package import AegisSandboxTypes
internal import Synchronization

/// What happened to instances of late, for any number of followers; bounded, and nobody who follows can hold it up.
package final class EventRing: Sendable {
    /// Events that are kept.
    package static let limit = 4096

    private struct State {
        var events: [(record: EventRecord, owner: UInt32)] = []
        /// The index of the oldest in `events`, once it is full.
        var first = 0
        /// The number of the last one.
        var last: UInt64 = 0
        var nextWaiter: UInt64 = 0
        var waiting: [UInt64: CheckedContinuation<Void, Never>] = [:]
    }
    private let state = Mutex(State())

    /// None yet.
    package init() {}

    /// Adds an event; its number is set here.
    package func post(_ record: EventRecord, owner: UInt32) {
        let woken = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.last += 1
            var record = record
            record.number = state.last
            if state.events.count < Self.limit {
                state.events.append((record, owner))
            } else {
                state.events[state.first] = (record, owner)
                state.first = (state.first + 1) % Self.limit
            }
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
    /// - Returns: them, behind a `gap` where older ones are not kept any more, and the number to go on after.
    package func events(after number: UInt64, for caller: Caller, instance: String? = nil) -> ([EventRecord], UInt64) {
        state.withLock { state in
            // A number of an earlier daemon's may lie ahead of this one's.
            let number = min(number, state.last)
            let oldest = state.last - UInt64(state.events.count) + 1
            var found: [EventRecord] = []
            // Whose the lost ones were is not known any more: it may have been the caller's.
            if number > 0, number + 1 < oldest {
                found.append(
                    EventRecord(
                        time: .now(), type: "gap", message: "events were not kept for so long",
                        count: oldest - number - 1))
            }
            let skipped = number < oldest ? 0 : Int(number + 1 - oldest)
            for index in skipped..<max(skipped, state.events.count) {
                let (record, owner) = state.events[(state.first + index) % state.events.count]
                guard caller.maySee(owner: owner), instance == nil || instance == record.instance else { continue }
                found.append(record)
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
