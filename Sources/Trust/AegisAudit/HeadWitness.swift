internal import Synchronization

/// Sends heads to a server elsewhere, in their order. It never holds the ledger up: what cannot be sent waits, and of too many the
/// oldest go, since a newer head proves at least as much.
package final class HeadWitness: Sendable {
    /// Sends one head's JSON; throws why the server has not taken it.
    package typealias Send = @Sendable (_ body: [UInt8]) async throws -> Void

    /// What became of the heads so far.
    package struct Report: Sendable, Equatable {
        /// Heads that the server has taken.
        package var taken: UInt64 = 0
        /// Attempts that failed.
        package var failures: UInt64 = 0
        /// Heads that were not sent because too many waited.
        package var dropped: UInt64 = 0
        /// Heads that wait.
        package var waiting = 0
        /// Why the last attempt failed; nil when it did not.
        package var obstacle: String?
    }

    /// The most heads that wait: ten minutes of them.
    static let most = 64
    private static let longestPause = 60

    /// The server, for people.
    package let name: String
    private let clock: any Clock<Duration>
    private let send: Send
    private let changed: @Sendable (_ obstacle: String?) -> Void
    private struct State {
        var heads: [(number: UInt64, body: [UInt8])] = []
        var next: UInt64 = 0
        /// Failures since the last success.
        var row = 0
        var report = Report()
    }
    private let state = Mutex(State())
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    /// Prepares it.
    ///
    /// - Parameters:
    ///   - name: the server, for people.
    ///   - clock: measures the pauses between attempts.
    ///   - send: sends one head.
    ///   - changed: gets the reason when heads are not taken any more, once, and nil when they are again.
    package init(
        _ name: String, clock: any Clock<Duration>, send: @escaping Send,
        changed: @escaping @Sendable (_ obstacle: String?) -> Void
    ) {
        self.name = name
        self.clock = clock
        self.send = send
        self.changed = changed
        // That there is something is all that has to be known: one is enough.
        (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// What became of the heads so far.
    package var report: Report {
        state.withLock { state in
            var report = state.report
            report.waiting = state.heads.count
            return report
        }
    }

    /// Takes a head; does not wait.
    func tell(_ head: ArraySlice<UInt8>) {
        let body = Array(head)
        state.withLock { state in
            if state.heads.count == Self.most {
                state.heads.removeFirst()
                state.report.dropped += 1
            }
            state.heads.append((state.next, body))
            state.next += 1
        }
        wake.yield()
    }

    /// Sends what comes until the task is cancelled.
    package func run() async {
        for await _ in wakes {
            while let head = state.withLock({ $0.heads.first }) {
                guard !Task.isCancelled else { return }
                if await attempt(head.number, head.body) { continue }
                let row = state.withLock { $0.row }
                // 1 s, 2 s, 4 s, ... 1 min.
                let pause = min(Self.longestPause, 1 << min(row - 1, 6))
                do { try await clock.sleep(for: .seconds(pause)) } catch { return }
            }
        }
    }

    /// Sends the newest head that waits, once, when `run` has ended: it proves what those before it would.
    package func finish() async {
        guard let head = state.withLock({ $0.heads.last }) else { return }
        if await attempt(head.number, head.body) { state.withLock { $0.heads.removeAll() } }
    }

    /// - Returns: false when the same is to be tried again after a pause.
    private func attempt(_ number: UInt64, _ body: [UInt8]) async -> Bool {
        do {
            try await send(body)
        } catch {
            // Ended by us: that says nothing of the server.
            guard !Task.isCancelled else { return true }
            let text = "\(error)"
            let isNew = state.withLock { state in
                state.row += 1
                state.report.failures += 1
                defer { state.report.obstacle = text }
                return state.report.obstacle == nil
            }
            if isNew { changed(text) }
            return false
        }
        let isNew = state.withLock { state in
            state.heads.removeAll { $0.number == number }
            state.row = 0
            state.report.taken += 1
            defer { state.report.obstacle = nil }
            return state.report.obstacle != nil
        }
        if isNew { changed(nil) }
        return true
    }
}
