/// What a record tells: a word in snake_case. Each target declares its own kinds as static constants.
package struct AuditKind: Hashable, Sendable, CustomStringConvertible {
    /// How a kind is treated when there is too much of it.
    package enum Role: Hashable, Sendable {
        /// Something was done, or is about to be: never dropped, and what cannot be recorded must not be done.
        case effect
        /// Something was refused: never dropped; the same refusal again and again is counted in one record.
        case denial
        /// Something that was observed and that nobody's rights hang on: dropped, and counted, beyond a rate.
        case report
    }

    /// The word.
    package let description: String
    /// How it is treated.
    package let role: Role

    /// Declares a kind.
    ///
    /// - Parameters:
    ///   - name: lower-case letters, digits and underscores.
    ///   - role: how it is treated when there is too much of it.
    package init(_ name: String, _ role: Role = .effect) {
        precondition(AuditKind.isName(name), "the name of a kind is a constant in snake_case")
        description = name
        self.role = role
    }

    /// Whether it tells of a refusal.
    package var isDenial: Bool { role == .denial }

    /// Whether a text could be the name of a kind.
    package static func isName(_ text: String) -> Bool {
        let letters = text.utf8
        return (1...64).contains(letters.count)
            && letters.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 95 }
    }
}

extension AuditKind {
    /// The first record of every segment: format, node, key, and the seal before it.
    static let segmentOpened = AuditKind("segment_opened")
    /// The last record of a full segment: a signature over all of it that names the seal before it.
    static let segmentSealed = AuditKind("segment_sealed")
    /// A signature over everything before it.
    static let checkpoint = AuditKind("checkpoint")
    /// A record that was being written when the daemon was killed was cut off.
    static let tailRecovered = AuditKind("tail_recovered")
    /// What was on the disk at the start was not what this ledger had written.
    static let damageFound = AuditKind("damage_found")
    /// The oldest segments were deleted, as the configuration says; their seals are kept.
    static let segmentsDropped = AuditKind("segments_dropped")
    /// Reports beyond the rate were not written: how many of each kind.
    static let recordsDropped = AuditKind("records_dropped")
    /// A refusal came again and again: how often, and in which time.
    static let denialRepeated = AuditKind("denial_repeated", .denial)
    /// All of them.
    package static let ofLedger: [AuditKind] = [
        .segmentOpened, .segmentSealed, .checkpoint, .tailRecovered, .damageFound, .segmentsDropped, .recordsDropped,
        .denialRepeated,
    ]
}
