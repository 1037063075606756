internal import AegisJSON
internal import LinuxSys

/// Entries in the journal of systemd, in its own protocol.
package struct JournalSink: AuditSink {
    /// Where the journal of a machine listens.
    package static let path = "/run/systemd/journal/socket"
    /// The longest path that a socket can have.
    package static let longestPath = 107

    private let path: String
    private let node: String
    private let patience: Int32

    /// Entries for a journal.
    ///
    /// - Parameters:
    ///   - node: the id of the node.
    ///   - path: where it listens; a journal of a namespace has a place of its own.
    ///   - patience: milliseconds that it may take to make room for an entry.
    package init(node: String, path: String = JournalSink.path, patience: Int32 = 1000) {
        self.node = node
        self.path = path
        self.patience = patience
    }

    /// Whether there is such a journal.
    var isThere: Bool { Files.exists(path) }

    package func take(_ lines: [UInt8]) throws {
        let socket = try DatagramSocket(patience: patience)
        for line in lines.lines {
            guard let record = try? JSONValue(parsing: line) else { continue }
            try send(entry(line, record), on: socket)
        }
    }

    /// What is too long for a datagram goes as a sealed file in memory.
    private func send(_ entry: [UInt8], on socket: borrowing DatagramSocket) throws(Errno) {
        do throws(Errno) { try socket.send(entry, to: path) } catch {
            guard error == .messageTooLong || error == .noBufferSpace else { throw error }
            try socket.send(file: try FileDescriptor.sealed(entry, name: "aegis-audit"), to: path)
        }
    }

    /// A head, for whoever looks later whether the ledger was cut.
    ///
    /// - Throws: when nobody listens.
    package func tell(_ head: LedgerHead) throws {
        let entry = Self.entry([
            ("MESSAGE", "the ledger of aegis node \(node) is at \(head)"), ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "aegis-audit"), ("AEGIS_NODE", node), ("AEGIS_AUDIT_HEAD", head.description),
        ])
        try send(entry, on: try DatagramSocket(patience: patience))
    }

    private func entry(_ line: ArraySlice<UInt8>, _ record: JSONValue) -> [UInt8] {
        let kind = record["kind"]?.text ?? ""
        var fields = [
            ("MESSAGE", String(decoding: line, as: UTF8.self)),
            ("PRIORITY", kind.hasSuffix("_denied") || kind == "denial_repeated" ? "4" : "6"),
            ("SYSLOG_IDENTIFIER", "aegis-audit"), ("AEGIS_NODE", node), ("AEGIS_AUDIT_KIND", kind),
            ("AEGIS_AUDIT_SEQ", record["seq"]?.unsigned.map { "\($0)" } ?? ""),
        ]
        for (name, key) in [("AEGIS_AGENT", "agent"), ("AEGIS_TRACE", "trace")] {
            if let text = record[key]?.text { fields.append((name, text)) }
        }
        return Self.entry(fields)
    }

    /// A value with its length before it may hold anything, newlines too.
    static func entry(_ fields: [(String, String)]) -> [UInt8] {
        var out: [UInt8] = []
        for (name, value) in fields {
            out += Array(name.utf8) + [10]
            let count = UInt64(value.utf8.count)
            for shift in stride(from: UInt64(0), to: 64, by: 8) {
                out.append(UInt8(truncatingIfNeeded: count >> shift))
            }
            out += Array(value.utf8) + [10]
        }
        return out
    }
}
