/// What an archive says about one file.
package struct TarEntry: Sendable, Equatable {
    /// What kind of thing it is.
    package enum Kind: Sendable, Equatable {
        case file, directory, symbolicLink, hardLink, fifo, device
    }
    /// As written in the archive, not checked: see `TarPath`.
    package var path: [UInt8]
    package var kind: Kind
    /// The twelve permission bits.
    package var permissions: UInt32
    package var user: UInt64
    package var group: UInt64
    /// Bytes of content that follow; 0 unless this is a file.
    package var size: UInt64
    /// Nanoseconds since 1970, UTC.
    package var modified: Int64
    /// Where a link points, as written.
    package var linkTarget: [UInt8]

    /// Makes an entry.
    package init(
        path: [UInt8], kind: Kind, permissions: UInt32 = 0o644, user: UInt64 = 0, group: UInt64 = 0, size: UInt64 = 0,
        modified: Int64 = 0, linkTarget: [UInt8] = []
    ) {
        self.path = path
        self.kind = kind
        self.permissions = permissions
        self.user = user
        self.group = group
        self.size = size
        self.modified = modified
        self.linkTarget = linkTarget
    }
}

/// Why a stream is not an archive that we read.
package struct TarError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The family of the fault.
    package enum Reason: Sendable, Equatable {
        /// The bytes are no tar archive, or contradict themselves.
        case malformed
        /// A form of tar that we do not read (sparse files, several volumes).
        case unsupported
        /// A limit was passed.
        case tooLarge
        /// The stream ended before the archive did.
        case truncated
        /// A path that would leave the place it belongs to.
        case unsafePath
    }
    package var reason: Reason
    /// What is wrong, with the value at fault.
    package var message: String

    /// Makes an error.
    package init(_ reason: Reason, _ message: String) {
        self.reason = reason
        self.message = message
    }
    package var description: String { message }
}

/// Paths inside an archive.
package enum TarPath {
    /// The longest path that is taken, in bytes.
    package static let maximum = 4096

    /// The path's components without `.` and empty ones; none for the archive's root itself.
    ///
    /// - Throws: `unsafePath` for an absolute path, `..`, a zero byte, or a component above 255 bytes.
    package static func components(_ path: [UInt8]) throws(TarError) -> [[UInt8]] {
        guard path.count <= maximum else { throw TarError(.tooLarge, "a path of \(path.count) bytes in the archive") }
        guard path.first != slash else { throw TarError(.unsafePath, "absolute path '\(shown(path))' in the archive") }
        guard !path.contains(0) else { throw TarError(.unsafePath, "path with a zero byte in the archive") }
        var found: [[UInt8]] = []
        for part in path.split(separator: slash) where part != [dot] {
            guard part != [dot, dot] else {
                throw TarError(.unsafePath, "'..' in path '\(shown(path))' of the archive")
            }
            guard part.count <= 255 else { throw TarError(.unsafePath, "a name of \(part.count) bytes in the archive") }
            found.append(Array(part))
        }
        return found
    }

    /// Whether a symbolic link in a directory `depth` levels below the root stays inside whatever else lies there.
    ///
    /// It does when it is relative, begins with at most `depth` times `..` and has no `..` after that: a later one could
    /// climb out through another link.
    package static func linkStaysInside(_ target: [UInt8], depth: Int) -> Bool {
        guard !target.isEmpty, target.first != slash, target.count <= maximum, !target.contains(0) else { return false }
        let parts = target.split(separator: slash).filter { $0 != [dot] }
        let up = parts.prefix { $0 == [dot, dot] }.count
        return up <= depth && !parts.dropFirst(up).contains([dot, dot])
    }

    /// A path for people: control characters and what is not UTF-8 are replaced, long ones are cut.
    package static func shown(_ path: [UInt8]) -> String {
        let text = String(decoding: path.prefix(200), as: UTF8.self)
        let plain = String(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? "?" : Character($0) })
        return path.count > 200 ? plain + "…" : plain
    }

    static let slash = UInt8(ascii: "/")
    static let dot = UInt8(ascii: ".")
}
