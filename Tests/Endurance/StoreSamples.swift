import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import LinuxSys

@testable import AegisAgents
@testable import AegisAudit

/// Files of our own that came to harm: the ledger, and sessions as a crash leaves them.
extension FuzzTests {
    /// Three segments of a ledger that was ended as it should, with its key and its head.
    private struct Sample: Sendable {
        let head: LedgerHead
        /// The file of its key.
        let keyFile: [UInt8]
        let key: LedgerPublicKey
        /// The segments, with a separator between them.
        var whole: [UInt8] = []

        init() throws {
            // Nobody ends what lasts as long as the process: nothing of it may need that.
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            var settings = LedgerSettings()
            settings.segmentSize = 1200
            let ledger = try Ledger(
                path: folder.path("audit"), keyFile: folder.path("audit.key"), node: "00c0ffee", settings: settings)
            for number in 1...8 {
                try ledger.record(AuditEvent(AuditKind("thing_done"), agent: "i-1", ("n", .number(number))))
                if number.isMultiple(of: 3) { try ledger.checkpoint() }
            }
            ledger.close()
            head = ledger.head
            key = ledger.publicKey
            keyFile = try Files.read(folder.path("audit.key"), limit: 4096)
            for file in try Files.list(folder.path("audit")).map(\.name).sorted() where file != LedgerFolder.seals {
                if !whole.isEmpty { whole += separator }
                whole += try Files.read("\(folder.path("audit"))/\(file)", limit: 1 << 20)
            }
        }
    }

    private static let separator: [UInt8] = [12, 10]
    private static let sample: Sample = {
        do { return try Sample() } catch { preconditionFailure("there is no ledger: \(error)") }
    }()

    /// The segments in an input.
    private static func segments(_ input: [UInt8]) -> [[UInt8]] {
        var found: [[UInt8]] = []
        var start = 0
        for place in input.indices.dropLast() where input[place] == separator[0] && input[place + 1] == separator[1] {
            found.append(Array(input[start..<place]))
            start = place + 2
        }
        return found + [Array(input[start...])]
    }

    /// What is whole in a segment, and how many bytes follow.
    private static func parts(_ segment: [UInt8]) -> (lines: [ArraySlice<UInt8>], torn: Int) {
        (segment.lines, segment.count - (segment.lastIndex(of: 10).map { $0 + 1 } ?? 0))
    }

    private static func status(_ input: [UInt8]) -> VerifyReport {
        var check = ChainCheck(path: "p", keys: [sample.key], heads: [sample.head])
        let all = segments(input)
        for (index, segment) in all.enumerated() {
            let (lines, torn) = parts(segment)
            check.take(UInt64(index + 1), lines, torn: torn, isNewest: index == all.count - 1)
        }
        return check.finished()
    }

    /// No record can be changed, removed, moved or cut off without being found.
    static let ledger = FuzzTarget(name: "ledgers", samples: [sample.whole, sample.whole + Array("{\"v\":1".utf8)]) {
        input, mutator in
        var input = input
        // Lines that change places, and whole ones that go.
        if mutator.below(4) == 0 {
            var lines = input.split(separator: 10, omittingEmptySubsequences: false)
            let (a, b) = (mutator.below(lines.count), mutator.below(lines.count))
            if mutator.below(2) == 0 { lines.swapAt(a, b) } else { lines.remove(at: a) }
            input = Array(lines.joined(separator: [10]))
        }
        guard status(input).status == .intact else { return nil }
        func whole(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] { segments(bytes).flatMap { parts($0).lines } }
        return whole(input) == whole(sample.whole) ? nil : "damage was not found"
    } accepts: {
        status($0).status == .intact
    }

