import AegisTestSupport
import Testing

@testable import AegisMemory

@Suite struct VectorMatrixTests {
    private func vectors(_ count: Int, _ dimension: Int, seed: UInt64) -> [[Float]] {
        var random = Mutator(seed: seed)
        return (0..<count).map { _ in
            let numbers = (0..<dimension).map { _ in Float.random(in: -1...1, using: &random) }
            let length = numbers.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return numbers.map { $0 / length }
        }
    }

    @Test(arguments: [1, 7, 16, 17, 384, 385])
    func theSearchIsThatOfAPlainLoop(dimension: Int) {
        let rows = vectors(300, dimension, seed: UInt64(dimension))
        var matrix = VectorMatrix(dimension: dimension)
        for (key, row) in rows.enumerated() { matrix.set(Int64(key), row, mark: UInt8(1 << (key % 3))) }
        for query in vectors(5, dimension, seed: 99) {
            for mask: UInt8 in [0xff, 1, 6] {
                let plain = rows.enumerated().filter { UInt8(1 << ($0.offset % 3)) & mask != 0 }.map { entry in
                    (key: entry.offset, score: zip(entry.element, query).reduce(Double(0)) { $0 + Double($1.0 * $1.1) })
                }.sorted { $0.score > $1.score }.prefix(10)
                let found = matrix.nearest(to: query, limit: 10, mask: mask)
                #expect(found.count == 10)
                for (hit, right) in zip(found, plain) { #expect(abs(Double(hit.score) - right.score) < 1e-4) }
            }
        }
    }

    @Test func changesKeepTheRowsTogether() {
        var random = Mutator(seed: 5)
        var matrix = VectorMatrix(dimension: 20)
        var model: [Int64: [Float]] = [:]
        let pool = vectors(50, 20, seed: 6)
        for _ in 0..<2000 {
            let key = Int64(random.below(40))
            if random.below(3) == 0 {
                matrix.remove(key)
                model[key] = nil
            } else {
                let vector = random.pick(pool)
                matrix.set(key, vector, mark: 1)
                model[key] = vector
            }
            #expect(matrix.count == model.count)
        }
        for (key, vector) in model {
            let best = matrix.nearest(to: vector, limit: model.count).filter { $0.score > 0.9999 }
            #expect(best.contains { $0.key == key })
        }
        #expect(Set(matrix.nearest(to: pool[0], limit: 100).map(\.key)) == Set(model.keys))
    }

    @Test func aLargeMatrixGrowsWithoutLosingARow() {
        // Beyond 4 MiB memory is asked for in another way.
        let pool = vectors(61, 384, seed: 8)
        var matrix = VectorMatrix(dimension: 384)
        for key in 0..<3500 { matrix.set(Int64(key), pool[key % pool.count], mark: 1) }
        #expect(matrix.count == 3500 && matrix.bytes > 4 << 20)
        for (place, vector) in pool.enumerated() {
            let found = matrix.nearest(to: vector, limit: 40)
            #expect(found.allSatisfy { Int($0.key) % pool.count == place })
        }
    }

    @Test func whatIsNoNumberIsNeverFoundAndBreaksNothing() {
        var matrix = VectorMatrix(dimension: 4)
        matrix.set(1, [.nan, 0, 0, 0], mark: 1)
        matrix.set(2, [1, 0, 0, 0], mark: 1)
        matrix.set(3, [.infinity, -.infinity, 0, 0], mark: 1)
        matrix.set(4, [-1, 0, 0, 0], mark: 1)
        #expect(matrix.nearest(to: [1, 1, 0, 0], limit: 9).map(\.key) == [2, 4])
        #expect(matrix.nearest(to: [.nan, 0, 0, 0], limit: 9).isEmpty)
        #expect(matrix.nearest(to: [1, 0, 0, 0], limit: 0).isEmpty)
        #expect(VectorMatrix(dimension: 4).nearest(to: [1, 0, 0, 0], limit: 3).isEmpty)
    }

    @Test func equalScoresComeInAnOrderThatStays() {
        var matrix = VectorMatrix(dimension: 2)
        for key in 1...20 { matrix.set(Int64(key), [1, 0], mark: 1) }
        #expect(matrix.nearest(to: [1, 0], limit: 3).map(\.key) == [20, 19, 18])
    }

    @Test func theCacheKeepsWhatWasUsedLast() {
        let size = VectorMatrix(dimension: 16, expecting: 10).bytes
        let cache = VectorCache(bytes: 3 * size)
        let places = (0..<4).map { MemoryPlace.own("a\($0)") }
        for place in places.prefix(3) {
            var matrix = VectorMatrix(dimension: 16, expecting: 10)
            matrix.set(1, [Float](repeating: 0.25, count: 16), mark: 1)
            cache.keep(matrix, of: place)
        }
        _ = cache.matrix(places[0])
        cache.keep(VectorMatrix(dimension: 16, expecting: 10), of: places[3])
        #expect(cache.matrix(places[1]) == nil && cache.matrix(places[0]) != nil && cache.bytes <= 3 * size)
        // One that is larger than the bound stays as long as it is the only one.
        cache.keep(VectorMatrix(dimension: 16, expecting: 1000), of: places[1])
        #expect(cache.matrix(places[1]) != nil && cache.matrix(places[0]) == nil)
    }
}

@Suite struct HashedEmbedderTests {
    private let embedder = HashedEmbedder()
    private func likeness(_ a: String, _ b: String) -> Float {
        zip(embedder.vector(a), embedder.vector(b)).reduce(0) { $0 + $1.0 * $1.1 }
    }

