import AegisCore
import AegisStore
import Dispatch
import Foundation
import Testing

let ours: Int32 = 0x4145_4749
let notes = Migration(
    "test: notes",
    sql: "CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT UNIQUE, weight REAL, raw BLOB) STRICT;")

func openNotes(_ path: String, busyTimeout: Int32 = 5000) throws -> Database {
    try Database.open(path: path, applicationID: ours, migrations: [notes], busyTimeout: busyTimeout)
}

extension Database {
    func count() throws -> Int {
        try read { tx in try tx.first("SELECT count(*) FROM notes") { row throws(SQLiteError) in try row.get(0) } ?? -1
        }
    }
    func add(_ body: String?, _ durability: Durability = .saved) throws {
        try transaction(durability) { tx in _ = try tx.run("INSERT INTO notes(body) VALUES (?)", body) }
    }
}

@Suite struct DatabaseTests {
    let scratch: Scratch
    init() throws { scratch = try Scratch() }

    @Test func newDatabaseHasTheSettingsThatWePromise() throws {
        let database = try openNotes(scratch.file("a.db"))
        func pragma(_ name: String, _ type: (some SQLiteValue & Sendable).Type) throws -> String {
            try database.transaction(.saved) { tx in
                try tx.first("PRAGMA \(name)") { row throws(SQLiteError) in "\(try row.get(0, as: type))" } ?? ""
            }
        }
        #expect(try pragma("application_id", Int.self) == "\(ours)")
        #expect(try pragma("user_version", Int.self) == "1")
        #expect(try pragma("journal_mode", String.self) == "wal")
        #expect(try pragma("foreign_keys", Int.self) == "1")
        #expect(try pragma("busy_timeout", Int.self) == "5000")
    }

    @Test(arguments: [
        "", "plain", "nul\0inside", "ünï → 🧨", "'; DROP TABLE notes; --", String(repeating: "x", count: 1 << 20),
    ])
    func textComesBackUnchanged(_ text: String) throws {
        let database = try openNotes(scratch.file("a.db"))
        try database.add(text)
        let back = try database.read { tx in
            try tx.first("SELECT body FROM notes WHERE body = ?", text) { row throws(SQLiteError) in
                try row.get(0, as: String.self)
            }
        }
        #expect(back == text)
    }

    @Test func otherTypesComeBackUnchanged() throws {
        let database = try openNotes(scratch.file("a.db"))
        let blobs: [[UInt8]?] = [[], [0], Array(0...255), nil]
        let numbers: [Int64] = [.min, -1, 0, .max]
        for (blob, number) in zip(blobs, numbers) {
            try database.transaction(.saved) { tx in
                _ = try tx.run("INSERT INTO notes(id, weight, raw) VALUES (?, ?, ?)", number, 0.1, blob)
            }
            let row = try database.read { tx in
                try tx.first("SELECT id, weight, raw, body FROM notes WHERE id = ?", number) {
                    row throws(SQLiteError) in
                    (
                        try row.get(0, as: Int64.self), try row.get(1, as: Double.self),
                        try row.get(2, as: [UInt8]?.self),
                        try row.get(3, as: String?.self)
                    )
                }
            }
            let found = try #require(row)
            #expect(found.0 == number && found.1 == 0.1 && found.2 == blob && found.3 == nil)
        }
    }

