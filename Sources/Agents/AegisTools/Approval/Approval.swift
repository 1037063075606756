package import AegisJSON

/// Which calls a person has to agree to, beside those whose tools ask for it themselves.
package struct ApprovalPolicy: Sendable, Hashable {
    /// Tools that always need it; `*` is every tool.
    package var required: Set<String>
    /// Tools that do not need it although they would ask. What is required is not waived.
    package var waived: Set<String>

    /// A policy.
    package init(required: Set<String> = [], waived: Set<String> = []) {
        self.required = required
        self.waived = waived
    }

    /// Whether a tool's calls need it.
    package func asks(_ tool: ToolDeclaration) -> Bool {
        required.contains(tool.name) || required.contains("*") || (tool.asksApproval && !waived.contains(tool.name))
    }
}

/// What is shown before a call, and what it is bound to.
package struct ApprovalPreview: Sendable, Hashable, Codable {
    /// What the call would do, for a person. It is escaped when it is shown.
    package var text: String
    /// What must be the same at the effect: versions of files, a program's arguments and folder, names of variables.
    package var facts: [String: String]
    /// What an approval for the session remembers, as in `file_write: /workspace/a.txt`; nil cannot be remembered.
    ///
    /// Nothing else is compared then: it has all that a person may not have to look at again in it, if need be as a hash. Where a
    /// tool begins to say more, what was remembered before is not honoured any more, and asked about again.
    package var resource: String?

    /// A preview.
    package init(_ text: String, facts: [String: String] = [:], resource: String? = nil) {
        self.text = text
        self.facts = facts
        self.resource = resource
    }
}

/// A call that waits for a person.
package struct ApprovalRequest: Sendable, Hashable {
    /// The agent's id.
    package var agent: String
    /// The agent's name.
    package var agentName: String
    /// The agent that spawned it.
    package var parent: String?
    package var trace: String
    package var step: Int
    package var callID: String
    /// The way in which the call came.
    package var door: String
    package var tool: String
    /// The grant that allows the tool.
    package var grant: String
    package var input: JSONValue
    /// The SHA-256 of the canonical input, in hexadecimal.
    package var inputHash: String
    package var preview: ApprovalPreview

    /// Describes a call.
    package init(
        agent: String, agentName: String, parent: String? = nil, trace: String, step: Int, callID: String, door: String,
        tool: String, grant: String, input: JSONValue, inputHash: String, preview: ApprovalPreview
    ) {
        self.agent = agent
        self.agentName = agentName
        self.parent = parent
        self.trace = trace
        self.step = step
        self.callID = callID
        self.door = door
        self.tool = tool
        self.grant = grant
        self.input = input
        self.inputHash = inputHash
        self.preview = preview
    }
}

/// Who answered.
package struct Approver: Sendable, Hashable, Codable {
    /// The user's number, as the socket told it.
    package var uid: UInt32
    /// The way in which the answer came: `cli`, `rpc`, `rest`, or `session` for what was remembered.
    package var door: String

    /// An approver.
    package init(uid: UInt32, door: String) {
        self.uid = uid
        self.door = door
    }
}

/// How a request for approval ended.
package enum ApprovalDecision: Sendable, Hashable {
    case granted(id: String, by: Approver)
    case denied(id: String, by: Approver, reason: String?)
    /// Nobody answered in time.
    case expired(id: String)
    /// The agent was stopped, or the request cancelled.
    case withdrawn(id: String)
}

/// Who is asked.
package protocol ApprovalDesk: Sendable {
    /// Asks, and waits for the answer.
    ///
    /// - Returns: how it ended.
    /// - Throws: `too-many-approvals` when too many are open already; when the request cannot be saved;
    ///   `CancellationError` when the caller is cancelled, which withdraws the request.
    func ask(_ request: ApprovalRequest) async throws -> ApprovalDecision
}

/// What was approved is not what it was: the gate asks again.
package struct ApprovalStale: Error, Sendable, Equatable {
    /// What changed.
    package var fact: String
    /// Says what changed.
    package init(fact: String) { self.fact = fact }
}
