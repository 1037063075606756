import AegisCore
import AegisJSON
import AegisStore
import AegisTestSupport
import Synchronization
import Testing

@testable import AegisMemory

/// An embedder whose vectors a test knows: it counts letters, or gives what the test wants.
private struct LetterEmbedder: Embedder {
    var model = "letters"
    var dimensions = 26
    var give: (@Sendable ([String]) throws -> [[Float]])?
    func embed(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]] {
        if let give { return try give(texts) }
        return texts.map { text in
            var vector = [Float](repeating: 0, count: dimensions)
            for byte in text.utf8 where (97...122).contains(byte) { vector[Int(byte - 97) % dimensions] += 1 }
            return vector
        }
    }
}

/// An embedder that makes two vectors at a time and fails at a text; what it made before is handed over.
private struct PortionEmbedder: Embedder {
    let model = "portions"
    let dimensions = 26
    let error: String
    func embed(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]] {
        guard !texts.contains("alpha") else { throw AegisError.failed(error, "not this one") }
        return try await LetterEmbedder().embed(texts, for: payer)
    }
    func embed(
        _ texts: [String], for payer: EmbeddingPayer?, take: ([[Float]]) async throws -> Void
    ) async throws {
        for start in stride(from: 0, to: texts.count, by: 2) {
            try await take(try await embed(Array(texts[start..<min(start + 2, texts.count)]), for: payer))
        }
    }
}

/// A clock that goes on by a second at each look.
private final class Ticks: Sendable {
    private let time = Atomic<Int64>(0)
    func next() -> Timestamp { Timestamp(milliseconds: time.add(1000, ordering: .relaxed).newValue) }
}

private func withDatabase(_ test: (Database) async throws -> Void) async throws {
    try await withTemporaryDirectory { directory in
        let database = try Database.open(
            path: "\(directory)/memory.db", applicationID: 7, migrations: [MemoryStore.migration])
        defer { database.close() }
        try await test(database)
    }
}

private func open(
    _ database: Database, _ embedder: any Embedder = HashedEmbedder(), _ change: (inout MemoryLimits) -> Void = { _ in }
) -> MemoryStore {
    var limits = MemoryLimits()
    change(&limits)
    let ticks = Ticks()
    return MemoryStore(database: database, embedder: embedder, limits: limits, now: { ticks.next() })
}

private let alice = MemoryPlace.own("agent-alice")
private let bob = MemoryPlace.own("agent-bob")

@Suite struct MemoryStoreTests {
    @Test func whatIsStoredIsFoundAgainAlsoAfterARestart() async throws {
        try await withDatabase { database in
            let store = open(database)
            let record = try await store.store(
                MemoryDraft("The user prefers tabs", .preference, metadata: [.init("source", "chat")]), in: alice,
                by: alice.owner)
            try await store.store(MemoryDraft("Builds take nine minutes", .fact), in: alice, by: alice.owner)
            #expect(record.id.hasPrefix("m-") && record.id.utf8.count == 18)
            for store in [store, open(database)] {
                let answer = try await store.query(MemoryQuery("tabs or spaces?", limit: 1), in: alice)
                #expect(answer.matches.map(\.record.id) == [record.id] && answer.skipped == 0)
                #expect(answer.matches[0].record.metadata == [.init("source", "chat")])
                #expect((0.3...1).contains(answer.matches[0].score))
                let facts = try await store.query(MemoryQuery("tabs or spaces?", category: .fact), in: alice)
                #expect(facts.matches.map(\.record.category) == [.fact])
            }
        }
    }

