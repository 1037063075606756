import AegisAudit
import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct ReaderTests {
    var fixture: Fixture
    init() throws {
        fixture = try Fixture()
        fixture.settings.segmentSize = 3000
    }

    private func numbers(_ lines: [UInt8]) throws -> [Int64] {
        try lines.split(separator: 10).map { try JSONValue(parsing: $0)["fields"]?["number"]?.integer ?? -1 }
    }

    private func filter(_ change: (inout AuditFilter) throws -> Void = { _ in }) throws -> AuditFilter {
        var filter = AuditFilter()
        filter.kinds = ["thing_done"]
        try change(&filter)
        return filter
    }

    @Test func tailCrossesSegments() throws {
        try fixture.fill(40)
        let reader = try LedgerReader(path: fixture.path)
        #expect(try numbers(try reader.tail(25, filter()).lines) == Array(16...40))
        #expect(try numbers(try reader.tail(1000, filter()).lines) == Array(1...40))
        #expect(try reader.tail(0, filter()).lines.isEmpty)
    }

    @Test func followingFindsEachRecordOnceOverRotationsAndAReopening() throws {
        let reader = try {
            try fixture.fill(1)
            return try LedgerReader(path: fixture.path)
        }()
        var cursor = try reader.tail(0, AuditFilter()).cursor
        var seen: [Int64] = []
        for _ in 1...5 {
            try fixture.fill(30)
            while true {
                let batch = try reader.next(cursor, try filter())
                #expect(batch.lost == 0)
                seen += try numbers(batch.lines)
                if batch.cursor == cursor { break }
                cursor = batch.cursor
            }
        }
        #expect(seen == (1...5).flatMap { _ in (1...30).map { Int64($0) } })
    }

    @Test func whoIsTooSlowIsToldHowMuchWasDropped() throws {
        try fixture.fill(2)
        let reader = try LedgerReader(path: fixture.path)
        var cursor = try reader.tail(0, AuditFilter()).cursor
        let before = cursor.seq
        var small = fixture
        small.settings.retention = 6000
        let ledger = try small.open()
        for index in 1...60 { try ledger.record(AuditEvent(.done, ("number", .number(index)))) }
        try ledger.dropOld()
        let newest = ledger.head.seq
        var lost: UInt64 = 0
        var read: UInt64 = 0
        while cursor.seq < newest {
            let batch = try reader.next(cursor, AuditFilter())
            lost += batch.lost
            read += UInt64(batch.lines.split(separator: 10).count)
            cursor = batch.cursor
        }
        #expect(lost > 20 && before + lost + read == newest)
    }

    @Test func filtersAreForKindAgentTraceAndTime() throws {
        let ledger = try fixture.open()
        try ledger.record(AuditEvent(.done, agent: "a", trace: "t1", ("number", 1)))
        fixture.clock.advance(1000)
        let middle = fixture.clock.now
        try ledger.record(AuditEvent(.done, agent: "b", trace: "t1", ("number", 2)))
        try ledger.record(AuditEvent(.refused, agent: "a", trace: "t2", ("number", 3)))
        let reader = try LedgerReader(path: fixture.path)
        func found(_ change: (inout AuditFilter) throws -> Void) throws -> [Int64] {
            var filter = AuditFilter()
            try change(&filter)
            return try numbers(try reader.tail(10, filter).lines).filter { $0 > 0 }
        }
        #expect(try found { $0.agent = "a" } == [1, 3])
        #expect(try found { $0.trace = "t1" } == [1, 2])
        #expect(try found { $0.since = middle } == [2, 3])
        #expect(try found { $0.kinds = ["thing_refused", "thing_observed"] } == [3])
    }

    @Test func exportedRangeIsCheckedElsewhere() throws {
        try fixture.fill(60)
        let target = fixture.folder.path("copy")
        let all = try LedgerExport(path: fixture.path).write(into: target)
        #expect(all.segments == fixture.files.count && all.seals == 0)
        let part = try LedgerExport(path: fixture.path).write(from: 40, into: fixture.folder.path("part"))
        #expect(part.segments > 0 && part.seals > 0 && part.head == all.head)
        let head = try LedgerHead(parsing: try #require(part.head))
        for folder in ["copy", "part"] {
            let report = try LedgerVerifier(path: fixture.folder.path(folder), keys: [], heads: [head]).verify()
            #expect(report.status == .intact, "\(report)")
        }
        #expect(throws: AegisError.self) { try LedgerExport(path: fixture.path).write(into: target) }
    }

    @Test func headsAreMirroredInDatabaseAndWitness() throws {
        let database = try Database.open(
            path: fixture.folder.path("db"), applicationID: 1, migrations: [HeadStore.migration])
        let store = HeadStore(database)
        #expect(try store.load() == nil)
        let witness = fixture.folder.path("witness")
        let clock = fixture.clock
        let mirrors = HeadMirrors(
            node: "00c0ffee", store: store, witness: witness, journal: nil, now: { clock.now }, failed: { _ in })
        let ledger = try fixture.open()
        var heads: [LedgerHead] = []
        for _ in 1...3 {
            try ledger.record(AuditEvent(.done))
            heads.append(try ledger.checkpoint())
            mirrors.take(heads[heads.count - 1])
        }
        #expect(try store.load() == heads.last)
        #expect(try HeadStore.peek(fixture.folder.path("db")) == heads.last)
        func told() throws -> [String] {
            try Files.read(witness, limit: 4096).split(separator: 10).map {
                try JSONValue(parsing: $0)["head"]?.text ?? ""
            }
        }
        // At most one in ten seconds, and the last one at the end.
        #expect(try told() == [heads[0].description])
        mirrors.flush()
        mirrors.flush()
        #expect(try told() == [heads[0].description, heads[2].description])
        #expect(try fixture.verify(heads: [try #require(try store.load())]).status == .intact)
    }

    /// Many threads write at once: each record once, all in one chain.
    @Test func manyWritersMakeOneChain() async throws {
        let ledger = try fixture.open()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for writer in 0..<8 {
                group.addTask {
                    for index in 0..<200 {
                        try ledger.record(AuditEvent(.done, agent: "\(writer)", ("number", .number(index))))
                        if index.isMultiple(of: 50) { try ledger.checkpoint() }
                    }
                }
            }
            try await group.waitForAll()
        }
        ledger.close()
        #expect(throws: AegisError.self) { try ledger.record(AuditEvent(.done)) }
        #expect(try fixture.verify().status == .intact)
        let lines = try LedgerReader(path: fixture.path).tail(10_000, try filter()).lines
        #expect(lines.split(separator: 10).count == 1600)
    }
}

extension ReaderTests {
    /// Whoever comes back goes on behind the record that it saw last, in whichever segment that is.
    @Test func thePlaceBehindARecordIsFound() throws {
        try fixture.fill(40)
        let reader = try LedgerReader(path: fixture.path)
        let head = try reader.tail(0, AuditFilter()).cursor.seq
        for seq in [0, 1, 2, 17, 30, head - 1, head, head + 5] {
            var cursor = try reader.cursor(after: seq)
            var next = min(seq, head) + 1
            while true {
                let batch = try reader.next(cursor, AuditFilter())
                #expect(batch.lost == 0)
                for line in batch.lines.split(separator: 10) {
                    #expect(try JSONValue(parsing: line)["seq"]?.unsigned == next)
                    next += 1
                }
                if batch.cursor == cursor { break }
                cursor = batch.cursor
            }
            #expect(next == head + 1)
        }
        #expect(try reader.cursor(after: nil).seq == head)
    }
}
