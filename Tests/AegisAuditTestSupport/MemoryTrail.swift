package import AegisAudit
package import AegisCore
package import AegisJSON
internal import Synchronization

/// A ledger in memory that can be full.
package final class MemoryTrail: AuditTrail {
    private let state = Mutex((events: [AuditEvent](), count: 0, room: Int.max))

    /// An empty one.
    package init() {}

    /// What was recorded and not taken yet.
    package var events: [AuditEvent] { state.withLock { $0.events } }
    /// The kinds of these.
    package var kinds: [String] { events.map(\.kind.description) }

    /// After so many more records nothing can be saved.
    package func fill(after count: Int = 0) { state.withLock { $0.room = count } }

    /// What was recorded since the last time.
    package func take() -> [AuditEvent] {
        state.withLock { state in
            defer { state.events = [] }
            return state.events
        }
    }

    /// A field of the last event of a kind.
    package func field(_ name: String, ofLast kind: AuditKind) -> JSONValue? {
        events.last { $0.kind == kind }?.fields.first { $0.name == name }?.value
    }

    package func record(_ event: AuditEvent) throws(AegisError) -> AuditReceipt {
        try state.withLock { state throws(AegisError) in
            guard state.room > 0 else { throw .failed("audit-disk-full", "the disk is full") }
            state.room -= 1
            state.count += 1
            state.events.append(event)
            return AuditReceipt(seq: UInt64(state.count), hash: .none)
        }
    }
}
