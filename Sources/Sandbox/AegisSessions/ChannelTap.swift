internal import AegisChannel
package import AegisCore
internal import Synchronization

/// Shows the messages of an instance's channel to whoever looks, as they pass. While nobody does, it costs one look at a flag
/// for each message.
package final class ChannelTap: Sendable {
    /// How many may look at one channel at a time.
    package static let watcherLimit = 4

    private struct State {
        var watchers: [ChannelWatcher] = []
        var mask: @Sendable ([UInt8]) -> [UInt8]? = { $0 }
        var ended = false
    }
    private let state = Mutex(State())
    private let watched = Atomic<Bool>(false)

    /// Makes a tap that nobody looks at.
    package init() {}

    /// Hides secrets in what is shown from now on.
    ///
    /// - Parameter mask: hides them in bytes; nil when nobody knows them, so that everything is hidden.
    package func setMask(_ mask: @escaping @Sendable ([UInt8]) -> [UInt8]?) { state.withLock { $0.mask = mask } }

    /// Begins to look.
    ///
    /// - Returns: what gets every message from now on, until it is given to `leave`.
    /// - Throws: `channel-watched` when enough others look.
    package func watch() throws(AegisError) -> ChannelWatcher {
        let watcher = ChannelWatcher()
        let isFull = state.withLock { state -> Bool in
            if state.ended {
                watcher.end()
                return false
            }
            guard state.watchers.count < Self.watcherLimit else { return true }
            state.watchers.append(watcher)
            watched.store(true, ordering: .relaxed)
            return false
        }
        guard !isFull else {
            throw .conflict(
                "channel-watched", "\(Self.watcherLimit) others look at this channel already", hint: "end one of them")
        }
        return watcher
    }

    /// Ends looking.
    package func leave(_ watcher: ChannelWatcher) {
        state.withLock { state in
            state.watchers.removeAll { $0 === watcher }
            watched.store(!state.watchers.isEmpty, ordering: .relaxed)
        }
    }

    /// Nothing will pass any more: everybody who looks gets to the end.
    package func end() {
        let watchers = state.withLock { state in
            state.ended = true
            defer { state.watchers = [] }
            return state.watchers
        }
        watched.store(false, ordering: .relaxed)
        for watcher in watchers { watcher.end() }
    }

    /// Whether anybody looks.
    var isWatched: Bool { watched.load(ordering: .relaxed) }

    /// A message passes.
    func saw(_ header: FrameHeader, _ payload: [UInt8], from side: String) {
        show { $0.record(header, payload, from: side, at: .now()) }
    }

    /// Bytes for a process pass.
    func sawInput(_ process: UInt16, offset: UInt64, count: Int, end: Bool) {
        show { describer in
            ChannelRecord(
                at: .now(), from: "daemon", method: "stdin", process: process,
                fields: describer.data(offset, count, end))
        }
    }

    private func show(_ make: (ChannelDescriber) -> ChannelRecord) {
        guard isWatched else { return }
        let (watchers, mask) = state.withLock { ($0.watchers, $0.mask) }
        guard !watchers.isEmpty else { return }
        let record = make(ChannelDescriber(mask: mask))
        for watcher in watchers { watcher.push(record) }
    }
}

/// One who looks at a channel: a queue with a bound. What does not fit is counted, and the count stands where it is missing.
package final class ChannelWatcher: Sendable {
    /// What comes out.
    package enum Item: Sendable, Equatable {
        case message(ChannelRecord)
        /// So many messages are not there.
        case gap(UInt64)
    }
    /// The most messages that wait, and about how many bytes of memory they may take.
    static let countLimit = 1024
    static let weightLimit = 1 << 20

    private struct State {
        var items: [Item] = []
        var weight = 0
        var ended = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    func push(_ record: ChannelRecord) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            let weight = record.weight
            if state.items.count < Self.countLimit, state.weight + weight <= Self.weightLimit {
                state.items.append(.message(record))
                state.weight += weight
            } else if case .gap(let count)? = state.items.last {
                state.items[state.items.count - 1] = .gap(count + 1)
            } else {
                state.items.append(.gap(1))
            }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func end() {
        let waiter = state.withLock { state in
            state.ended = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Everything that has come, at least one item; waits for it. Nil when nothing more will come or the task is cancelled.
    ///
    /// One task at a time may call it.
    package func next() async -> [Item]? {
        while true {
            let (items, ended) = state.withLock { state in
                defer { (state.items, state.weight) = ([], 0) }
                return (state.items, state.ended)
            }
            if !items.isEmpty { return items }
            if ended || Task.isCancelled { return nil }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        if !state.items.isEmpty || state.ended || Task.isCancelled { return true }
                        state.waiter = continuation
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                let waiter = state.withLock { state in
                    defer { state.waiter = nil }
                    return state.waiter
                }
                waiter?.resume()
            }
        }
    }
}
