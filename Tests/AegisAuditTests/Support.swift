import AegisAudit
import AegisCore
import AegisJSON
import AegisTestSupport
import LinuxSys
import Synchronization

extension AuditKind {
    static let done = AuditKind("thing_done")
    static let refused = AuditKind("thing_refused", .denial)
    static let observed = AuditKind("thing_observed", .report)
}

/// A clock that goes on when it is told to.
final class HandClock: Sendable {
    private let time = Mutex<Int64>(1_800_000_000_000)
    var now: Timestamp { Timestamp(milliseconds: time.withLock { $0 }) }
    func advance(_ milliseconds: Int64) { time.withLock { $0 += milliseconds } }
}

/// A ledger in a folder of its own.
struct Fixture {
    let folder: TemporaryDirectory
    let clock = HandClock()
    var settings = LedgerSettings()
    var path: String { folder.path("audit") }

    init() throws { folder = try TemporaryDirectory() }

    func open(known: LedgerHead? = nil) throws(AegisError) -> Ledger {
        try Ledger(
            path: path, keyFile: folder.path("audit.key"), node: "00c0ffee", settings: settings, known: known,
            now: { [clock] in clock.now })
    }

    func fill(_ count: Int, checkpointEvery every: Int = 5, close: Bool = true) throws {
        let ledger = try open()
        for index in 1...count {
            try ledger.record(AuditEvent(.done, agent: "i-1", ("number", .number(index))))
            if index.isMultiple(of: every) { try ledger.checkpoint() }
        }
        if close { ledger.close() }
    }

    func verify(heads: [LedgerHead] = [], trusted: Bool = true) throws -> VerifyReport {
        let key = try LedgerKey.load(folder.path("audit.key"))
        return try LedgerVerifier(
            path: path, keys: trusted ? [key?.publicKey].compactMap(\.self) : [], heads: heads
        ).verify()
    }

    var files: [String] { (try? Files.list(path).map(\.name).sorted()) ?? [] }
    func file(_ number: Int) -> String {
        path + "/" + String(repeating: "0", count: 12 - "\(number)".count) + "\(number).jsonl"
    }
    func bytes(_ number: Int = 1) throws -> [UInt8] { try Files.read(file(number), limit: 1 << 26) }
    func write(_ bytes: [UInt8], _ number: Int = 1) throws { try Files.writeAtomically(file(number), bytes) }
    func lines(_ number: Int = 1) throws -> [String] {
        String(decoding: try bytes(number), as: UTF8.self).split(separator: "\n").map(String.init)
    }
    func write(lines: [String], _ number: Int = 1) throws {
        try write(Array((lines.joined(separator: "\n") + "\n").utf8), number)
    }
    func kinds(_ number: Int = 1) throws -> [String] {
        try lines(number).map { try JSONValue(parsing: $0.utf8)["kind"]?.text ?? "" }
    }
}

/// Mounts a small file system, or gives it another size.
func mountSmall(_ path: String, _ options: String) throws {
    let isThere = options.hasPrefix("remount,")
    // 32 is MS_REMOUNT.
    try Mounts.mount(
        "tmpfs", on: path, type: "tmpfs", flags: isThere ? 32 : 0, data: String(options.dropFirst(isThere ? 8 : 0)))
}
