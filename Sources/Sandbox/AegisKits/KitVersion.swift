/// The version of a kit: `MAJOR.MINOR.PATCH`, with `-PRERELEASE` behind it if it is one (semantic versioning 2.0).
package struct KitVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    private let numbers: [UInt64]
    private let prerelease: [String]
    package let description: String

    /// Reads a version; nil for anything else.
    package init?(_ text: String) {
        guard text.utf8.count <= 64 else { return nil }
        let parts = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        let words = parts[0].split(separator: ".", omittingEmptySubsequences: false)
        let read = words.compactMap(Self.number)
        guard words.count == 3, read.count == 3 else { return nil }
        numbers = read
        prerelease =
            parts.count == 2 ? parts[1].split(separator: ".", omittingEmptySubsequences: false).map(String.init) : []
        for word in prerelease {
            guard !word.isEmpty, word.utf8.allSatisfy(Self.isIdentifier) else { return nil }
            if word.allSatisfy(\.isNumber), Self.number(Substring(word)) == nil { return nil }
        }
        description = text
    }

    private static func number(_ word: Substring) -> UInt64? {
        guard !word.isEmpty, word.utf8.allSatisfy({ (48...57).contains($0) }), word == "0" || word.first != "0" else {
            return nil
        }
        return UInt64(word)
    }

    private static func isIdentifier(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || byte == 45
    }

    package static func < (a: KitVersion, b: KitVersion) -> Bool {
        for (x, y) in zip(a.numbers, b.numbers) where x != y { return x < y }
        // "A pre-release version has lower precedence than the associated normal version."
        guard !a.prerelease.isEmpty, !b.prerelease.isEmpty else { return !a.prerelease.isEmpty && b.prerelease.isEmpty }
        for (x, y) in zip(a.prerelease, b.prerelease) where x != y {
            switch (UInt64(x), UInt64(y)) {
            case (let x?, let y?): return x < y
            case (_?, nil): return true
            case (nil, _?): return false
            case (nil, nil): return x < y
            }
        }
        return a.prerelease.count < b.prerelease.count
    }
}

/// What a user calls a kit: `NAME`, or `NAME@VERSION`.
package struct KitReference: Sendable, Equatable {
    package var name: String
    /// Nil = the highest that is installed.
    package var version: KitVersion?
}
