internal import AegisAudit
package import AegisCore
internal import AegisIO
internal import AegisJSON
package import AegisStore

/// The steps of the queue: each is one transaction, with its record saved before it is committed. They block on the disk.
extension ApprovalQueue {
    /// The door of calls that an agent's own run makes.
    static let doorOfRuns = "loop"

    /// What asking led to at once.
    enum Opened: Sendable {
        case waiting(ApprovalRecord)
        case answered(ApprovalDecision)
    }

    /// Puts a request into the queue, unless it is answered already.
    func open(_ request: ApprovalRequest, id: String) throws -> Opened {
        let time = now()
        return try database.transaction(.saved) { db -> Opened in
            if let resource = request.preview.resource,
                let uid = try ApprovalRows.remembered(request, resource, db)
            {
                let approver = Approver(uid: uid, door: "session")
                try audit.record(granted(id, request, approver, forSession: false))
                return .answered(.granted(id: id, by: approver))
            }
            if let old = try ApprovalRows.pending(request, db) {
                if let known = try resume(old, request, at: time, db) { return known }
            }
            let open = try ApprovalRows.open(of: request.agent, db).count
            guard open < settings.mostPerAgent else {
                throw AegisError.conflict(
                    "too-many-approvals", "\(open) calls of this agent wait for a person already",
                    hint: "nothing was done: wait until they are answered")
            }
            guard try ApprovalRows.open(db).count < settings.most else {
                throw AegisError.conflict("too-many-approvals", "\(settings.most) calls wait for a person already")
            }
            let wait = Int64(settings.timeout / .milliseconds(1))
            let record = ApprovalRecord(
                id: id, request: request, state: .open, requestedAt: time,
                expiresAt: Timestamp(milliseconds: time.milliseconds + wait), answeredAt: nil, approver: nil,
                reason: nil)
            try audit.record(
                event(
                    .approvalRequested, record.id, request,
                    ("input_hash", .string(request.inputHash)), ("grant", .string(request.grant)),
                    ("resource", request.preview.resource.map { .string($0) } ?? .null),
                    ("expires_at", .string("\(record.expiresAt)")), ("door", .string(request.door))))
            try ApprovalRows.insert(record, db)
            return .waiting(record)
        }
    }

    /// Goes on with a request from before a restart, when it is about exactly the same.
    private func resume(
        _ old: ApprovalRecord, _ request: ApprovalRequest, at time: Timestamp, _ db: borrowing Transaction
    ) throws -> Opened? {
        let isSame =
            old.request.tool == request.tool && old.request.inputHash == request.inputHash
            && old.request.grant == request.grant && old.request.preview == request.preview
        let isOld = time >= old.expiresAt
        // Ids of calls may come again in a later turn.
        let isOfTurn = old.request.trace == request.trace
        switch old.state {
        case .open where isSame && !isOld: return .waiting(old)
        case .open where isSame && isOfTurn:
            // Its time has gone on without a daemon: nobody is asked a second time.
            try close(old, .expired, why: nil, db)
            try ApprovalRows.markUsed(old.id, db)
            return .answered(.expired(id: old.id))
        case .open:
            try close(old, isOld ? .expired : .withdrawn, why: isOld ? nil : "what it was about has changed", db)
        case .granted, .denied:
            try ApprovalRows.markUsed(old.id, db)
            // An answer holds for as long as the question was open.
            if isSame, !isOld { return .answered(decision(old)) }
        case .expired:
            try ApprovalRows.markUsed(old.id, db)
            if isSame, isOfTurn { return .answered(.expired(id: old.id)) }
        case .withdrawn: break
        }
        return nil
    }

    /// The answer of a request, taken once.
    ///
    /// - Parameters:
    ///   - id: the request.
    ///   - isOver: whether its time is over: then it expires.
    /// - Returns: nil while there is none.
    /// - Throws: when it cannot be read or saved.
    func takeAnswer(_ id: String, isOver: Bool) throws -> ApprovalDecision? {
        try database.transaction(.saved) { db -> ApprovalDecision? in
            guard let record = try ApprovalRows.get(id, db) else { return .withdrawn(id: id) }
            guard record.state == .open else {
                try ApprovalRows.markUsed(id, db)
                return decision(record)
            }
            guard isOver else { return nil }
            try close(record, .expired, why: nil, db)
            try ApprovalRows.markUsed(id, db)
            return .expired(id: id)
        }
    }

    // MARK: Answering

    /// Answers a request.
    ///
    /// - Parameters:
    ///   - id: the request.
    ///   - approve: whether the call may run.
    ///   - forSession: whether the agent is not asked again for the same tool and resource.
    ///   - reason: what the agent is told when it is refused.
    ///   - approver: who answers, as the socket told it.
    /// - Returns: the request with its answer, synced to the disk.
    /// - Throws: `approval-not-found`; `approval-closed` when it has ended already; `approval-not-rememberable`; when the
    ///   answer cannot be recorded.
    @discardableResult
    package func respond(
        _ id: String, approve: Bool, forSession: Bool = false, reason: String? = nil, by approver: Approver
    ) throws(AegisError) -> ApprovalRecord {
        let time = now()
        let (record, isLate) = try database.transaction(.synced) { db -> (ApprovalRecord, Bool) in
            guard var record = try ApprovalRows.get(id, db) else {
                throw AegisError.notFound(
                    "approval-not-found", "there is no request for approval '\(Escaped.line(id, atMost: 64))'")
            }
            guard record.state == .open else { throw Self.closed(record) }
            guard time < record.expiresAt else {
                try close(record, .expired, why: nil, db)
                return (record, true)
            }
            record.state = approve ? .granted : .denied
            record.answeredAt = time
            record.approver = approver
            record.reason = reason.map { String($0.prefix(1000)) }
            if approve, forSession {
                guard let resource = record.request.preview.resource else {
                    throw AegisError(
                        .usage, "approval-not-rememberable",
                        "calls of '\(record.request.tool)' name no one resource, so each is asked about by itself",
                        hint: "approve it without 'for session'")
                }
                try ApprovalRows.remember(record, resource, db)
            }
            try audit.record(
                approve ? granted(id, record.request, approver, forSession: forSession) : denied(record, approver))
            try ApprovalRows.close(record, db)
            return (record, false)
        }
        wake(id)
        if isLate { throw AegisError.conflict("approval-closed", "'\(id)' expired at \(record.expiresAt)") }
        return record
    }

