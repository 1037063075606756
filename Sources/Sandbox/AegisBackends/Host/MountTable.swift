/// The mounts of a mount namespace, as `/proc/PID/mountinfo` lists them.
package struct MountTable: Sendable {
    /// One mount.
    package struct Entry: Sendable, Equatable {
        /// The device of the file system, as a file's status has it.
        package var device: UInt64
        /// What of the file system is mounted.
        package var root: String
        package var target: String
        package var type: String
        package var source: String
        package var superOptions: [String]
    }
    package var entries: [Entry]

    /// Reads the table; lines that are not as the kernel writes them are left out.
    package init(parsing text: String) {
        entries = text.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ")
            guard let dash = fields.firstIndex(of: "-"), dash >= 6, fields.count >= dash + 4,
                let device = Self.device(fields[2])
            else { return nil }
            return Entry(
                device: device, root: Self.unescape(fields[3]), target: Self.unescape(fields[4]),
                type: String(fields[dash + 1]),
                source: Self.unescape(fields[dash + 2]),
                superOptions: fields[dash + 3].split(separator: ",").map(String.init))
        }
    }

    /// The topmost mount at exactly this path.
    package func mount(at target: String) -> Entry? { entries.last { $0.target == target } }

    /// `MAJOR:MINOR` in the one number that files have.
    private static func device(_ field: Substring) -> UInt64? {
        let parts = field.split(separator: ":").compactMap { UInt64($0) }
        guard parts.count == 2 else { return nil }
        return parts[1] & 0xff | (parts[0] & 0xfff) << 8 | (parts[1] & ~0xff) << 12 | (parts[0] & ~0xfff) << 32
    }

    /// Undoes the kernel's `\040`-like escapes.
    private static func unescape(_ field: Substring) -> String {
        guard field.contains("\\") else { return String(field) }
        let raw = Array(field.utf8)
        var bytes: [UInt8] = []
        var at = 0
        while at < raw.count {
            if raw[at] == UInt8(ascii: "\\"), at + 3 < raw.count,
                let value = UInt8(String(decoding: raw[at + 1...at + 3], as: UTF8.self), radix: 8)
            {
                bytes.append(value)
                at += 4
            } else {
                bytes.append(raw[at])
                at += 1
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
