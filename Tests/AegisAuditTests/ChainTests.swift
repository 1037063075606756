import AegisAudit
import AegisCore
import AegisJSON
import LinuxSys
import Testing

@Suite struct ChainTests {
    var fixture: Fixture
    init() throws { fixture = try Fixture() }

    @Test func recordsAreNumberedLinkedAndWhole() throws {
        let ledger = try fixture.open()
        let first = try ledger.record(
            AuditEvent(.done, agent: "i-1", parent: "i-0", trace: "t", step: 3, ("path", "/a\"b\n\u{1b}"), ("n", 7)))
        let second = try ledger.record(AuditEvent(.refused))
        #expect(first.seq == 2 && second.seq == 3)
        let lines = try fixture.lines()
        #expect(lines.count == 3)
        let opened = try JSONValue(parsing: lines[0].utf8)
        #expect(opened["kind"] == "segment_opened" && opened["fields"]?["key"]?.text == ledger.publicKey.description)
        #expect(
            lines[1].hasPrefix(
                #"{"v":1,"seq":2,"time":"2027-01-15T08:00:00.000Z","kind":"thing_done","agent":"i-1","parent":"i-0","#
                    + #""trace":"t","step":3,"fields":{"path":"/a\"b\n\u001b","n":7},"prev":""#))
        let record = try JSONValue(parsing: lines[1].utf8)
        #expect(record["prev"] == opened["hash"] && record["hash"]?.text == first.hash.description)
        #expect(try JSONValue(parsing: lines[2].utf8)["prev"]?.text == first.hash.description)
        #expect(ledger.head == LedgerHead(seq: 3, hash: second.hash))
    }

    @Test func wholeLedgerIsIntactAndSigned() throws {
        try fixture.fill(12)
        let report = try fixture.verify()
        #expect(report.status == .intact, "\(report)")
        #expect(report.records == 16 && report.signedTo == 16 && report.notes.isEmpty && report.first == 1)
        #expect(report.head.map { $0.hasPrefix("16:") } == true)
    }

    /// Segments are counted from 1.
    @Test func aFileWithAnotherNameIsNoSegment() throws {
        try fixture.fill(3)
        for name in ["000000000000.jsonl", "1.jsonl", "000000000001.jsonl~", "99999999999999999999.jsonl"] {
            try Files.writeAtomically("\(fixture.path)/\(name)", Array("{}\n".utf8))
        }
        #expect(try fixture.verify().status == .intact)
    }

    @Test func everyChangedByteIsFound() throws {
        try fixture.fill(6)
        let good = try fixture.bytes()
        // Each byte of a record in the middle, and a sample of all others.
        let line = good.split(separator: 10)[3]
        for index in line.indices.map(\.self) + stride(from: 0, to: good.count, by: 37).map(\.self) {
            var bad = good
            bad[index] = bad[index] == UInt8(ascii: "7") ? UInt8(ascii: "8") : UInt8(ascii: "7")
            try fixture.write(bad)
            let report = try fixture.verify()
            #expect(report.status == .broken, "byte \(index)")
            #expect(report.faults.first?.file == "000000000001.jsonl")
        }
    }

    @Test func changedTextNamesItsRecordAndLine() throws {
        try fixture.fill(6)
        var lines = try fixture.lines()
        lines[3].replace(#""number":3"#, with: #""number":4"#)
        try fixture.write(lines: lines)
        let report = try fixture.verify()
        let fault = try #require(report.faults.first)
        #expect(report.faultCount == 1 && fault.kind == .changed && fault.file == "000000000001.jsonl")
        #expect(fault.line == 4 && fault.seq == 4 && fault.message == "the text of record 4 was changed")
    }

    @Test(arguments: 0..<8) func everyRemovedLineIsFound(_ index: Int) throws {
        try fixture.fill(6)
        var lines = try fixture.lines()
        let head = try LedgerHead(parsing: try #require(try fixture.verify().head))
        lines.remove(at: index)
        try fixture.write(lines: lines)
        let report = try fixture.verify(heads: [head])
        #expect(report.status == .broken)
        let kinds = Set(report.faults.map(\.kind))
        #expect(kinds.contains(index == 0 ? .misplaced : .removed) || kinds.contains(.truncated), "\(report.faults)")
    }

    @Test func otherOrderIsFound() throws {
        try fixture.fill(6)
        var lines = try fixture.lines()
        lines.swapAt(2, 4)
        try fixture.write(lines: lines)
        let report = try fixture.verify()
        #expect(report.status == .broken && report.faults.contains { $0.kind == .misplaced && $0.line == 4 })
    }

    @Test func insertedCopyIsFound() throws {
        try fixture.fill(6)
        var lines = try fixture.lines()
        lines.insert(lines[2], at: 4)
        try fixture.write(lines: lines)
        let report = try fixture.verify()
        #expect(report.faults.contains { $0.kind == .misplaced && $0.line == 5 && $0.seq == 3 })
    }

    @Test func chainMadeAnewWithoutTheKeyIsFound() throws {
        try fixture.fill(6, close: false)
        let other = try Fixture()
        try other.fill(7)
        try fixture.write(try other.bytes())
        #expect(try fixture.verify().status == .incomplete)
        // The same with the header that names our key.
        let forged = try Fixture()
        try forged.fill(6)
        #expect(try fixture.verify(trusted: false).notes.contains { $0.contains("own word") })
    }

    @Test func truncationIsFoundBackToTheNewestHead() throws {
        try fixture.fill(10)
        let head = try LedgerHead(parsing: try #require(try fixture.verify().head))
        let lines = try fixture.lines()
        for count in 1..<lines.count {
            try fixture.write(lines: Array(lines.prefix(count)))
            #expect(try fixture.verify().status == .intact)
            let report = try fixture.verify(heads: [head])
            #expect(report.status == .broken && report.faults.map(\.kind) == [.truncated])
            #expect(report.faults.first?.seq == UInt64(count + 1))
        }
    }

    @Test func headOfAnotherHistoryIsFound() throws {
        try fixture.fill(3)
        let wrong = LedgerHead(seq: 3, hash: .none)
        let report = try fixture.verify(heads: [wrong])
        #expect(report.faults.map(\.kind) == [.rewritten] && report.faults.first?.seq == 3)
    }

    @Test func emptyFolderIsIncompleteAndAMissingOneIsAnError() throws {
        #expect(throws: AegisError.self) { try fixture.verify() }
        try Files.makeDirectories(fixture.path)
        #expect(try fixture.verify().status == .incomplete)
    }

    @Test func endWithoutCheckpointIsIntactAndTold() throws {
        try fixture.fill(7, close: false)
        let report = try fixture.verify()
        #expect(report.status == .intact)
        #expect(report.notes == ["the last 2 records are not signed yet: a head of them proves them"])
    }

    @Test func longFieldsAreCutAndProved() throws {
        let ledger = try fixture.open()
        try ledger.record(AuditEvent(.done, ("text", .string(String(repeating: "x", count: 100_000)))))
        try ledger.record(
            AuditEvent(.done, ("list", .array(Array(repeating: .string("0123456789"), count: 10_000)))))
        ledger.close()
        let lines = try fixture.lines()
        #expect(lines[1].utf8.count < 1200 && lines[1].contains("cut_from_bytes"))
        #expect(lines[2].utf8.count < 500 && lines[2].contains("cut_hash"))
        #expect(try fixture.verify().status == .intact)
    }

    @Test(arguments: [
        "", "1", "1:abc", "0:\(AuditHash.none)", "x:\(AuditHash.none)", "1:\(AuditHash.none):", "-1:\(AuditHash.none)",
    ])
    func wrongHeadsAreRefused(_ text: String) {
        #expect(throws: AegisError.self) { try LedgerHead(parsing: text) }
    }
}
