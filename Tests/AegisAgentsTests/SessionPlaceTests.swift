import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import Testing

@testable import AegisAgents

/// Where steps lie in the table, and that those of an earlier release are taken along.
struct SessionPlaceTests {
    private static let earlier =
        SessionStore.migrations + SessionStore.mailMigrations + SessionStore.indexMigrations
    private static let steps: [SessionStep] =
        [.began(trace: "t-1", text: "go", from: nil)] + (0..<300).map { .note("note \($0)") }

    private static func open(_ path: String, _ migrations: [Migration]) throws -> Database {
        try Database.open(path: path, applicationID: 7, migrations: migrations)
    }

    private static func append(
        _ steps: ArraySlice<SessionStep>, from seq: Int, to place: inout SessionStore.Place, in store: SessionStore
    ) throws {
        for (offset, step) in steps.enumerated() {
            let draft = SessionStore.Draft(
                step, at: seq + offset, trace: "t-1", time: Timestamp(milliseconds: Int64(seq + offset)))
            try store.append([draft], to: &place)
        }
    }

    private static func rows(_ table: String, of database: Database) throws -> Int {
        try database.read { t in
            try t.first("SELECT count(*) FROM \(table)") { row throws(SQLiteError) in try row.get(0, as: Int.self) }
                ?? 0
        }
    }

    @Test func stepsOfAnEarlierReleaseAreTakenAlong() async throws {
        try await withTemporaryDirectory { directory in
            let path = "\(directory)/a.db"
            let old = try Self.open(path, Self.earlier)
            _ = try old.transaction(.saved) { t throws(SQLiteError) in
                // Two sessions that went on in turns; that of the greater id is the older one.
                for (seq, step) in Self.steps.enumerated() {
                    for (index, agent) in ["a-2", "a-1"].enumerated() {
                        let time = Int64(10 * seq + index)
                        let text = String(decoding: step.json.compact, as: UTF8.self)
                        _ = try t.run(
                            "INSERT INTO agent_steps (agent, seq, time, trace, step) VALUES (?, ?, ?, ?, ?)", agent,
                            seq,
                            time, seq < 200 ? "t-1" : nil, text)
                    }
                }
                return 0
            }
            old.close()
            let database = try Self.open(path, Self.earlier + SessionStore.placeMigrations)
            defer { database.close() }
            let store = SessionStore(database)
            for (index, agent) in ["a-2", "a-1"].enumerated() {
                let found = try store.steps(of: agent)
                #expect(found.map(\.step) == Self.steps && found.map(\.seq) == Array(0..<Self.steps.count))
                #expect(found.map(\.time.milliseconds) == (0..<Self.steps.count).map { Int64(10 * $0 + index) })
                #expect(found.prefix(200).allSatisfy { $0.trace == "t-1" } && found[200].trace == nil)
                #expect(try store.steps(of: agent, trace: "t-1").count == 200)
                #expect(try store.steps(of: agent, from: 295, limit: 3).map(\.seq) == [295, 296, 297])
            }
            // They go on where they ended.
            var place = SessionStore.Place(of: "a-1")
            try Self.append([.note("more")], from: Self.steps.count, to: &place, in: store)
            #expect(try store.steps(of: "a-1").map(\.step) == Self.steps + [.note("more")])
            #expect(try store.steps(of: "a-2").map(\.step) == Self.steps)
        }
    }

    @Test func whatIsDoneWithOneSessionTouchesNoOther() async throws {
        try await withTemporaryDirectory { directory in
            let database = try Self.open("\(directory)/a.db", Self.earlier + SessionStore.placeMigrations)
            defer { database.close() }
            let store = SessionStore(database)
            var places = ["a-1", "a-2", "a-3"].map { SessionStore.Place(of: $0) }
            for seq in Self.steps.indices.prefix(40) {
                for index in places.indices {
                    try Self.append(Self.steps[seq...seq], from: seq, to: &places[index], in: store)
                }
            }
            let all = Array(Self.steps.prefix(40))
            for agent in ["a-1", "a-2", "a-3"] { #expect(try store.steps(of: agent).map(\.step) == all) }
            try store.replace(.note("changed"), of: "a-2", at: 39)
            try store.delete("a-1")
            #expect(try store.steps(of: "a-1").isEmpty && store.steps(of: "a-3").map(\.step) == all)
            #expect(try store.steps(of: "a-2").map(\.step) == all.dropLast() + [.note("changed")])
            // Whoever comes next is not taken for one that was there before.
            var next = SessionStore.Place(of: "a-4")
            try Self.append(Self.steps[0...0], from: 0, to: &next, in: store)
            try Self.append(Self.steps[1...1], from: 1, to: &next, in: store)
            #expect(try store.steps(of: "a-4").count == 2 && store.steps(of: "a-3").count == 40)
            try store.delete("a-3")
            try store.delete("a-4")
            #expect(try Self.rows("agent_sessions", of: database) == 1 && Self.rows("agent_steps", of: database) == 40)
        }
    }

    /// The first step of a session that cannot be saved leaves nothing behind, and the next try begins it.
    @Test func aSessionThatCouldNotBeginBeginsLater() async throws {
        try await withTemporaryDirectory { directory in
            let database = try Self.open("\(directory)/a.db", Self.earlier + SessionStore.placeMigrations)
            defer { database.close() }
            let store = SessionStore(database)
            func change(_ sql: String) throws { _ = try database.transaction(.saved) { t in try t.run(sql) } }
            try change("CREATE TRIGGER full BEFORE INSERT ON agent_steps BEGIN SELECT RAISE(ABORT, 'no room'); END")
            var place = SessionStore.Place(of: "a-1")
            #expect(throws: AegisError.self) {
                try Self.append(Self.steps[0...0], from: 0, to: &place, in: store)
            }
            #expect(try Self.rows("agent_sessions", of: database) == 0)
            try change("DROP TRIGGER full")
            try Self.append(Self.steps[0...5], from: 0, to: &place, in: store)
            #expect(try store.steps(of: "a-1").map(\.step) == Array(Self.steps[0...5]))
        }
    }
}
