package import AegisAudit

extension AuditKind {
    /// A server is spoken to: `server`, `revision`, `software`.
    package static let mcpConnected = AuditKind("mcp_connected")
    /// A tool's description or schema is another than was agreed to: `server`, `tool`, `hash`.
    package static let mcpToolChanged = AuditKind("mcp_tool_changed")
    /// A person agreed to a tool's description and schema: `server`, `tool`, `hash`.
    package static let mcpToolAccepted = AuditKind("mcp_tool_accepted")
    /// All of them.
    package static let ofMCP: [AuditKind] = [.mcpConnected, .mcpToolChanged, .mcpToolAccepted]
}
