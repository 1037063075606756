import AegisAudit
import AegisCore
import AegisJSON
import Testing

@Suite struct RateTests {
    var fixture: Fixture
    init() throws {
        fixture = try Fixture()
        fixture.settings.reportsPerSecond = 10
    }

    private func counts(_ ledger: Ledger) throws -> [String: Int] {
        try ledger.checkpoint(all: true)
        return Dictionary(try fixture.kinds().map { ($0, 1) }, uniquingKeysWith: +)
    }

    @Test func reportsBeyondTheRateAreCountedAndTold() throws {
        let ledger = try fixture.open()
        for _ in 1...50 { try ledger.record(AuditEvent(.observed)) }
        #expect(try counts(ledger)["thing_observed"] == 10)
        let told = try fixture.lines().map { try JSONValue(parsing: $0.utf8) }.first { $0["kind"] == "records_dropped" }
        #expect(told?["fields"]?["counts"]?["thing_observed"]?.integer == 40)
        fixture.clock.advance(1000)
        for _ in 1...5 { try ledger.record(AuditEvent(.observed)) }
        #expect(try counts(ledger)["thing_observed"] == 15)
    }

    @Test func effectsAndDifferentDenialsAreAllWritten() throws {
        let ledger = try fixture.open()
        for index in 1...3000 {
            try ledger.record(AuditEvent(.done))
            try ledger.record(AuditEvent(.refused, agent: "i-1", ("what", .number(index))))
        }
        let counts = try counts(ledger)
        #expect(counts["thing_done"] == 3000 && counts["thing_refused"] == 3000 && counts["records_dropped"] == nil)
    }

    @Test func sameDenialAgainAndAgainIsCountedToTheLast() throws {
        let ledger = try fixture.open()
        for _ in 1...1000 { try ledger.record(AuditEvent(.refused, agent: "i-1", ("to", "example.com:443"))) }
        try ledger.record(AuditEvent(.refused, agent: "i-2", ("to", "example.com:443")))
        try ledger.checkpoint()
        // The window is not over: nothing is told yet.
        #expect(try fixture.kinds().count { $0 == "denial_repeated" } == 0)
        fixture.clock.advance(1000)
        try ledger.checkpoint()
        let lines = try fixture.lines().map { try JSONValue(parsing: $0.utf8) }
        let written = lines.count { $0["kind"] == "thing_refused" && $0["agent"] == "i-1" }
        let told = try #require(lines.first { $0["kind"] == "denial_repeated" })
        #expect(told["agent"] == "i-1" && told["fields"]?["what"]?["to"] == "example.com:443")
        #expect(written + Int(try #require(told["fields"]?["times"]?.integer)) == 1000)
        #expect(lines.count { $0["agent"] == "i-2" } == 1)
        // A new window, a new record.
        try ledger.record(AuditEvent(.refused, agent: "i-1", ("to", "example.com:443")))
        #expect(try fixture.kinds().last == "thing_refused")
    }

    /// It stands for refusals of several turns: the last one's trace and step are told, those of the first are in their own records.
    /// Its owner hears of it also when the instance has gone meanwhile.
    @Test func whatIsCountedBelongsToTheTurnOfTheLast() throws {
        let ledger = try fixture.open()
        ledger.note("i-1", ownedBy: 7)
        for number in 1...60 {
            try ledger.record(
                AuditEvent(.refused, agent: "i-1", parent: "i-0", trace: "t-\(number)", step: number, ("to", "x:1")))
        }
        ledger.note("i-1", ownedBy: nil)
        try ledger.record(AuditEvent(.refused, agent: "i-1", ("to", "y:1")))
        try ledger.checkpoint(all: true)
        let lines = try fixture.lines().map { try JSONValue(parsing: $0.utf8) }
        let told = try #require(lines.first { $0["kind"] == "denial_repeated" })
        let owners = lines.filter { $0["agent"] == "i-1" }.map { $0["owner"]?.integer }
        #expect(owners == Array(repeating: 7, count: 20) + [nil, 7], "\(owners)")
        #expect(told["trace"] == "t-60" && told["step"]?.integer == 60 && told["parent"] == "i-0", "\(told)")
        #expect(lines.filter { $0["kind"] == "thing_refused" }.compactMap { $0["trace"]?.text }.last == "t-20")
    }

    /// The id of a call and of a request is new each time: the refusal is the same.
    @Test(arguments: ["call_id", "approval"])
    func whatIsNewEachTimeMakesNoOtherRefusal(_ name: String) throws {
        let ledger = try fixture.open()
        for number in 1...50 {
            for code in ["a", "b"] {
                try ledger.record(
                    AuditEvent(.refused, agent: "i-1", (name, .string("c-\(number)")), ("code", .string(code))))
            }
        }
        try ledger.checkpoint(all: true)
        let lines = try fixture.lines().map { try JSONValue(parsing: $0.utf8) }
        #expect(lines.count { $0["kind"] == "thing_refused" } == 40)
        let told = lines.filter { $0["kind"] == "denial_repeated" }
        #expect(told.count == 2 && told.allSatisfy { $0["fields"]?["times"]?.integer == 30 }, "\(told)")
        #expect(told.allSatisfy { $0["fields"]?["what"]?[name] == nil && $0["fields"]?["what"]?["code"] != nil })
    }

    @Test func timeNeverGoesBack() throws {
        let ledger = try fixture.open()
        try ledger.record(AuditEvent(.done))
        fixture.clock.advance(-60_000)
        try ledger.record(AuditEvent(.done))
        let times = try fixture.lines().compactMap { try JSONValue(parsing: $0.utf8)["time"]?.text }
        #expect(times == times.sorted() && Set(times).count == 1)
    }
}