    @Test func nobodyReachesAnothersRecords() async throws {
        try await withDatabase { database in
            let store = open(database)
            let secret = try await store.store(MemoryDraft("the code word is plum", .fact), in: alice, by: alice.owner)
            let shared = MemoryPlace.shared("team")
            let note = try await store.store(MemoryDraft("the plum tree is red", .fact), in: shared, by: alice.owner)
            #expect(try await store.query(MemoryQuery("plum"), in: bob).matches.isEmpty)
            #expect(try await store.list(bob) == [])
            #expect(try await !store.delete(secret.id, in: bob, by: bob.owner))
            #expect(try await !store.delete(secret.id, in: shared, by: bob.owner))
            // In a shared scope all may read; only who stored a record may change it.
            #expect(try await store.query(MemoryQuery("plum"), in: shared).matches.map(\.record.id) == [note.id])
            #expect(try await !store.delete(note.id, in: shared, by: bob.owner))
            for place in [bob, shared] {
                let error = await #expect(throws: AegisError.self) {
                    try await store.store(MemoryDraft("x", .fact, replaces: note.id), in: place, by: bob.owner)
                }
                #expect(error?.code == "memory-not-found")
            }
            #expect(try await store.list(alice).map(\.id) == [secret.id])
            #expect(try await store.list(shared).map(\.id) == [note.id])
        }
    }

    @Test func replacingAndDeletingLeaveNothingBehind() async throws {
        try await withDatabase { database in
            let store = open(database)
            let old = try await store.store(MemoryDraft("deploys go out on monday", .fact), in: alice, by: alice.owner)
            _ = try await store.query(MemoryQuery("deploys"), in: alice)
            let new = try await store.store(
                MemoryDraft("deploys go out on tuesday", .fact, replaces: old.id), in: alice, by: alice.owner)
            for store in [store, open(database)] {
                #expect(try await store.query(MemoryQuery("deploys"), in: alice).matches.map(\.record.id) == [new.id])
                #expect(try await store.list(alice).map(\.replaced) == [old.id])
            }
            #expect(try await store.delete(new.id, in: alice, by: alice.owner))
            #expect(try await !store.delete(new.id, in: alice, by: alice.owner))
            #expect(try await store.query(MemoryQuery("deploys"), in: alice).matches.isEmpty)
        }
    }

    @Test func theLongestUnusedMakesRoom() async throws {
        try await withDatabase { database in
            let store = open(database, LetterEmbedder()) { $0.records = 3 }
            for text in ["aaa", "bbb", "ccc"] {
                try await store.store(MemoryDraft(text, .fact), in: alice, by: alice.owner)
            }
            // Found, and so used: the next to go is another.
            _ = try await store.query(MemoryQuery("aaa", limit: 1), in: alice)
            try await store.store(MemoryDraft("ddd", .fact), in: alice, by: alice.owner)
            #expect(Set(try await store.list(alice).map(\.content)) == ["aaa", "ccc", "ddd"])
            #expect(try await store.query(MemoryQuery("bbb", limit: 5), in: alice).matches.allSatisfy { $0.score == 0 })
        }
    }

    @Test func theWholeHasABoundToo() async throws {
        try await withDatabase { database in
            let store = open(database) { $0.totalRecords = 2 }
            let first = try await store.store(MemoryDraft("one", .fact), in: alice, by: alice.owner)
            try await store.store(MemoryDraft("two", .fact), in: bob, by: bob.owner)
            let error = await #expect(throws: AegisError.self) {
                try await store.store(MemoryDraft("three", .fact), in: bob, by: bob.owner)
            }
            #expect(error?.code == "memory-full")
            // Replacing needs no room.
            try await store.store(MemoryDraft("uno", .fact, replaces: first.id), in: alice, by: alice.owner)
            try await store.reset(identity: alice.owner)
            try await store.store(MemoryDraft("three", .fact), in: bob, by: bob.owner)
        }
    }

    @Test func recordsOfAnotherModelAreEmbeddedAgainAndNeverCompared() async throws {
        try await withDatabase { database in
            let before = open(database, LetterEmbedder())
            for text in ["alpha", "beta", "gamma"] {
                try await before.store(MemoryDraft(text, .fact), in: alice, by: alice.owner)
            }
            let after = open(database) { $0.reembedded = 2 }
            let first = try await after.query(MemoryQuery("gamma"), in: alice)
            #expect(first.skipped == 1 && first.matches.count == 2)
            let second = try await after.query(MemoryQuery("alpha"), in: alice)
            #expect(second.skipped == 0 && second.matches.first?.record.content == "alpha")
            #expect(try await after.list(alice).allSatisfy { $0.model == "aegis-hash-1" && $0.dimension == 384 })
            // The same name with another dimension is another model.
            let narrow = open(database, LetterEmbedder(dimensions: 13))
            #expect(
                try await narrow.query(MemoryQuery("beta", limit: 1), in: alice).matches[0].record.content == "beta")
        }
    }

    /// A query whose vector is paid for is answered, also where no more can be paid for; what else goes wrong ends it.
    @Test(arguments: [("budget-exceeded", 2), ("budget-needs-price", 2), ("embedding-failed", Int?.none)])
    func recordsThatNobodyPaysForAreLeft(_ code: String, _ skipped: Int?) async throws {
        try await withDatabase { database in
            for text in ["alpha", "beta"] {
                try await open(database, LetterEmbedder()).store(MemoryDraft(text, .fact), in: alice, by: alice.owner)
            }
            let other = LetterEmbedder(
                model: "other",
                give: { texts in
                    guard texts.count == 1 else { throw AegisError.failed(code, "no") }
                    return [[Float](repeating: 1, count: 26)]
                })
            let store = open(database, other)
            try await store.store(MemoryDraft("gamma", .fact), in: alice, by: alice.owner)
            do {
                let answer = try await store.query(MemoryQuery("gamma"), in: alice)
                #expect(answer.skipped == skipped && answer.matches.map(\.record.content) == ["gamma"])
            } catch let error as AegisError { #expect(skipped == nil && error.code == code) }
            let left = try await store.list(alice)
            #expect(left.count == 3 && left.count(where: { $0.model == "letters" }) == 2)
        }
    }

    /// The last used ones come first; what comes before a failure is kept and compared.
    @Test(arguments: [("budget-exceeded", 2), ("embedding-failed", Int?.none)])
    func whatWasEmbeddedBeforeAFailureIsKept(_ code: String, _ skipped: Int?) async throws {
        try await withDatabase { database in
            for text in ["alpha", "beta", "gamma", "delta"] {
                try await open(database, LetterEmbedder()).store(MemoryDraft(text, .fact), in: alice, by: alice.owner)
                try database.transaction(.saved) { tx in
                    _ = try tx.run("UPDATE memories SET used_at = used_at + seq * 1000 WHERE content = ?", text)
                }
            }
            let store = open(database, PortionEmbedder(error: code))
            do {
                let answer = try await store.query(MemoryQuery("gamma"), in: alice)
                #expect(answer.skipped == skipped)
                #expect(Set(answer.matches.map(\.record.content)) == ["gamma", "delta"])
            } catch let error as AegisError { #expect(skipped == nil && error.code == code) }
            let kept = try await store.list(alice).filter { $0.model == "portions" }
            #expect(Set(kept.map(\.content)) == ["gamma", "delta"])
        }
    }

    @Test(arguments: [
        [[Float]](), [[1, 2]], [[Float](repeating: .nan, count: 26)], [[Float](repeating: .infinity, count: 26)],
    ])
    func anEmbedderIsNotBelieved(vectors: [[Float]]) async throws {
        try await withDatabase { database in
            let store = open(database, LetterEmbedder(give: { _ in vectors }))
            let error = await #expect(throws: AegisError.self) {
                try await store.store(MemoryDraft("a", .fact), in: alice, by: alice.owner)
            }
            #expect(error?.code == "embedding-invalid")
            let left = try await store.list(alice)
            #expect(left.isEmpty)
        }
    }

    @Test func textsThatCannotBeAreRefused() async throws {
        try await withDatabase { database in
            let store = open(database)
            let cases: [(MemoryDraft, String)] = [
                (MemoryDraft(" \n", .fact), "memory-empty"),
                (MemoryDraft(String(repeating: "ä", count: 2049), .fact), "memory-too-large"),
                (
                    MemoryDraft("x", .fact, metadata: [.init("k", .string(String(repeating: "v", count: 1100)))]),
                    "memory-too-large"
                ),
            ]
            for (draft, code) in cases {
                let error = await #expect(throws: AegisError.self) {
                    try await store.store(draft, in: alice, by: alice.owner)
                }
                #expect(error?.code == code)
            }
            try await store.store(MemoryDraft(String(repeating: "ä", count: 2048), .fact), in: alice, by: alice.owner)
            for (query, code) in [
                (MemoryQuery(" "), "memory-empty"), (MemoryQuery("x", limit: 0), "memory-limit"),
                (MemoryQuery("x", limit: 21), "memory-limit"),
                (MemoryQuery(String(repeating: "x", count: 5000)), "memory-too-large"),
            ] {
                let error = await #expect(throws: AegisError.self) { try await store.query(query, in: alice) }
                #expect(error?.code == code)
            }
            let error = #expect(throws: AegisError.self) { try MemoryCategory(word: "facts") }
            #expect(error?.hint == "did you mean 'fact'?" && error?.message.contains("preference") == true)
        }
    }

    @Test func persistentIdentitiesLastUntilTheyAreReset() async throws {
        try await withDatabase { database in
            let store = open(database)
            let first = try await store.persistentIdentity(of: "planner")
            #expect(try await open(database).persistentIdentity(of: "planner").identity == first.identity)
            #expect(try await store.persistentIdentity(of: "other").identity != first.identity)
            let place = MemoryPlace.own(first.identity)
            for text in ["one", "two"] {
                try await store.store(MemoryDraft(text, .fact), in: place, by: first.identity)
            }
            _ = try await store.query(MemoryQuery("one"), in: place)
            #expect(try await store.places().map(\.records) == [2])
            #expect(try await store.reset(identity: first.identity) == 2)
            #expect(try await store.query(MemoryQuery("one"), in: place).matches.isEmpty)
            #expect(try await store.persistentIdentities().map(\.name) == ["other"])
            #expect(try await store.persistentIdentity(of: "planner").identity != first.identity)
            #expect(try await store.reset(identity: first.identity) == 0)
        }
    }

    @Test func whatAgentsOfAnEarlierRunLeftBehindIsForgotten() async throws {
        try await withDatabase { database in
            let store = open(database)
            let planner = try await store.persistentIdentity(of: "planner").identity
            let shared = MemoryPlace.shared("team")
            for place in [alice, bob, MemoryPlace.own(planner), shared] {
                try await store.store(MemoryDraft("note", .fact), in: place, by: alice.owner)
            }
            #expect(try await store.forgetOthers(than: [bob.owner]) == 1)
            #expect(Set(try await store.places().map(\.place)) == [bob, .own(planner), shared])
        }
    }

    @Test func pagesFollowOneAnother() async throws {
        try await withDatabase { database in
            let store = open(database)
            for number in 0..<7 {
                try await store.store(
                    MemoryDraft("note \(number)", number % 2 == 0 ? .fact : .decision), in: alice, by: alice.owner)
            }
            var found: [String] = []
            while true {
                let all = try await store.list(alice)
                let page = try await store.list(
                    alice, before: all.first { $0.content == found.last }?.id, limit: 3)
                found += page.map(\.content)
                if page.count < 3 { break }
            }
            #expect(found == (0..<7).reversed().map { "note \($0)" })
            #expect(try await store.list(alice, category: .decision).count == 3)
        }
    }

    @Test func manyAtOnceAgreeWithTheTable() async throws {
        try await withDatabase { database in
            let store = open(database, LetterEmbedder()) { $0.records = 30 }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in 0..<8 {
                    group.addTask {
                        for number in 0..<20 {
                            let record = try await store.store(
                                MemoryDraft("w\(worker) n\(number) abc", .observation), in: alice, by: alice.owner)
                            if number % 3 == 0 { try await store.delete(record.id, in: alice, by: alice.owner) }
                            _ = try await store.query(MemoryQuery("abc", limit: 20), in: alice)
                        }
                    }
                }
                try await group.waitForAll()
            }
            let rows = try await store.list(alice)
            #expect(rows.count <= 30)
            let warm = try await store.query(MemoryQuery("abc", limit: 20), in: alice)
            let cold = try await open(database, LetterEmbedder()).query(MemoryQuery("abc", limit: 20), in: alice)
            #expect(Set(warm.matches.map(\.score)) == Set(cold.matches.map(\.score)))
            #expect(warm.matches.count == min(20, rows.count))
        }
    }
}
