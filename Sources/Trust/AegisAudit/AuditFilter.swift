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

    /// Reads the kinds of a list with commas.
    ///
    /// - Throws: `invalid-argument` for a text that is no name of a kind.
    package mutating func setKinds(parsing text: String) throws(AegisError) {
        for name in text.split(separator: ",") {
            guard AuditKind.isName(String(name)) else {
                throw .usage(
                    "'\(name)' is not a kind of records",
                    hint: "write them as in --kinds capability_denied,exec_started")
            }
            kinds.insert(String(name))
        }
    }

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
