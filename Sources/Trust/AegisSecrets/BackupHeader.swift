package import AegisCore
internal import CSodium
internal import LinuxSys

/// What a backup says of itself in the clear: enough to refuse it with a reason before a passphrase is asked for.
///
/// Layout, integers little-endian: `AEGISBAK`, u16 version of this form, u16 and UTF-8 of who wrote it; so far every version.
/// Then u64 time in milliseconds, u32 version of the database, u64 bytes of content, u64 and u64 the cost of the key (Argon2id:
/// passes, bytes), 16 bytes of salt, 24 bytes of the stream's header, 32 bytes BLAKE2b of all before under a second key made of the
/// passphrase (binds it to the content), 32 bytes BLAKE2b of all before (tells damage from a wrong passphrase).
package struct BackupHeader: Sendable, Equatable {
    /// The version of the form that this release writes, and the newest that it reads.
    package static let version = 1
    static let magic = Array("AEGISBAK".utf8)
    static let checkBytes = 32
    /// Bytes behind the name of the writer.
    private static let fixedBytes = 8 + 4 + 8 + 8 + 8 + AL_PWHASH_SALT_BYTES + AL_STREAM_HEADER_BYTES + 2 * checkBytes

    /// The program and release that wrote it, as `aegis 0.1.0`.
    package var writer: String
    /// When it was made.
    package var created: Timestamp
    /// The version of the database in it.
    package var schema: UInt32
    /// How many bytes it holds.
    package var contentBytes: UInt64

    /// Describes a backup that is about to be written.
    package init(writer: String, created: Timestamp, schema: UInt32, contentBytes: UInt64) {
        self.writer = writer
        self.created = created
        self.schema = schema
        self.contentBytes = contentBytes
    }

    /// Everything of the header but the two checks.
    func bytes(_ cost: BackupKey.Cost, salt: [UInt8], stream: [UInt8]) -> [UInt8] {
        let name = Array(writer.utf8.prefix(200))
        return Self.magic + Self.little(UInt16(Self.version)) + Self.little(UInt16(name.count)) + name
            + Self.little(UInt64(bitPattern: created.milliseconds)) + Self.little(schema) + Self.little(contentBytes)
            + Self.little(cost.passes) + Self.little(cost.memory) + salt + stream
    }

    /// What is read of a file: the header, and what its key is made with.
    struct Parsed {
        var header: BackupHeader
        var cost: BackupKey.Cost
        var salt: [UInt8]
        var stream: [UInt8]
        /// Everything that the check covers, and the check.
        var covered: [UInt8]
        var check: [UInt8]
    }

    /// Reads a header from the beginning of a file.
    ///
    /// - Throws: `backup-foreign`, `backup-newer`, `backup-truncated`, `backup-damaged`.
    static func parse(_ path: String, _ file: borrowing FileDescriptor) throws(AegisError) -> Parsed {
        let start = try BackupFile.read(12, path, file)
        guard Array(start.prefix(magic.count)) == magic else {
            throw AegisError(
                .usage, "backup-foreign", "\(path) is not a backup of Aegis", hint: "name a file of 'aegis backup'")
        }
        guard start.count == 12 else { throw BackupFile.truncated(path) }
        let version: UInt16 = number(start[8..<10])
        let nameCount: UInt16 = number(start[10..<12])
        let name = try BackupFile.read(Int(nameCount), path, file)
        let writer = String(decoding: name, as: UTF8.self)
        guard version <= UInt16(Self.version) else { throw newer(path, writer) }
        guard version > 0 else { throw BackupFile.damaged(path, "its header is changed") }
        let rest = try BackupFile.read(fixedBytes, path, file)
        guard name.count == Int(nameCount), rest.count == fixedBytes else { throw BackupFile.truncated(path) }
        var at = rest.startIndex
        func take(_ count: Int) -> ArraySlice<UInt8> {
            defer { at += count }
            return rest[at..<at + count]
        }
        let header = BackupHeader(
            writer: writer, created: Timestamp(milliseconds: Int64(bitPattern: number(take(8)))),
            schema: number(take(4)), contentBytes: number(take(8)))
        let cost = BackupKey.Cost(passes: number(take(8)), memory: number(take(8)))
        let (salt, stream) = (Array(take(AL_PWHASH_SALT_BYTES)), Array(take(AL_STREAM_HEADER_BYTES)))
        let covered = start + name + rest.prefix(rest.count - 2 * checkBytes)
        let check = Array(take(checkBytes))
        guard Array(take(checkBytes)) == BackupKey.hash(covered + check), cost.isBearable else {
            throw BackupFile.damaged(path, "its header is changed")
        }
        return Parsed(header: header, cost: cost, salt: salt, stream: stream, covered: covered, check: check)
    }

    /// The error for what a later release wrote.
    package static func newer(_ path: String, _ writer: String) -> AegisError {
        .conflict(
            "backup-newer", "\(path) was written by \(writer), which is newer than this release",
            hint: "restore it with that release or a later one; nothing was changed")
    }

    private static func little<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
        (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> T($0 * 8)) }
    }
    private static func number<T: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> T {
        bytes.reversed().reduce(T.zero) { $0 << 8 | T($1) }
    }
}
