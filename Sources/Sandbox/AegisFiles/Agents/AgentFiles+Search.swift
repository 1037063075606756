package import AegisCapabilities
internal import AegisCore
package import AegisRegex
internal import LinuxSys

/// A line in which a pattern was found.
package struct FoundLine: Sendable, Equatable {
    /// The file, as the kernel names it.
    package var path: CanonicalPath
    /// From 1.
    package var line: Int
    /// The line, cut to a length.
    package var text: String
}

/// How much a search tells and reads.
package struct SearchBounds: Sendable {
    /// Lines in all.
    package var matches = 200
    /// Bytes of lines in all.
    package var bytes = 16 << 10
    /// Bytes of one line.
    package var line = 512
    /// The largest file that is searched.
    package var file = 16 << 20
    package var walk = WalkBounds()
    /// The bounds as they stand.
    package init() {}
}

extension AgentFiles {
    /// Looks for a pattern in the lines of a file, or of all files below a folder that may be read.
    ///
    /// - Parameters:
    ///   - text: the file or folder.
    ///   - regex: the pattern.
    ///   - filter: which files are searched; nil is all.
    ///   - bounds: how much is told and read.
    /// - Returns: the lines, in order of files and lines, and what was left out.
    /// - Throws: `Denial` for the place where the search begins; as `list` does; `pattern-too-complex`; `CancellationError` when
    ///   `bounds.walk.isOver` ends it in the middle of a file.
    package func search(
        _ text: String, for regex: BoundedRegex, in filter: FileFilter? = nil, bounds: SearchBounds = SearchBounds()
    ) throws -> (lines: [FoundLine], summary: WalkSummary) {
        let start = try AgentPath(text)
        return try withRights(start) {
            var found: [FoundLine] = []
            var told = 0
            let summary = try walk(
                start, only: filter, bounds: bounds.walk, reads: UInt64(bounds.file)
            ) { walk, file in
                guard let descriptor = try? file.opened(), let bytes = try? descriptor.readAll(limit: bounds.file)
                else {
                    walk.summary.isCut = true
                    return true
                }
                guard !bytes.prefix(8192).contains(0) else {
                    walk.summary.binary += 1
                    return true
                }
                let watch = walk.watch
                var matcher = BoundedRegex.Matcher(regex, isOver: watch.isOver)
                for (number, line) in Self.lines(bytes) where try Self.isFound(&matcher, number, line, watch) {
                    let shown = Self.shown(line, bounds.line)
                    guard found.count < bounds.matches, told + shown.utf8.count <= bounds.bytes else {
                        walk.summary.isCut = true
                        return false
                    }
                    told += shown.utf8.count
                    found.append(FoundLine(path: file.path, line: number, text: shown))
                }
                return true
            }
            return (found, summary)
        }
    }

    /// - Throws: `pattern-too-complex`; why the search must not go on.
    private static func isFound(
        _ matcher: inout BoundedRegex.Matcher, _ number: Int, _ line: ArraySlice<UInt8>, _ watch: WalkWatch
    ) throws -> Bool {
        // Lines that cannot match are passed over without a question of the matcher.
        if number % 4096 == 0, watch.isOver() { throw watch.reason }
        do throws(RegexError) { return try matcher.first(in: line) != nil } catch {
            guard error.kind == .stopped else {
                throw AegisError(.usage, "pattern-too-complex", "the pattern takes too long on a line: \(error)")
            }
            throw watch.reason
        }
    }

    /// The lines of a text with their numbers, without what ends them.
    private static func lines(_ bytes: [UInt8]) -> some Sequence<(Int, ArraySlice<UInt8>)> {
        sequence(state: (at: 0, number: 0)) { state -> (Int, ArraySlice<UInt8>)? in
            guard state.at < bytes.count else { return nil }
            let end = bytes[state.at...].firstIndex(of: 0x0a) ?? bytes.count
            let line = bytes[state.at..<end]
            state = (end + 1, state.number + 1)
            return (state.number, line.last == 0x0d ? line.dropLast() : line)
        }
    }

    private static func shown(_ line: ArraySlice<UInt8>, _ limit: Int) -> String {
        guard line.count > limit else { return String(decoding: line, as: UTF8.self) }
        var end = line.startIndex + limit
        while end > line.startIndex, line[end] & 0xc0 == 0x80 { end -= 1 }
        return String(decoding: line[..<end], as: UTF8.self) + "…"
    }
}