    @Test func aColumnOfAnotherTypeIsAnErrorThatNamesIt() throws {
        let database = try openNotes(scratch.file("a.db"))
        try database.add(nil)
        let error = #expect(throws: AegisError.self) {
            try database.read { tx in
                _ = try tx.first("SELECT body FROM notes") { row throws(SQLiteError) in try row.get(0, as: String.self)
                }
            }
        }
        #expect(error?.message.contains("column 'body' cannot be read: it is not String") == true)
    }

    @Test(arguments: [
        ("INSERT INTO notes(body) VALUES (?)", "0 values for 1 parameters"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT nonsense", "no such column"), ("", "no statement"),
    ])
    func misuseIsAnErrorThatNamesTheStatement(_ sql: String, _ why: String) throws {
        let database = try openNotes(scratch.file("a.db"))
        let error = #expect(throws: AegisError.self) { try database.transaction(.saved) { tx in _ = try tx.run(sql) } }
        #expect(error?.message.contains(why) == true, "\(String(describing: error))")
    }

    @Test func aTransactionThatThrowsLeavesNothing() throws {
        let database = try openNotes(scratch.file("a.db"))
        let mine = AegisError.notFound("not-mine", "no such note")
        let error = #expect(throws: AegisError.self) {
            try database.transaction(.saved) { tx in
                try tx.run("INSERT INTO notes(body) VALUES ('x')")
                throw mine
            }
        }
        #expect(error == mine)
        #expect(try database.count() == 0)
        try database.add("after")
        #expect(try database.count() == 1)
    }

    @Test func aDuplicateCanBeToldFromOtherFailures() throws {
        let database = try openNotes(scratch.file("a.db"))
        try database.add("same")
        try database.transaction(.saved) { tx in
            do throws(SQLiteError) {
                try tx.run("INSERT INTO notes(body) VALUES (?)", "same")
                Issue.record("the second insert must fail")
            } catch {
                #expect(error.isDuplicate && error.isConstraint && !error.isFull && !error.isBusy)
            }
        }
        let error = #expect(throws: AegisError.self) { try database.add("same") }
        #expect(error?.code == "constraint" && error?.kind == .conflict)
    }

    @Test func readsCannotWrite() throws {
        let database = try openNotes(scratch.file("a.db"))
        #expect(throws: AegisError.self) { try database.read { tx in _ = try tx.run("DELETE FROM notes") } }
    }

    @Test func theSameStatementMayRunInsideItsOwnRows() throws {
        let database = try openNotes(scratch.file("a.db"))
        for name in ["a", "b", "c"] { try database.add(name) }
        let pairs = try database.read { tx in
            let sql = "SELECT body FROM notes ORDER BY id"
            return try tx.all(sql) { outer throws(SQLiteError) in
                let first: String = try outer.get(0)
                return try tx.all(sql) { inner throws(SQLiteError) in first + (try inner.get(0, as: String.self)) }
            }
        }
        #expect(pairs == [["aa", "ab", "ac"], ["ba", "bb", "bc"], ["ca", "cb", "cc"]])
    }

    @Test func rowsComeOneByOneUntilEnough() throws {
        let database = try openNotes(scratch.file("a.db"))
        for index in 0..<10 { try database.add("\(index)") }
        let seen = try database.read { tx in
            var seen: [Int] = []
            try tx.each("SELECT id FROM notes ORDER BY id") { row throws(SQLiteError) in
                seen.append(try row.get(0))
                return seen.count < 3
            }
            return seen
        }
        #expect(seen == [1, 2, 3])
    }

    @Test func manyThreadsLoseNothing() throws {
        let database = try openNotes(scratch.file("a.db"))
        try database.transaction(.saved) { tx in
            _ = try tx.run("INSERT INTO notes(id, raw, weight) VALUES (1, NULL, 0)")
        }
        DispatchQueue.concurrentPerform(iterations: 8) { _ in
            for _ in 0..<100 {
                #expect(throws: Never.self) {
                    try database.transaction(.saved) { tx in _ = try tx.run("UPDATE notes SET weight = weight + 1") }
                    _ = try database.count()
                }
            }
        }
        let total = try database.read { tx in
            try tx.first("SELECT weight FROM notes") { row throws(SQLiteError) in try row.get(0, as: Double.self) }
        }
        #expect(total == 800)
    }

    @Test func aReadDoesNotWaitForTheWriterAndSeesOnlyWhatIsCommitted() throws {
        let database = try openNotes(scratch.file("a.db"))
        try database.transaction(.saved) { tx in
            try tx.run("INSERT INTO notes(body) VALUES ('pending')")
            #expect(try database.count() == 0)
        }
        #expect(try database.count() == 1)
    }

    @Test func aLockHeldByAnotherProgramIsSaid() throws {
        let path = scratch.file("a.db")
        let (first, second) = (try openNotes(path), try openNotes(path, busyTimeout: 1))
        try first.transaction(.saved) { tx in
            try tx.run("INSERT INTO notes(body) VALUES ('x')")
            let error = #expect(throws: AegisError.self) { try second.add("y") }
            #expect(error?.code == "database-busy" && error?.kind == .unavailable)
        }
        try second.add("y")
        #expect(try first.count() == 2)
    }

    @Test func closedMeansClosed() throws {
        let database = try openNotes(scratch.file("a.db"))
        database.close()
        database.close()
        #expect(throws: AegisError.failed("database-closed", "the database \(scratch.file("a.db")) is closed")) {
            try database.add("late")
        }
        #expect(try scratch.picture().keys.sorted() == ["a.db"])
    }

    @Test func aStatementAloneIsATransaction() throws {
        let database = try openNotes(scratch.file("alone.db"))
        let two = "INSERT INTO notes(body) VALUES (?), (?)"
        #expect(try database.run(.saved, two, ["a", "b"]) == 2)
        // All of it or nothing.
        #expect(throws: AegisError.self) { try database.run(.saved, two, ["c", "a"]) }
        #expect(throws: AegisError.self) { try database.run(.saved, two, ["c"]) }
        #expect(try database.count() == 2)
        #expect(try database.run(.synced, "DELETE FROM notes WHERE body = ?", ["a"]) == 1)
        #expect(try database.count() == 1)
    }
}
