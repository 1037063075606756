internal import AegisAudit
internal import AegisConfig
internal import AegisCore

/// `audit`: where records go, and how long they stay.
struct AuditSection: ConfigSection {
    static let key = "audit"
    private static let known = ["file", "stdout", "journald"]
    var sinks: [String]
    var segmentSize: ByteSize
    var retention: ByteSize
    /// Who gets the heads.
    var witness: WitnessSetting
    /// Where the journal listens.
    var journalSocket: String

    init(from reader: ConfigReader) {
        sinks = reader.readList("sinks", of: String.self, default: ["file"]) { word in
            guard !Self.known.contains(word) else { return nil }
            let near = nearest(word, in: Self.known).map { " (did you mean '\($0)'?)" } ?? ""
            return "must be one of \(Self.known.joined(separator: ", "))\(near)"
        }
        segmentSize = reader.read("segment_size", default: ByteSize(16 << 20)) {
            (64 << 10...256 << 20).contains($0.bytes) ? nil : "must be 64Ki to 256Mi"
        }
        retention = reader.read("retention", default: ByteSize(1 << 30)) {
            $0.bytes >= 1 << 20 ? nil : "must be at least 1Mi"
        }
        witness = WitnessSetting(from: reader)
        journalSocket = reader.read("journal_socket", default: JournalSink.path) {
            $0.hasPrefix("/") && $0.utf8.count <= JournalSink.longestPath
                ? nil : "must be the absolute path of a socket, of \(JournalSink.longestPath) bytes at most"
        }
    }

    /// The same for the ledger.
    var settings: LedgerSettings {
        var settings = LedgerSettings()
        settings.segmentSize = segmentSize.bytes
        settings.retention = retention.bytes
        return settings
    }
}
