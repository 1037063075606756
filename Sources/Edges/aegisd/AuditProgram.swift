internal import AegisAudit
internal import AegisCore
internal import AegisSandboxTypes
internal import LinuxSys

/// `aegisd --audit`: checks or copies a ledger from its files, with a daemon or without one.
struct AuditProgram {
    /// What it found.
    enum Answer: Encodable {
        case check(VerifyReport)
        case copy(LedgerExport.Report)

        func encode(to encoder: any Encoder) throws {
            switch self {
            case .check(let report): try report.encode(to: encoder)
            case .copy(let report): try report.encode(to: encoder)
            }
        }
    }
    private enum Verb: String, CaseIterable { case verify, export }
    private var verb = Verb.verify
    /// The folder of another ledger than that of this home.
    private var path: String?
    private var target: String?
    private var keys: [LedgerPublicKey] = []
    private var heads: [LedgerHead] = []
    private var from: UInt64 = 1
    private var to = UInt64.max

    /// Reads the words after `--audit`.
    ///
    /// - Throws: `invalid-argument`.
    init(_ arguments: [String]) throws(AegisError) {
        var rest = arguments[...]
        guard let verb = rest.popFirst().flatMap(Verb.init(rawValue:)) else {
            throw .usage("--audit needs verify or export", hint: "use aegis audit")
        }
        self.verb = verb
        while let word = rest.popFirst() {
            guard let value = rest.popFirst() else { throw .usage("\(word) needs a value", hint: "use aegis audit") }
            switch word {
            case "--path": path = value
            case "--to-folder": target = value
            case "--key": keys.append(try LedgerPublicKey(parsing: value))
            case "--head": heads.append(try LedgerHead(parsing: value))
            case "--from": from = try Self.seq(value)
            case "--to": to = try Self.seq(value)
            default: throw .usage("unknown flag '\(word)' of --audit", hint: "use aegis audit")
            }
        }
    }

    private static func seq(_ text: String) throws(AegisError) -> UInt64 {
        guard let seq = UInt64(text), seq > 0 else {
            throw .usage("'\(text)' is not the number of a record", hint: "the first one is 1")
        }
        return seq
    }

    /// Does it.
    ///
    /// - Returns: what it found.
    /// - Throws: `audit-not-found`, `audit-unreadable`, `administrator-needed`, `file-exists`, `audit-not-exported`.
    func run() throws -> Answer {
        let home = try DaemonHome.place().path
        if path == nil { try checkOwner(home) }
        let folder = path ?? "\(home)/\(DaemonHome.auditFolder)"
        switch verb {
        case .export:
            guard let target else { throw AegisError.usage("--to-folder is missing", hint: "use aegis audit export") }
            return .copy(try LedgerExport(path: folder).write(from: from, to: to, into: target))
        case .verify:
            guard path == nil else {
                return .check(try LedgerVerifier(path: folder, keys: keys, heads: heads).verify())
            }
            let own = try LedgerKey.load("\(home)/\(DaemonHome.auditKey)").map(\.publicKey)
            // The database's head first: what is recorded meanwhile only makes the ledger longer.
            let known = try knownHead(home)
            return .check(
                try LedgerVerifier(
                    path: folder, keys: keys + [own].compactMap(\.self), heads: heads + [known].compactMap(\.self)
                ).verify())
        }
    }

    /// The key's file and the database are their owner's.
    private func checkOwner(_ home: String) throws(AegisError) {
        let owner: UInt32
        do throws(Errno) { owner = try Files.status(home).user } catch {
            throw .notFound(
                "audit-not-found", "there is no ledger in \(home)",
                hint: "set AEGIS_HOME to the daemon's, or name a folder with --path")
        }
        guard owner == CurrentProcess.effectiveUser else {
            throw AegisError(
                .denied, "administrator-needed", "\(home) belongs to uid \(owner)",
                hint: "ask as that user, or check a copy with --path")
        }
    }

    private func knownHead(_ home: String) throws -> LedgerHead? {
        let file = try RecordsPlace.current(home)
        guard Files.exists(file) else { return nil }
        // As it is: the daemon that has it open may be of another release.
        return try HeadStore.peek(file)
    }
}