    /// A daemon that starts with a damaged ledger goes on with it, and does not hide what was there.
    static let ledgerStart = FuzzTarget(name: "ledgers at a start", samples: [sample.whole]) { input, _ in
        do {
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            try Files.makeDirectories(folder.path("audit"))
            try Files.writeAtomically(folder.path("audit.key"), sample.keyFile, mode: 0o600, synced: false)
            for (index, segment) in segments(input).enumerated() {
                let name = LedgerFolder.name(UInt64(index + 1))
                try Files.writeAtomically(folder.path("audit/\(name)"), segment, mode: 0o600, synced: false)
            }
            let verifier = LedgerVerifier(path: folder.path("audit"), keys: [sample.key], heads: [sample.head])
            let before = try verifier.verify()
            let ledger = try Ledger(
                path: folder.path("audit"), keyFile: folder.path("audit.key"), node: "00c0ffee", known: sample.head)
            let told = try ledger.record(AuditEvent(AuditKind("thing_done")))
            ledger.close()
            let after = try verifier.verify()
            if before.status == .broken, after.status == .intact { return "the damage is hidden: \(before.faults)" }
            if before.status == .intact, after.status != .intact { return "damage was added: \(after.faults)" }
            return told.seq > sample.head.seq ? nil : "record \(told.seq) was given a second time"
        } catch { return error is AegisError ? nil : "\(error)" }
    } accepts: {
        status($0).status == .intact
    }

    // MARK: Sessions

    /// The files of a database whose sessions are in its log alone, as `kill -9` leaves them.
    private struct Torn: Sendable {
        let main: [UInt8]
        let log: [UInt8]
        let steps: [SessionStep]

        init() throws {
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let path = folder.path("a.db")
            let database = try Torn.open(path)
            let store = SessionStore(database)
            var steps: [SessionStep] = []
            for turn in 0..<6 {
                steps += [
                    .began(trace: "t-\(turn)", text: String(repeating: "go ", count: 40 * turn), from: nil),
                    ToolUseText.replied([ToolUseText.use("c\(turn)", "echo")]), .intent(call: "c\(turn)"),
                    ToolUseText.outcome("c\(turn)"), .ended(.complete, nil),
                ]
            }
            var drafts = steps.enumerated().map { seq, step in
                SessionStore.Draft(step, at: seq, trace: nil, time: Timestamp(milliseconds: 1))
            }[...]
            // One, two or three at once, as agents save them.
            var place = SessionStore.Place(of: "a-1")
            while let first = drafts.first {
                let portion = drafts.prefix(first.seq % 3 + 1)
                try store.append(Array(portion), to: &place)
                drafts = drafts.dropFirst(portion.count)
            }
            main = try Files.read(path, limit: 1 << 24)
            log = try Files.read(path + "-wal", limit: 1 << 24)
            self.steps = steps
            database.close()
        }

        static func open(_ path: String) throws -> Database {
            try Database.open(
                path: path, applicationID: 7,
                migrations: SessionStore.migrations + SessionStore.mailMigrations + SessionStore.indexMigrations
                    + SessionStore.placeMigrations)
        }

        /// The steps that a daemon finds that starts with such a log.
        func found(with log: [UInt8]) throws -> [SessionStep] {
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let path = folder.path("a.db")
            try Files.writeAtomically(path, main, mode: 0o600, synced: false)
            try Files.writeAtomically(path + "-wal", log, mode: 0o600, synced: false)
            let database = try Torn.open(path)
            defer { database.close() }
            return try SessionStore(database).steps(of: "a-1").map(\.step)
        }
    }

    private static let torn: Torn = {
        do { return try Torn() } catch { preconditionFailure("there is no database: \(error)") }
    }()

    /// What is found is what was saved, up to where the log is damaged.
    static let sessionLog = FuzzTarget(name: "session databases", samples: [torn.log]) { input, mutator in
        // A tail that was written half, more often than anything.
        let input = mutator.below(2) == 0 ? Array(torn.log.prefix(mutator.below(torn.log.count + 1))) : input
        do {
            let found = try torn.found(with: input)
            return torn.steps.starts(with: found) ? nil : "\(found.count) steps that are not those that were saved"
        } catch { return error is AegisError ? nil : "\(error)" }
    } accepts: {
        (try? torn.found(with: $0))?.isEmpty == false
    }
}
