package import AegisAudit
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes

extension AuditKind {
    /// An instance was made.
    package static let instanceCreated = AuditKind("instance_created")
    /// A sandbox is about to run its command.
    package static let instanceStarted = AuditKind("instance_started")
    /// Nothing runs in an instance any more.
    package static let instanceEnded = AuditKind("instance_ended")
    /// An instance and what was its own was removed.
    package static let instanceDeleted = AuditKind("instance_deleted")
    /// A further process is about to run in an instance.
    package static let execStarted = AuditKind("exec_started")
    /// Files are about to be copied into or out of an instance.
    package static let filesCopied = AuditKind("files_copied")
    /// A process is about to get the values of secrets, or a request to carry them.
    package static let secretUsed = AuditKind("secret_used")
    /// A connection or a question of an instance was refused.
    package static let networkDenied = AuditKind("network_denied", .denial)
    /// An allowed connection of an instance did not come about.
    package static let networkFailed = AuditKind("network_failed", .report)
    /// A running instance has no network any more.
    package static let networkLost = AuditKind("network_lost")
    /// A network did not refuse what it has to, or that was not proved: nothing runs in it.
    package static let policyFailed = AuditKind("policy_failed")
    /// All of them.
    package static let ofInstances: [AuditKind] = [
        .instanceCreated, .instanceStarted, .instanceEnded, .instanceDeleted, .execStarted, .filesCopied, .secretUsed,
        .networkDenied, .networkFailed, .networkLost, .policyFailed,
    ]
}

extension AuditEvent {
    static func created(_ stored: StoredInstance, by caller: Caller) -> AuditEvent {
        var event = AuditEvent(
            .instanceCreated, agent: stored.info.id, parent: stored.maker,
            ("name", stored.info.name.map { .string($0) } ?? .null), ("image", .string(stored.info.image)),
            ("uid", .number(caller.uid)), ("network", .string(stored.info.network)),
            ("allow", .array((stored.info.allow ?? []).map { .string($0) })),
            ("grants", .array((stored.info.grants ?? []).map { .string($0) })))
        if let agent = stored.agent { event.fields.append(.init("for_agent", .string(agent.agent))) }
        return event
    }

    static func starts(_ stored: StoredInstance) -> AuditEvent {
        var event = AuditEvent(
            .instanceStarted, agent: stored.info.id, parent: stored.maker,
            ("attempt", .number(stored.attempt)), ("image", .string(stored.info.image)))
        event.fields += AuditEvent.command(stored.userCommand)
        return event
    }

    static func ended(_ stored: StoredInstance) -> AuditEvent {
        AuditEvent(
            .instanceEnded, agent: stored.info.id, parent: stored.maker, ("attempt", .number(stored.attempt)),
            ("reason", stored.info.stopReason.map { .string($0) } ?? .null),
            ("exit_code", stored.info.exitCode.map { .number($0) } ?? .null),
            ("oom_killed", .bool(stored.info.oomKilled)))
    }

    /// What became of an instance's network, and what was done about it.
    static func network(
        _ kind: AuditKind, of instance: Instance, _ error: AegisError, done: String? = nil
    ) -> AuditEvent {
        var event = AuditEvent(
            kind, agent: instance.id, parent: instance.maker, ("reason", .string(error.code)),
            ("message", .string(error.message)))
        if let done { event.fields.append(.init("done", .string(done))) }
        return event
    }

    static func exec(_ command: [String], id: String, user: String?, in instance: Instance) -> AuditEvent {
        var event = AuditEvent(.execStarted, agent: instance.id, parent: instance.maker, ("exec_id", .string(id)))
        event.fields += AuditEvent.command(command)
        if let user { event.fields.append(.init("user", .string(user))) }
        return event
    }

    /// The program in words, its arguments as a number and a hash: they may hold passwords, which a ledger would keep for good.
    private static func command(_ words: [String]) -> [JSONValue.Field] {
        guard let program = words.first else { return [] }
        let all = JSONValue.array(words.map { .string($0) })
        return [
            .init("program", .string(program)), .init("arguments", .number(words.count - 1)),
            .init("command_hash", .string(AuditHash(ofText: all.canonical).description)),
        ]
    }
}

extension StoredInstance {
    /// Who made it: the instance whose child it is, or the agent whose sandbox it is.
    var maker: String? { info.parent ?? agent?.agent }
}

extension Instance {
    /// Who made it: the instance whose child it is, or the agent whose sandbox it is.
    nonisolated var maker: String? { parent ?? agent?.agent }

    /// Records what has happened already: an end cannot be refused. What cannot be written down is told in the daemon's log.
    nonisolated func audited(_ event: AuditEvent) {
        do throws(AegisError) { try services.audit.record(event) } catch {
            services.logger.error(
                "not in the ledger", ("kind", event.kind.description), ("instance", id), ("error", error.message))
        }
    }
}