    /// The vectors are recorded with the model's name: a change of them wants another name, and then this test.
    @Test func vectorsNeverChange() {
        var hash: UInt64 = 14_695_981_039_346_656_037
        for text in ["The deploy failed on Friday.", "größer, Größe!", "東京の天気", "a a a a a a a", "x = y + 42"] {
            for number in embedder.vector(text) {
                // Rounded, so that only the numbers count and not the last bit of a square root.
                hash = (hash ^ UInt64(bitPattern: Int64((number * 100_000).rounded()))) &* 1_099_511_628_211
            }
        }
        #expect(embedder.model == "aegis-hash-1")
        #expect(hash == 2_418_476_360_773_693_367)
    }

    @Test func vectorsHaveLengthOneOrAreEmpty() async throws {
        for text in ["a", "the of and", "42", "é", "東", String(repeating: "word ", count: 800), "🙂"] {
            let length = embedder.vector(text).reduce(0) { $0 + $1 * $1 }
            #expect(abs(length - 1) < 1e-4, "\(text.prefix(20))")
        }
        #expect(embedder.vector("... !!").allSatisfy { $0 == 0 })
        #expect(try await embedder.unitVectors(["...", "b"], for: nil).count == 2)
    }

    @Test func formsOfAWordAndSpellingAreLikeAndStrangersAreNot() {
        #expect(likeness("database migrations", "migrating the database") > 0.5)
        #expect(likeness("PostgreSQL", "postgresql") > 0.99)
        #expect(likeness("authentification", "authentication") > 0.5)
        #expect(likeness("What does the user prefer?", "The user prefers dark mode") > 0.4)
        #expect(likeness("the cat sleeps on the sofa", "quarterly revenue grew by nine percent") < 0.2)
        // It says of itself that it knows no meaning.
        #expect(likeness("car", "automobile") < 0.25)
    }

    @Test func whatWasAskedForComesFirst() {
        let notes = [
            "The staging database runs PostgreSQL 15 on port 5433.", "Deploys are frozen on Fridays after noon.",
            "The user prefers short answers without emoji.", "We chose SQLite over RocksDB for the ledger.",
            "The nightly backup job writes to the volume archive.", "Unit tests need the environment variable TZ=UTC.",
            "Customer Meyer reported a wrong invoice total in March.", "The API rate limit is 600 requests per minute.",
            "Login tokens expire after fifteen minutes.", "The parser rejects duplicate keys in JSON objects.",
            "Memory usage grew after enabling the image cache.", "Release notes are written in German and English.",
        ]
        let questions = [
            ("which port does the staging PostgreSQL use", 0), ("can I deploy on friday", 1),
            ("user answer preference", 2),
            ("why SQLite for the ledger", 3), ("where do backups go", 4), ("environment for the unit tests", 5),
            ("invoice of customer Meyer", 6), ("how many API requests per minute", 7), ("expiry of login token", 8),
            ("duplicate JSON keys", 9), ("image cache memory", 10), ("language of release notes", 11),
        ]
        let right = questions.filter { question, index in
            notes.indices.max { likeness(question, notes[$0]) < likeness(question, notes[$1]) } == index
        }
        #expect(right.count == questions.count, "\(right.map(\.1))")
    }
}
