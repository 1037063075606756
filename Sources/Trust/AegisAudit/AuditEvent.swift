package import AegisJSON

/// What kind of event a record is of; each target declares its own.
package struct AuditKind: Hashable, Sendable {
    /// The word in the record, in snake case.
    package let name: String
    /// Whether it records that something was refused: such records are never dropped.
    package let isDenial: Bool

    /// A kind.
    package init(_ name: String, isDenial: Bool = false) {
        self.name = name
        self.isDenial = isDenial
    }
}

/// Something that happened, to be recorded.
package struct AuditEvent: Sendable {
    package var kind: AuditKind
    package var agent: String?
    package var parent: String?
    package var trace: String?
    package var step: Int?
    package var fields: [JSONValue.Field]

    /// An event.
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
}
