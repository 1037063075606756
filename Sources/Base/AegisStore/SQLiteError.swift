package import AegisCore
internal import CSQLite

/// What SQLite answered when it did not do what was asked.
package struct SQLiteError: Error, Sendable, Equatable, CustomStringConvertible {
    /// SQLite's extended result code.
    package let code: Int32
    /// SQLite's words for it, or ours where the failure is a misuse.
    package let message: String
    /// The file of the database.
    package let path: String
    /// `errno` of the system call below it, 0 when there was none.
    package let systemCode: Int32

    init(code: Int32, message: String, path: String, systemCode: Int32 = 0) {
        self.code = code
        self.message = message
        self.path = path
        self.systemCode = systemCode
    }

    /// The result code without its extension.
    package var primaryCode: Int32 { code & 0xff }
    /// Whether a row with the same key or unique value exists already.
    package var isDuplicate: Bool { code == constraintUnique || code == constraintPrimaryKey }
    /// Whether any constraint (unique, foreign key, check, not null) refused the change.
    package var isConstraint: Bool { primaryCode == SQLITE_CONSTRAINT }
    /// Whether another connection held the lock for longer than the busy timeout.
    package var isBusy: Bool { primaryCode == SQLITE_BUSY || primaryCode == SQLITE_LOCKED }
    /// Whether there was no room: file system, quota, file size limit or the database's own page limit.
    package var isFull: Bool {
        primaryCode == SQLITE_FULL || primaryCode == SQLITE_IOERR && Self.noRoom.contains(systemCode)
    }

    package var description: String { "\(path): \(message) (SQLite \(code))" }

    /// ENOSPC, EFBIG and EDQUOT of Linux, on every architecture that we build for.
    private static let noRoom: Set<Int32> = [28, 27, 122]

    /// The same failure in the shape that users see.
    package var aegisError: AegisError {
        if isFull {
            return AegisError(
                .failed, "disk-full", "no space left to write the database \(path)",
                hint: "free space on that file system; what was acknowledged before is kept")
        }
        switch primaryCode {
        case SQLITE_BUSY, SQLITE_LOCKED:
            return AegisError(
                .unavailable, "database-busy", "another program holds the database \(path)",
                hint: "close the program that has it open and try again")
        case SQLITE_CORRUPT, SQLITE_NOTADB:
            return AegisError(
                .failed, "database-corrupt", "the database \(path) is damaged: \(message)",
                hint: "restore it from a backup; the file was not changed by this")
        case SQLITE_READONLY, SQLITE_PERM, SQLITE_CANTOPEN, SQLITE_AUTH:
            return AegisError(
                .failed, "database-not-writable", "the database \(path) cannot be opened for writing: \(message)",
                hint: "check that its folder exists and that this user may write there")
        case SQLITE_CONSTRAINT:
            return AegisError(.conflict, "constraint", "the database refused the change: \(message)")
        default:
            return AegisError(
                .failed, "database-error",
                "the database \(path) failed: \(message) (SQLite \(code), errno \(systemCode))")
        }
    }
}

/// Extended codes are macros of arithmetic, which Swift does not import.
private let constraintUnique: Int32 = SQLITE_CONSTRAINT | (8 << 8)
private let constraintPrimaryKey: Int32 = SQLITE_CONSTRAINT | (6 << 8)
