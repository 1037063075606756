package import AegisCore
package import AegisJSON

/// What kind of thing is remembered.
package enum MemoryCategory: String, Sendable, CaseIterable {
    case fact, observation, decision, preference

    /// Reads a word.
    ///
    /// - Throws: `memory-category` with the nearest word.
    package init(word: String) throws(AegisError) {
        guard let category = MemoryCategory(rawValue: word) else {
            let words = Self.allCases.map(\.rawValue)
            throw AegisError(
                .usage, "memory-category",
                "'\(word.prefix(100))' is no category; there are \(words.joined(separator: ", "))",
                hint: nearest(word, in: words).map { "did you mean '\($0)'?" })
        }
        self = category
    }

    /// Its bit in a set of categories.
    var bit: UInt8 {
        switch self {
        case .fact: 1
        case .observation: 2
        case .decision: 4
        case .preference: 8
        }
    }
}

/// What an agent wants remembered.
package struct MemoryDraft: Sendable {
    /// The text; it is what a query is compared with.
    package var content: String
    package var category: MemoryCategory
    /// The id of an own record that this one takes the place of.
    package var replaces: String?
    /// Fields of the caller's own.
    package var metadata: [JSONValue.Field]
    /// Makes a draft.
    package init(
        _ content: String, _ category: MemoryCategory, replaces: String? = nil, metadata: [JSONValue.Field] = []
    ) {
        (self.content, self.category, self.replaces, self.metadata) = (content, category, replaces, metadata)
    }
}

/// One thing that is remembered.
package struct MemoryRecord: Sendable, Equatable {
    /// `m-` and 16 hexadecimal digits.
    package var id: String
    package var place: MemoryPlace
    /// The identity that stored it.
    package var author: String
    package var category: MemoryCategory
    package var content: String
    package var metadata: [JSONValue.Field]
    package var createdAt: Timestamp
    /// When it was last stored or found; the record that is the longest unused makes room first.
    package var usedAt: Timestamp
    /// The id of the record that it replaced.
    package var replaced: String?
    /// Which embedder made its vector, and of how many numbers it is.
    package var model: String
    package var dimension: Int
}

/// A question to the memory.
package struct MemoryQuery: Sendable {
    /// Compared with each record's content by meaning, as far as the embedder knows any.
    package var text: String
    /// Only records of this category.
    package var category: MemoryCategory?
    /// At most so many, 1 to 20.
    package var limit: Int
    /// Makes a query.
    package init(_ text: String, category: MemoryCategory? = nil, limit: Int = 5) {
        (self.text, self.category, self.limit) = (text, category, limit)
    }
}

/// A record that fits a query.
package struct MemoryMatch: Sendable, Equatable {
    package var record: MemoryRecord
    /// The cosine of the angle between the two vectors, from 0 (nothing in common) to 1 (the same); negative ones count as 0.
    package var score: Double
}

/// What a query found.
package struct MemoryAnswer: Sendable, Equatable {
    /// The best first.
    package var matches: [MemoryMatch]
    /// Records that could not be compared yet: they were embedded by another model, and only some are done again per query.
    package var skipped: Int
}

/// What the memory may grow to.
package struct MemoryLimits: Sendable, Equatable {
    /// Records of one place; the longest unused makes room.
    package var records = 10_000
    /// Records altogether.
    package var totalRecords = 500_000
    /// Bytes of a record's content.
    package var contentBytes = 4096
    /// Bytes of a record's metadata as JSON.
    package var metadataBytes = 1024
    /// Bytes of a query's text.
    package var queryBytes = 4096
    /// Most results of a query.
    package var results = 20
    /// Bytes of vectors kept in memory over all places.
    package var cacheBytes = 256 << 20
    /// Records of another model that one query embeds again.
    package var reembedded = 256

    /// The limits that Aegis uses unless told otherwise.
    package init() {}
}
