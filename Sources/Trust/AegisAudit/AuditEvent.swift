package import AegisCore
package import AegisJSON

/// Something that is to stand in the ledger.
package struct AuditEvent: Sendable {
    /// What it is.
    package var kind: AuditKind
    /// The id of the agent or instance that it is about.
    package var agent: String?
    /// The user whose agent or instance it is; the trail fills it in where it was told.
    package var owner: UInt32?
    /// The id of the one that made or sent the agent.
    package var parent: String?
    /// What belongs to one request, over all agents that had a part in it.
    package var trace: String?
    /// The step of the agent's loop.
    package var step: Int?
    /// What else there is to say; the order stays.
    package var fields: [JSONValue.Field]

    /// Makes an event.
    package init(
        _ kind: AuditKind, agent: String? = nil, parent: String? = nil, trace: String? = nil, step: Int? = nil,
        _ fields: (String, JSONValue)...
    ) {
        self.kind = kind
        self.agent = agent
        self.parent = parent
        self.trace = trace
        self.step = step
        self.fields = fields.map { JSONValue.Field($0.0, $0.1) }
    }

    /// The event with what is known of the work that it belongs to. That of a child, whom that work made, is its parent's work.
    func placed(_ origin: WorkOrigin) -> AuditEvent {
        guard trace == nil, let agent, agent == origin.agent || parent == origin.agent else { return self }
        var event = self
        event.trace = origin.trace.isEmpty ? nil : origin.trace
        if step == nil, event.trace != nil { event.step = origin.step }
        if agent == origin.agent, parent == nil { event.parent = origin.parent }
        return event
    }
}

/// Where a record stands, and the hash that proves it: whoever keeps it can show later that the ledger was cut or changed.
package struct AuditReceipt: Sendable, Hashable {
    /// Its number; every record has the next one.
    package let seq: UInt64
    /// Over the record and, through its predecessor's hash, over everything before it.
    package let hash: AuditHash

    /// Makes a receipt.
    package init(seq: UInt64, hash: AuditHash) {
        self.seq = seq
        self.hash = hash
    }
}

/// The newest record of a ledger that is known, as people pass it on: `SEQ:HASH`.
package struct LedgerHead: Sendable, Hashable, CustomStringConvertible {
    /// The number of the record.
    package var seq: UInt64
    /// Its hash.
    package var hash: AuditHash

    /// Makes a head.
    package init(seq: UInt64, hash: AuditHash) {
        self.seq = seq
        self.hash = hash
    }

    /// Reads `SEQ:HASH`.
    ///
    /// - Throws: `invalid-argument` with the right form.
    package init(parsing text: String) throws(AegisError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, let seq = UInt64(parts[0]), seq > 0,
            let hash = AuditHash(hex: Array(parts[1].utf8)[...])
        else {
            throw .usage(
                "'\(text)' is not the head of a ledger", hint: "write SEQ:HASH as 'aegis audit head' prints it")
        }
        self.init(seq: seq, hash: hash)
    }

    package var description: String { "\(seq):\(hash)" }
}

/// Where events are written down.
package protocol AuditTrail: Sendable {
    /// Saves an event: it survives `kill -9` when this returns (decision D12). Synchronous and thread-safe.
    ///
    /// - Returns: where it stands.
    /// - Throws: when it is not saved; whoever wanted an effect must not have it then.
    @discardableResult func record(_ event: AuditEvent) throws(AegisError) -> AuditReceipt

    /// Tells whose an agent or instance is, before the first event about it: each record says it from then on, and is told to its
    /// owner also when nobody knows the agent any more.
    ///
    /// - Parameters:
    ///   - id: of the agent or instance.
    ///   - owner: the user; nil when it has gone, after the last event about it.
    func note(_ id: String, ownedBy owner: UInt32?)
}

extension AuditTrail {
    /// Nothing is filled in.
    package func note(_ id: String, ownedBy owner: UInt32?) {}
}
