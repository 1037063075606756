/// What is wrong at one place of a ledger.
package struct LedgerFault: Sendable, Hashable, Codable {
    /// The kind of fault, a stable word.
    package enum Kind: String, Sendable, Codable, CaseIterable {
        /// A record's text is not what its hash was made over.
        case changed
        /// A line is no record at all.
        case malformed
        /// Numbers are left out: records were removed.
        case removed
        /// A number comes twice or too late: records were inserted or put in another order.
        case misplaced
        /// A record is whole but does not follow the one before it.
        case unlinked
        /// A signature is not of the key.
        case forged
        /// A segment ends before its seal, or the ledger before a head that is known.
        case truncated
        /// A record is another one than the head that is known says.
        case rewritten
    }
    /// What it is.
    package var kind: Kind
    /// The file.
    package var file: String
    /// The line in it, from 1.
    package var line: Int?
    /// The number of the record at which it shows.
    package var seq: UInt64?
    /// The same in words.
    package var message: String
}

/// What a check of a ledger found.
package struct VerifyReport: Sendable, Codable {
    /// The answer.
    package enum Status: String, Sendable, Codable {
        /// Everything that was recorded is there, as it was recorded.
        case intact
        /// Something was changed, removed, inserted or put elsewhere.
        case broken
        /// What is there is sound, but not all is there that is needed to be sure.
        case incomplete

        /// The exit code (decision D33).
        package var exitCode: Int32 {
            switch self {
            case .intact: 0
            case .broken: 1
            case .incomplete: 2
            }
        }
    }
    /// Faults that are told one by one.
    package static let faultLimit = 20

    /// The folder.
    package var path: String
    /// Records that were read.
    package var records: UInt64 = 0
    /// The number of the first one.
    package var first: UInt64?
    /// The newest one, as `SEQ:HASH`.
    package var head: String?
    /// The newest record that a signature covers.
    package var signedTo: UInt64 = 0
    /// Segments that were read.
    package var segments = 0
    /// Segments that were dropped in time, and whose seals are there.
    package var dropped = 0
    /// What the signatures were checked with.
    package var keys: [String] = []
    /// What is wrong, in the order of the records; the first 20.
    package var faults: [LedgerFault] = []
    /// How many faults there are.
    package var faultCount = 0
    /// What is missing to be sure.
    package var gaps: [String] = []
    /// What else is worth knowing.
    package var notes: [String] = []

    /// The answer.
    package var status: Status { faultCount > 0 ? .broken : gaps.isEmpty ? .intact : .incomplete }

    enum CodingKeys: String, CodingKey {
        case status, path, records, first, head
        case signedTo = "signed_to"
        case segments
        case dropped = "dropped_segments"
        case keys, faults
        case faultCount = "fault_count"
        case gaps, notes
    }

    init(path: String) { self.path = path }

    package init(from decoder: any Decoder) throws {
        let c = try decoder.container(keyedBy: CodingKeys.self)
        path = try c.decode(String.self, forKey: .path)
        records = try c.decode(UInt64.self, forKey: .records)
        first = try c.decodeIfPresent(UInt64.self, forKey: .first)
        head = try c.decodeIfPresent(String.self, forKey: .head)
        signedTo = try c.decode(UInt64.self, forKey: .signedTo)
        segments = try c.decode(Int.self, forKey: .segments)
        dropped = try c.decode(Int.self, forKey: .dropped)
        keys = try c.decode([String].self, forKey: .keys)
        faults = try c.decode([LedgerFault].self, forKey: .faults)
        faultCount = try c.decode(Int.self, forKey: .faultCount)
        gaps = try c.decode([String].self, forKey: .gaps)
        notes = try c.decode([String].self, forKey: .notes)
    }

    package func encode(to encoder: any Encoder) throws {
        var c = encoder.container(keyedBy: CodingKeys.self)
        try c.encode(status, forKey: .status)
        try c.encode(path, forKey: .path)
        try c.encode(records, forKey: .records)
        try c.encodeIfPresent(first, forKey: .first)
        try c.encodeIfPresent(head, forKey: .head)
        try c.encode(signedTo, forKey: .signedTo)
        try c.encode(segments, forKey: .segments)
        try c.encode(dropped, forKey: .dropped)
        try c.encode(keys, forKey: .keys)
        try c.encode(faults, forKey: .faults)
        try c.encode(faultCount, forKey: .faultCount)
        try c.encode(gaps, forKey: .gaps)
        try c.encode(notes, forKey: .notes)
    }
}
