import AegisAudit
import AegisCore
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct RecoveryTests {
    var fixture: Fixture
    init() throws { fixture = try Fixture() }

    @Test func ledgerGoesOnAfterARestart() throws {
        for _ in 1...3 { try fixture.fill(4) }
        let report = try fixture.verify()
        #expect(report.status == .intact && report.segments == 1 && report.records == 16)
    }

    /// `kill -9` at every byte of the last record.
    @Test func tornEndIsCutOffAndTold() throws {
        try fixture.fill(3, close: false)
        let good = try fixture.bytes()
        let lastLine = try #require(good.dropLast().lastIndex(of: 10)) + 1
        for end in stride(from: lastLine + 1, to: good.count - 1, by: 29) {
            try fixture.write(Array(good[..<end]))
            #expect(try fixture.verify().status == .intact)
            try fixture.fill(1)
            #expect(try fixture.verify().status == .intact)
            #expect(
                try fixture.kinds() == [
                    "segment_opened", "thing_done", "thing_done", "tail_recovered", "thing_done", "checkpoint",
                ])
        }
    }

    @Test func crashInTheFirstRecordOfAllIsForgotten() throws {
        try fixture.fill(1, close: false)
        for count in [0, 10, 200] {
            try fixture.write(Array(try fixture.bytes().prefix(count)))
            try fixture.fill(1)
            #expect(try fixture.verify().status == .intact, "\(count)")
        }
    }

    @Test func crashInTheFirstRecordOfASegmentGoesOn() throws {
        var fixture = fixture
        fixture.settings.segmentSize = 2000
        try fixture.fill(12)
        let newest = fixture.files.count
        #expect(newest > 2)
        for count in [0, 50] {
            try fixture.write(Array(try fixture.bytes(newest).prefix(count)), newest)
            #expect(try fixture.verify().status == .intact)
            try fixture.fill(1)
            #expect(try fixture.verify().status == .intact)
        }
    }

    @Test func damageIsKeptToldAndStaysBroken() throws {
        try fixture.fill(6)
        var lines = try fixture.lines()
        lines[3].replace(#""number":3"#, with: #""number":4"#)
        try fixture.write(lines: lines)
        try fixture.fill(1)
        #expect(try fixture.lines() == lines)
        #expect(try fixture.kinds(2).prefix(2) == ["segment_opened", "damage_found"])
        let report = try fixture.verify()
        #expect(report.status == .broken && report.faults.first?.seq == 4)
    }

    @Test func cutLedgerIsFoundAtTheStartByTheKnownHead() throws {
        try fixture.fill(6)
        let lines = try fixture.lines()
        let head = try LedgerHead(parsing: try #require(try fixture.verify().head))
        try fixture.write(lines: Array(lines.prefix(4)))
        let ledger = try fixture.open(known: head)
        let receipt = try ledger.record(AuditEvent(.done))
        ledger.close()
        #expect(receipt.seq > head.seq)
        #expect(try fixture.kinds(2).prefix(2) == ["segment_opened", "damage_found"])
        let report = try fixture.verify()
        #expect(report.status == .broken && report.faults.contains { $0.kind == .removed })
    }

    @Test func deletedLedgerIsFoundAtTheStart() throws {
        try fixture.fill(6)
        let head = try LedgerHead(parsing: try #require(try fixture.verify().head))
        try Files.removeTree(fixture.path)
        let ledger = try fixture.open(known: head)
        try ledger.record(AuditEvent(.done))
        ledger.close()
        #expect(try fixture.verify().status != .intact)
        #expect(try fixture.kinds().contains("damage_found"))
    }

    @Test func otherKeyIsFound() throws {
        try fixture.fill(2)
        try Files.removeFile(fixture.folder.path("audit.key"))
        try fixture.fill(2)
        #expect(try fixture.verify().status == .broken)
        #expect(try fixture.kinds(2).contains("damage_found"))
    }

    @Test func keyFileIsNotSharedWithAnybody() throws {
        try fixture.fill(1)
        let file = fixture.folder.path("audit.key")
        #expect(try Files.status(file).permissions == 0o600)
        try Files.setPermissions(file, 0o640)
        #expect(throws: AegisError.self) { try fixture.open() }
        try Files.setPermissions(file, 0o600)
        try Files.writeAtomically(file, [1, 2, 3])
        #expect(throws: AegisError.self) { try fixture.open() }
    }
}

@Suite struct RotationTests {
    var fixture: Fixture
    init() throws {
        fixture = try Fixture()
        fixture.settings.segmentSize = 3000
    }

    @Test func segmentsEndWithSealsThatNameTheOneBefore() throws {
        try fixture.fill(40)
        #expect(fixture.files.count > 4)
        for number in 1..<fixture.files.count {
            #expect(try fixture.kinds(number).first == "segment_opened")
            #expect(try fixture.kinds(number).last == "segment_sealed")
        }
        let report = try fixture.verify()
        #expect(report.status == .intact && report.segments == fixture.files.count)
    }

    @Test func missingSegmentIsFound() throws {
        try fixture.fill(40)
        try Files.removeFile(fixture.file(2))
        let report = try fixture.verify()
        #expect(report.status == .broken && report.faults.first?.kind == .removed)
        #expect(report.faults.first?.message == "segments 2 to 2 are missing")
    }

    @Test func missingOldSegmentsWithoutSealsAreIncomplete() throws {
        try fixture.fill(40)
        try Files.removeFile(fixture.file(1))
        #expect(try fixture.verify().status == .incomplete)
    }

    @Test func cutSegmentIsFound() throws {
        try fixture.fill(40)
        try fixture.write(lines: try fixture.lines(2).dropLast(), 2)
        let report = try fixture.verify()
        #expect(report.status == .broken && report.faults.first?.kind == .truncated, "\(report.faults)")
    }

    @Test func oldSegmentsAreDroppedAndTheirSealsKept() throws {
        var fixture = fixture
        fixture.settings.retention = 8000
        let ledger = try fixture.open()
        var old: AuditReceipt?
        for index in 1...60 {
            let receipt = try ledger.record(AuditEvent(.done, ("number", .number(index))))
            old = old ?? receipt
            try ledger.checkpoint()
            try ledger.dropOld()
        }
        ledger.close()
        let total = try fixture.files.filter { $0 != "seals.jsonl" }
            .reduce(0) { $0 + (try Files.status("\(fixture.path)/\($1)").size) }
        #expect(total < 13_000)
        let report = try fixture.verify()
        #expect(report.status == .intact && report.dropped > 3, "\(report)")
        // A head of what was dropped cannot be checked any more.
        let head = LedgerHead(seq: try #require(old).seq, hash: try #require(old).hash)
        #expect(try fixture.verify(heads: [head]).status == .incomplete)
        var seals = try Files.read("\(fixture.path)/seals.jsonl", limit: 1 << 20)
        // Half a line of a crash does no harm; a changed seal does.
        try Files.writeAtomically("\(fixture.path)/seals.jsonl", seals + seals.prefix(20))
        #expect(try fixture.verify().status == .intact)
        seals[20] = 48
        try Files.writeAtomically("\(fixture.path)/seals.jsonl", seals)
        #expect(try fixture.verify().status == .broken)
        try Files.removeFile("\(fixture.path)/seals.jsonl")
        #expect(try fixture.verify().status == .incomplete)
    }

    @Test(.enabled(if: CurrentProcess.effectiveUser == 0)) func fullDiskRefusesAndGoesOnWhenThereIsRoom() throws {
        try Files.makeDirectories(fixture.path)
        try mountSmall(fixture.path, "size=64k")
        // A child that another test starts at this moment may have its files open.
        defer { try? Mounts.unmount(fixture.path, detach: true) }
        let ledger = try fixture.open()
        var written = 0
        let failure = #expect(throws: AegisError.self) {
            while true {
                try ledger.record(AuditEvent(.done, ("number", .number(written))))
                written += 1
            }
        }
        #expect(failure?.code == "audit-disk-full" && ledger.obstacle != nil)
        #expect(throws: AegisError.self) { try ledger.record(AuditEvent(.refused)) }
        #expect(try fixture.verify().status == .intact)
        try mountSmall(fixture.path, "remount,size=256k")
        try ledger.record(AuditEvent(.done))
        #expect(ledger.obstacle == nil)
        ledger.close()
        let report = try fixture.verify()
        #expect(report.status == .intact, "\(report)")
        let all = try fixture.files.indices.flatMap { try fixture.kinds($0 + 1) }
        #expect(all.count { $0 == "thing_done" } == written + 1)
    }

    /// What was counted instead of written is told once there is room for that: no denial is lost with a disk.
    @Test(.enabled(if: CurrentProcess.effectiveUser == 0)) func whatIsCountedWaitsForRoom() throws {
        try Files.makeDirectories(fixture.path)
        try mountSmall(fixture.path, "size=64k")
        // A child that another test starts at this moment may have its files open.
        defer { try? Mounts.unmount(fixture.path, detach: true) }
        let ledger = try fixture.open()
        for agent in ["i-1", "i-2", "i-3"] {
            for _ in 1...100 { try ledger.record(AuditEvent(.refused, agent: agent, ("to", "example.com:443"))) }
        }
        while (try? ledger.record(AuditEvent(.done))) != nil {}
        for _ in 1...3 {
            let failure = #expect(throws: AegisError.self) { try ledger.checkpoint(all: true) }
            #expect(failure?.code == "audit-disk-full")
        }
        try mountSmall(fixture.path, "remount,size=256k")
        try ledger.checkpoint(all: true)
        try ledger.checkpoint(all: true)
        ledger.close()
        let told = try fixture.files.indices.flatMap { try fixture.lines($0 + 1) }
            .map { try JSONValue(parsing: $0.utf8) }.filter { $0["kind"] == "denial_repeated" }
        #expect(Set(told.compactMap { $0["agent"]?.text }) == ["i-1", "i-2", "i-3"])
        #expect(told.count == 3 && told.allSatisfy { $0["fields"]?["times"]?.integer == 80 }, "\(told)")
    }
}
