package import AegisCore

extension GrantBook {
    /// Records what was taken back, each with the time and the reason that it was taken back for at first, and forgets what
    /// nobody holds any more.
    ///
    /// - Parameters:
    ///   - ids: those that may be unsaved.
    ///   - state: the book's.
    /// - Throws: what the journal throws; the rest stays unsaved.
    func save(_ ids: [GrantID], _ state: inout State) throws(AegisError) {
        var events: [Retraction: [GrantID]] = [:]
        for id in ids { if let retraction = state.unsaved[id] { events[retraction, default: []].append(id) } }
        var gone: [GrantID] = []
        for (retraction, ids) in events.sorted(by: { $0.key.time < $1.key.time }) {
            do { try record(.revoked(ids.sorted(), at: retraction.time, reason: retraction.reason)) } catch {
                throw error.asAegisError
            }
            for id in ids {
                state.unsaved[id] = nil
                // A retired holder has left it for this only.
                if let holder = state.grants[id]?.holder, state.holders[holder] == nil { gone.append(id) }
            }
        }
        try forget(gone, &state)
    }

    /// Whether something is taken back and not recorded so far.
    package var hasUnsaved: Bool { locked { state, _ in !state.unsaved.isEmpty } }

    /// Records all that is taken back and could not be recorded then.
    ///
    /// - Throws: what the journal throws; it stays taken back, and unsaved.
    package func saveRevocations() throws(AegisError) {
        try locked { (state, _) throws(AegisError) in try save(Array(state.unsaved.keys), &state) }
    }

    /// Tries again and again to record what could not be recorded when it was taken back, until the task is cancelled, and then
    /// once more: a store would give it again after a restart.
    ///
    /// - Parameters:
    ///   - pause: how long it waits before each try.
    ///   - clock: whose time that is.
    package func keepRevocations(every pause: Duration, clock: any Clock<Duration>) async {
        while !Task.isCancelled {
            let mark = revocations.count
            guard hasUnsaved else {
                await revocations.wait(after: mark)
                continue
            }
            try? await clock.sleep(for: pause)
            try? saveRevocations()
        }
        try? saveRevocations()
    }
}
