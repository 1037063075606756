import AegisAudit
import AegisCapabilities
import AegisCore
import AegisJSON
import LinuxSys

/// What a record costs: *saved*, as every decision waits for it, and *synced*, as checkpoints do. Needs no daemon.
struct LedgerBench: Sendable {
    let isQuick: Bool

    func run() throws -> [ResultTable] {
        let count = isQuick ? 20_000 : 200_000
        let folder = "/var/tmp/aegis-bench-ledger-\(CurrentProcess.pid)"
        try Files.makeDirectories(folder)
        defer { try? Files.removeTree(folder) }
        let ledger = try Ledger(path: "\(folder)/audit", keyFile: "\(folder)/key", node: "0badcafe")
        var table = ResultTable(
            title: "The ledger: one record",
            note:
                "Target: saved p50 well below 30 µs. Each record is timed by itself, on one thread, on the disk of /var/tmp.",
            head: ["record", "samples", "p50 µs", "p99 µs"])
        func add(_ name: String, _ count: Int, _ body: () throws -> Void) throws {
            let samples = try time(count, body)
            table.rows.append([name, "\(count)", short(samples.p50 * 1000), short(samples.p99 * 1000)])
        }
        let event = AuditEvent(
            AuditKind("tool_invoked"), agent: "agent-0123456789abcdef", trace: "t-0123456789abcdef", step: 12,
            ("tool", "file_read"), ("input_hash", "d1f2a3c4d1f2a3c4d1f2a3c4d1f2a3c4"), ("surface", "daemon"))
        try add("saved", count) { try ledger.record(event) }
        let holder = HolderID("agent-0123456789abcdef")
        let book = GrantBook(journal: GrantLedger(ledger))
        try book.issue((0..<100).map { GrantSpec(.tool("tool_\($0)")) }, to: holder)
        try add("admit with its record, saved", count) {
            try book.admit(Request(.tool("tool_99")), by: holder).settle()
        }
        try add("with its checkpoint, synced", isQuick ? 200 : 2000) {
            try ledger.record(event)
            _ = try ledger.checkpoint()
        }
        ledger.close()
        let start = ContinuousClock.now
        let report = try LedgerVerifier(path: "\(folder)/audit", keys: [ledger.publicKey]).verify()
        let seconds = Double((ContinuousClock.now - start) / .microseconds(1)) / 1e6
        guard report.status == .intact else { throw Runner.Failure(description: "the ledger is \(report.status)") }
        table.note += " `aegis audit verify` reads \(Int(Double(report.records) / seconds)) records a second."
        return [table]
    }

    private func time(_ count: Int, _ body: () throws -> Void) rethrows -> Samples {
        for _ in 0..<100 { try body() }
        var samples = Samples()
        for _ in 0..<count {
            let start = ContinuousClock.now
            try body()
            samples.add(Double((ContinuousClock.now - start).components.attoseconds) / 1e15)
        }
        return samples
    }
}
