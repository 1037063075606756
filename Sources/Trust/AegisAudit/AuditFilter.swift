package import AegisCore
internal import AegisJSON

/// Which records are wanted.
package struct AuditFilter: Sendable {
    /// Only these kinds; empty is all.
    package var kinds: Set<String>
    /// Only those about this agent or instance.
    package var agent: String?
    /// Only those of this trace.
    package var trace: String?
    /// Only those from then on.
    package var since: Timestamp?

    /// All records.
    package init() { kinds = [] }

    /// Whether a line is wanted; lines that are no records are not.
    func admits(_ line: ArraySlice<UInt8>) -> Bool {
        guard let record = RecordLine(line) else { return false }
        if !kinds.isEmpty, !kinds.contains(record.kind) { return false }
        // Times of one length are in the order of their bytes.
        if let since, record.time.lexicographicallyPrecedes(since.utf8) { return false }
        guard agent != nil || trace != nil else { return true }
        guard let value = try? JSONValue(parsing: line) else { return false }
        return (agent == nil || value["agent"]?.text == agent) && (trace == nil || value["trace"]?.text == trace)
    }
}
