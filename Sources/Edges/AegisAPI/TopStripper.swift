internal import AegisCore
internal import AegisTar

/// Takes the first component off every path of a tar stream: the content of a folder without the folder.
///
/// Reads the stream whole and writes it anew, so that nothing but files, folders and links with clean paths comes out.
struct TopStripper {
    private var reader = TarReader()
    private var padding = 0

    /// The next bytes in, what they make out.
    ///
    /// - Throws: `bad-archive`.
    mutating func take(_ bytes: ArraySlice<UInt8>) throws(AegisError) -> [UInt8] {
        reader.feed(bytes)
        var out: [UInt8] = []
        do throws(TarError) {
            while let event = try reader.next() {
                switch event {
                case .entry(let entry): out += try header(entry)
                case .data(let piece): out += piece
                case .entryEnd:
                    out += [UInt8](repeating: 0, count: padding)
                    padding = 0
                case .end: out += TarWriter.trailer
                }
            }
        } catch { throw AegisError(error) }
        return out
    }

    private mutating func header(_ entry: TarEntry) throws(TarError) -> [UInt8] {
        var entry = entry
        guard let path = try stripped(entry.path) else {
            guard entry.kind == .directory else {
                throw TarError(.malformed, "the archive's first entry is not a folder: it has no content to take")
            }
            return []
        }
        entry.path = path
        if entry.kind == .hardLink {
            guard let target = try stripped(entry.linkTarget) else {
                throw TarError(.malformed, "a link in the archive points to the archive's root")
            }
            entry.linkTarget = target
        }
        padding = TarWriter.padding(after: entry.size)
        return TarWriter.header(for: entry)
    }

    /// The path below the first component; nil for that component itself.
    private func stripped(_ path: [UInt8]) throws(TarError) -> [UInt8]? {
        var parts = try TarPath.components(path)
        // `.` at the front is a component of its own: the folder, called by that name.
        let isDot = path.first == UInt8(ascii: ".") && (path.count == 1 || path[1] == UInt8(ascii: "/"))
        if !isDot, !parts.isEmpty { parts.removeFirst() }
        return parts.isEmpty ? nil : Array(parts.joined(separator: [UInt8(ascii: "/")]))
    }
}
