package import AegisCore
internal import AegisJSON
internal import LinuxSys
internal import Synchronization

/// Where records go beside the files.
package protocol AuditSink: Sendable {
    /// Takes whole lines. It may block.
    ///
    /// - Throws: when they cannot be taken; they are not given again.
    func take(_ lines: [UInt8]) throws
}

/// JSON lines on a descriptor, as standard output.
package struct LineSink: AuditSink {
    private let descriptor: Int32

    /// Lines to a descriptor that stays open.
    package init(descriptor: Int32) { self.descriptor = descriptor }

    package func take(_ lines: [UInt8]) throws { try FileDescriptor.duplicating(descriptor).writeAll(lines[...]) }
}

/// Hands heads to places outside the ledger, not more often than every ten seconds each.
package final class HeadMirrors: Sendable {
    /// Milliseconds between two heads for outside.
    static let interval: Int64 = 10_000

    private let node: String
    private let store: HeadStore
    private let witness: String?
    private let server: HeadWitness?
    private let journal: JournalSink?
    private let now: @Sendable () -> Timestamp
    private let failed: @Sendable (String) -> Void
    private struct State {
        var told: LedgerHead?
        var newest: LedgerHead?
        var at: Int64 = .min
        var failure: String?
    }
    private let state = Mutex(State())

    /// Prepares them.
    ///
    /// - Parameters:
    ///   - node: the id of the node.
    ///   - store: gets each head.
    ///   - witness: a file that gets a line for each, best on another machine's disk.
    ///   - server: a server that gets each.
    ///   - journal: the journal, when heads go there.
    ///   - now: the time of day.
    ///   - failed: gets the reason when a place takes none, once until it does again.
    package init(
        node: String, store: HeadStore, witness: String?, server: HeadWitness? = nil, journal: JournalSink?,
        now: @escaping @Sendable () -> Timestamp = { .now() }, failed: @escaping @Sendable (String) -> Void
    ) {
        self.node = node
        self.store = store
        self.witness = witness
        self.server = server
        self.journal = journal
        self.now = now
        self.failed = failed
    }

    /// Takes a head that is on the disk. It blocks.
    package func take(_ head: LedgerHead) {
        var trouble: [String] = []
        do { try store.save(head) } catch { trouble.append("the database: \(error)") }
        let time = now().milliseconds
        let isDue = state.withLock { state in
            state.newest = head
            guard state.told != head, state.at == .min || time - state.at >= Self.interval else { return false }
            state.told = head
            state.at = time
            return true
        }
        if isDue { trouble += tell(head) }
        report(trouble)
    }

    /// Tells the newest head, however long ago the last one was.
    package func flush() {
        let head = state.withLock { state -> LedgerHead? in
            guard state.told != state.newest else { return nil }
            state.told = state.newest
            return state.newest
        }
        if let head { report(tell(head)) }
    }

    private func tell(_ head: LedgerHead) -> [String] {
        var trouble: [String] = []
        let line = Array("{\"time\":\"\(now())\",\"node\":\"\(node)\",\"head\":\"\(head)\"}\n".utf8)
        server?.tell(line.dropLast())
        if let witness {
            do {
                try FileDescriptor.open(witness, [.writeOnly, .create, .append, .noTerminal], mode: 0o600)
                    .writeAll(line[...])
            } catch { trouble.append("the witness \(witness): \(error)") }
        }
        // A machine without a journal has none to tell.
        if let journal, journal.isThere {
            do { try journal.tell(head) } catch { trouble.append("the journal: \(error)") }
        }
        return trouble
    }

    private func report(_ trouble: [String]) {
        let text = trouble.isEmpty ? nil : trouble.joined(separator: "; ")
        let isNew = state.withLock { state in
            defer { state.failure = text }
            return text != nil && state.failure == nil
        }
        if isNew, let text { failed(text) }
    }
}
