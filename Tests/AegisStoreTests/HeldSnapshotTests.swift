import AegisCore
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

@testable import AegisStore

/// Changes one after the other keep what they see of the database: nobody notices.
@Suite struct HeldSnapshotTests {
    private let scratch: Scratch
    init() throws { scratch = try Scratch() }

    private func add(_ body: String, _ durability: Durability = .saved, to database: Database) throws {
        try database.run(durability, "INSERT INTO notes(body) VALUES (?)", [body])
    }

    /// What another program has written in between is neither lost nor in the way, whoever comes first.
    @Test func changesOfOthersInBetweenAreSeen() throws {
        let path = scratch.file("a.db")
        let (one, two) = (try openNotes(path), try openNotes(path))
        defer { one.close() }
        defer { two.close() }
        for number in 0..<50 {
            try add("one \(number)", to: one)
            if number.isMultiple(of: 3) { try add("one more \(number)", to: one) }
            try add("two \(number)", to: two)
            if number.isMultiple(of: 7) { try two.add("two more \(number)") }
        }
        let expected = 50 + 17 + 50 + 8
        #expect(try one.count() == expected && two.count() == expected)
        // So is a change of the schema.
        try add("one", to: one)
        _ = try two.transaction(.saved) { t in
            try t.run("CREATE TRIGGER full BEFORE INSERT ON notes BEGIN SELECT RAISE(ABORT, 'no room'); END")
        }
        #expect(throws: AegisError.self) { try add("refused", to: one) }
        _ = try two.transaction(.saved) { t in try t.run("DROP TRIGGER full") }
        try add("one again", to: one)
        #expect(try one.count() == expected + 2)
    }

    /// Who holds one waits for another program's change as long as who holds none.
    @Test func aChangeUnderWayIsWaitedFor() throws {
        let path = scratch.file("a.db")
        let (one, two) = (try openNotes(path), try openNotes(path))
        defer { one.close() }
        defer { two.close() }
        try add("first", to: one)
        let (begun, ended) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
        Thread.detachNewThread {
            _ = try? two.transaction(.saved) { t in
                _ = try t.run("INSERT INTO notes(body) VALUES ('second')")
                begun.signal()
                usleep(300_000)
            }
            ended.signal()
        }
        begun.wait()
        try add("third", to: one)
        ended.wait()
        #expect(try one.count() == 3)
    }

    /// The log is written back, however many changes come one after the other: it stays about as long as it was allowed to be.
    @Test func theLogStaysShort() throws {
        let path = scratch.file("a.db")
        let database = try openNotes(path)
        defer { database.close() }
        let body = String(repeating: "x", count: 3000)
        for number in 0..<6000 { try add("\(number) " + body, to: database) }
        // A thousand pages, those of the changes that one snapshot was kept for, and some for each of them.
        #expect(try Files.status("\(path)-wal").size < 2000 * 4120)
        #expect(try database.count() == 6000)
    }

    /// After a synced change, or a transaction, nothing is kept: whoever cares for the database can empty the log.
    @Test(arguments: [false, true]) func nothingIsKeptAfterWhatIsSynced(_ isTransaction: Bool) throws {
        let path = scratch.file("a.db")
        let database = try openNotes(path)
        defer { database.close() }
        for number in 0..<10 { try add("note \(number)", to: database) }
        if isTransaction { try database.add("last") } else { try add("last", .synced, to: database) }
        let other = try Connection(path: path, flags: 2)
        #expect(try other.integer("PRAGMA wal_checkpoint(TRUNCATE)") == 0)
        #expect(try Files.status("\(path)-wal").size == 0)
        try add("more", to: database)
        #expect(try database.count() == 12)
    }

    /// A statement that fails leaves nothing behind, and the next one is done.
    @Test func aChangeThatFailsIsForgotten() throws {
        let database = try openNotes(scratch.file("a.db"))
        defer { database.close() }
        try add("first", to: database)
        for number in 0..<40 {
            #expect(throws: AegisError.self) {
                try database.run(.saved, "INSERT INTO notes(body) VALUES (?), (abs(?))", ["x", Int64.min])
            }
            try add("next \(number)", to: database)
        }
        #expect(try database.count() == 41)
    }
}
