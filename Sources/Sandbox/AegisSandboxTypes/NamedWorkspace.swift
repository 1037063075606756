package import AegisCore

/// A workspace that lives under its name until somebody deletes it.
package struct NamedWorkspace: Sendable, Codable, Equatable {
    package var name: String
    /// The uid that may use and delete it (and root).
    package var owner: UInt32
    /// What it occupies on the disk, in bytes.
    package var size: UInt64
    /// Whether that is all of it: of very many files only a part is counted.
    package var isWholeSize: Bool
    package var createdAt: Timestamp
    /// When an instance with it was last started, or its files were asked for.
    package var usedAt: Timestamp
    /// Names or ids of the instances that have it, running or not.
    package var usedBy: [String]

    /// What is known of one.
    package init(
        name: String, owner: UInt32, size: UInt64, isWholeSize: Bool, createdAt: Timestamp, usedAt: Timestamp,
        usedBy: [String]
    ) {
        self.name = name
        self.owner = owner
        self.size = size
        self.isWholeSize = isWholeSize
        self.createdAt = createdAt
        self.usedAt = usedAt
        self.usedBy = usedBy
    }

    private enum CodingKeys: String, CodingKey {
        case name, owner
        case size = "size_bytes"
        case isWholeSize = "size_complete"
        case createdAt = "created_at"
        case usedAt = "last_used_at"
        case usedBy = "used_by"
    }
}