    private static func closed(_ record: ApprovalRecord) -> AegisError {
        let when = record.answeredAt.map { " at \($0)" } ?? ""
        return .conflict("approval-closed", "'\(record.id)' was \(record.state.rawValue) already\(when)")
    }

    /// What waits for a person, the oldest first; what is over is closed on the way.
    ///
    /// - Throws: when the database cannot be read.
    package func pending() throws(AegisError) -> [ApprovalRecord] {
        let time = now()
        let (open, over) = try database.transaction(.saved) { db -> ([ApprovalRecord], [ApprovalRecord]) in
            let all = try ApprovalRows.open(db)
            let over = all.filter { time >= $0.expiresAt }
            for record in over { try close(record, .expired, why: nil, db) }
            return (all.filter { time < $0.expiresAt }, over)
        }
        for record in over { wake(record.id) }
        return open
    }

    /// A request by its id; nil when it is not known (any more).
    ///
    /// - Throws: when the database cannot be read.
    package func record(_ id: String) throws(AegisError) -> ApprovalRecord? {
        try database.read { try ApprovalRows.get(id, $0) }
    }

    /// Ends everything that an agent waits for, and what it was allowed for its session: it was stopped.
    ///
    /// - Throws: when that cannot be saved.
    package func stop(agent: String) throws(AegisError) {
        let open = try database.transaction(.saved) { db -> [String] in
            try ApprovalRows.forget(agent, db)
            return try ApprovalRows.open(of: agent, db).map(\.id)
        }
        try withdraw(open, why: "the agent was stopped")
    }

    /// Ends what callers waited for who went with the last daemon: all but runs, which ask again.
    ///
    /// - Throws: when it cannot be saved.
    package func recover() throws(AegisError) {
        let open = try database.read { db in try ApprovalRows.open(db) }
        let gone = open.filter { $0.request.door != Self.doorOfRuns }
        try withdraw(gone.map(\.id), why: "the daemon ended, and with it whoever called")
    }

    /// Closes what was open in a backup: nobody waits for it.
    ///
    /// - Throws: what the database throws.
    package static func settleRestored(_ database: Database, at now: Timestamp) throws(AegisError) {
        _ = try database.transaction(.synced) { t throws(SQLiteError) in
            try t.run(
                "UPDATE approvals SET state = ?, answered_at = ?, reason = 'restored from a backup' WHERE state = 'open'",
                ApprovalRecord.State.withdrawn.rawValue, now.milliseconds)
        }
    }

    /// Ends requests that nobody needs an answer to any more.
    func withdraw(_ ids: [String], why: String) throws(AegisError) {
        try database.transaction(.saved) { db in
            for id in ids {
                guard let record = try ApprovalRows.get(id, db), record.state == .open else { continue }
                try close(record, .withdrawn, why: why, db)
            }
        }
        for id in ids { wake(id) }
    }

    // MARK: Parts

    private func close(
        _ record: ApprovalRecord, _ state: ApprovalRecord.State, why: String?, _ db: borrowing Transaction
    ) throws {
        var closed = record
        closed.state = state
        closed.answeredAt = now()
        closed.reason = why
        try audit.record(
            event(
                state == .expired ? .approvalExpired : .approvalWithdrawn, record.id, record.request,
                ("reason", why.map { .string($0) } ?? .null)))
        try ApprovalRows.close(closed, db)
    }

    private func decision(_ record: ApprovalRecord) -> ApprovalDecision {
        switch (record.state, record.approver) {
        case (.granted, .some(let approver)): .granted(id: record.id, by: approver)
        case (.denied, .some(let approver)): .denied(id: record.id, by: approver, reason: record.reason)
        case (.expired, _): .expired(id: record.id)
        default: .withdrawn(id: record.id)
        }
    }

    private func granted(
        _ id: String, _ request: ApprovalRequest, _ approver: Approver, forSession: Bool
    ) -> AuditEvent {
        event(
            .approvalGranted, id, request, ("uid", .number(approver.uid)), ("door", .string(approver.door)),
            ("for_session", .bool(forSession)), ("input_hash", .string(request.inputHash)),
            ("resource", request.preview.resource.map { .string($0) } ?? .null))
    }

    private func denied(_ record: ApprovalRecord, _ approver: Approver) -> AuditEvent {
        event(
            .approvalDenied, record.id, record.request, ("uid", .number(approver.uid)),
            ("door", .string(approver.door)), ("reason", record.reason.map { .string($0) } ?? .null))
    }

    private func event(
        _ kind: AuditKind, _ id: String, _ request: ApprovalRequest, _ more: (String, JSONValue)...
    ) -> AuditEvent {
        var event = AuditEvent(
            kind, agent: request.agent, parent: request.parent, trace: request.trace, step: request.step,
            ("approval", .string(id)),
            ("tool", .string(request.tool)), ("call_id", .string(request.callID)))
        event.fields += more.map { JSONValue.Field($0.0, $0.1) }
        return event
    }
}
