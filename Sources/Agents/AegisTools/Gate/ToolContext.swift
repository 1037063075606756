package import AegisAudit
package import AegisCapabilities
package import AegisFiles
package import AegisJSON

/// Who calls a tool, and with what. Made by whoever runs the agent, never from what the model says.
package struct ToolContext: Sendable {
    /// Whose grants count.
    package var holder: HolderID
    /// The agent's id.
    package var agent: String
    /// The agent's name.
    package var name: String
    /// The agent that started it.
    package var parent: String?
    /// What the call belongs to.
    package var trace: String
    /// The step of the run, from 1.
    package var step: Int
    /// The id of the call, unique within the agent: a resumed run finds its outcome by it.
    package var callID: String
    /// The way in which the call came: `loop`, `rpc`, `rest`.
    package var door: String
    /// The book that every resource is asked of.
    package var grants: GrantBook
    /// Which files there are for the agent; nil is none.
    package var files: FileScope?
    /// Where everything is recorded.
    package var audit: any AuditTrail
    /// Who is asked where a person has to agree; nil refuses what needs it.
    package var desk: (any ApprovalDesk)?
    /// Which calls need it.
    package var approvals: ApprovalPolicy
    /// What is saved of calls, so that a run can be resumed (decision D34); nil when no run is.
    package var journal: (any CallJournal)?
    /// The identity under which the agent may keep things for itself; nil for one whose id is used once.
    package var identity: String?
    /// The user that the agent belongs to.
    package var owner: UInt32 = 0
    /// Tools that the agent has beside those of the node.
    package var own: OwnTools?
    /// The call by which the agent was started, that of whoever waits for its answer; nil for who was started by a person.
    package var enclosing: CallSpending?
    /// What was shown when the call was approved; set by the gate. A tool compares it again at its effect.
    package internal(set) var approved: ApprovalPreview?
    /// What the call uses of models; new for each, set by the gate.
    package internal(set) var spending = CallSpending()

    /// Describes a caller.
    package init(
        holder: HolderID, agent: String, name: String, parent: String? = nil, trace: String, step: Int, callID: String,
        door: String = "loop", grants: GrantBook, files: FileScope? = nil, audit: any AuditTrail,
        desk: (any ApprovalDesk)? = nil, approvals: ApprovalPolicy = ApprovalPolicy(),
        journal: (any CallJournal)? = nil
    ) {
        self.holder = holder
        self.agent = agent
        self.name = name
        self.parent = parent
        self.trace = trace
        self.step = step
        self.callID = callID
        self.door = door
        self.grants = grants
        self.files = files
        self.audit = audit
        self.desk = desk
        self.approvals = approvals
        self.journal = journal
    }

    /// An event of this call.
    package func event(_ kind: AuditKind, _ fields: (String, JSONValue)...) -> AuditEvent {
        var event = AuditEvent(kind, agent: agent, parent: parent, trace: trace, step: step)
        event.fields = [JSONValue.Field("call_id", .string(callID))] + fields.map { JSONValue.Field($0.0, $0.1) }
        return event
    }

    /// Compares a thing with what was shown of it when the call was approved. Without an approval nothing is compared.
    ///
    /// - Parameters:
    ///   - fact: the thing's name in `ApprovalPreview.facts`.
    ///   - value: what it is now.
    /// - Throws: `ApprovalStale`, and the gate asks again.
    package func confirm(_ fact: String, is value: String) throws(ApprovalStale) {
        guard let approved else { return }
        let shown = approved.facts[fact]
        guard shown == value else { throw ApprovalStale(fact: fact) }
    }
}
