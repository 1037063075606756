/// Which files a grant is for: an absolute path with `*` and `?` inside a component and `**` as a whole one.
///
/// `**` stands for any number of components, none included; a final `/*` means the whole tree and is printed as `/**`, which
/// includes the directory itself. A pattern is a value: it never looks at a file system.
package struct PathPattern: Hashable, Sendable, CustomStringConvertible {
    /// One part between slashes.
    enum Component: Hashable, Sendable {
        case literal([UInt8])
        case glob([UInt8])
        case tree

        var isTree: Bool { self == .tree }
        var isLiteral: Bool { if case .literal = self { true } else { false } }
        var bytes: [UInt8] {
            switch self {
            case .literal(let bytes), .glob(let bytes): bytes
            case .tree: [PathPattern.star, PathPattern.star]
            }
        }
    }

    /// The canonical text.
    package let description: String
    let components: [Component]
    /// How many components at the start are literal.
    let literalCount: Int
    /// The hash of those, as `CanonicalPath` makes it.
    let literalHash: UInt64
    /// How many components follow the last `**`; 0 also where there is none.
    private let tailCount: Int

    /// The longest pattern that is taken, in bytes.
    package static let longest = 1024
    /// The largest number of components.
    package static let mostComponents = 64

    static let slash: UInt8 = 0x2f
    static let star: UInt8 = 0x2a
    static let question: UInt8 = 0x3f

    /// Takes components that are valid, and makes them canonical.
    init(_ given: [Component]) {
        var components: [Component] = []
        for (index, component) in given.enumerated() {
            let isFinalStar = index == given.count - 1 && component == .glob([Self.star])
            let component = isFinalStar ? .tree : component
            if component.isTree, components.last?.isTree == true { continue }
            components.append(component)
        }
        self.components = components
        let text = components.flatMap { [Self.slash] + $0.bytes }
        description = components.isEmpty ? "/" : String(decoding: text, as: UTF8.self)
        let literals = components.prefix { $0.isLiteral }
        literalCount = literals.count
        var hash = PathHash()
        for (index, literal) in literals.enumerated() {
            if index > 0 { hash.add(Self.slash) }
            hash.add(literal.bytes)
        }
        literalHash = hash.value
        tailCount = components.lastIndex { $0.isTree }.map { components.count - 1 - $0 } ?? 0
    }

    package static func == (a: PathPattern, b: PathPattern) -> Bool { a.components == b.components }
    package func hash(into hasher: inout Hasher) { hasher.combine(literalHash) }

    /// Whether the pattern names exactly one path.
    package var isLiteral: Bool { literalCount == components.count }

    /// The directory, when the pattern is a whole tree (`DIR/**`): such a grant can become a mount (decision D1).
    package var tree: CanonicalPath? {
        guard components.last?.isTree == true, literalCount == components.count - 1 else { return nil }
        return root
    }

    /// The longest path at the start without a wildcard: what the file service opens to learn where the pattern really is.
    package var root: CanonicalPath {
        let text = components.prefix(literalCount).flatMap { [Self.slash] + $0.bytes }
        guard let path = CanonicalPath(bytes: text.isEmpty ? [Self.slash] : text) else {
            preconditionFailure("the components of a pattern are checked as those of a path are")
        }
        return path
    }

    /// The same pattern where its root really lies: for grants on a directory that is reached through a link.
    ///
    /// - Parameter root: the kernel's path of the opened `root`.
    /// - Returns: nil when the result would be longer than a pattern may be, or when a name at that place cannot stand in a
    ///   pattern because it contains a character of the grammar.
    package func rebased(to root: CanonicalPath) -> PathPattern? {
        let moved = (0..<root.count).map { Component.literal(Array(root.bytes[root.range($0)])) }
        let pattern = PathPattern(moved + components.dropFirst(literalCount))
        // What is not text of the grammar could not be printed and read again.
        guard let again = try? PathPattern(parsing: pattern.description), again == pattern else { return nil }
        return pattern
    }

    // MARK: Matching

    /// Whether a path is one of those that the pattern means.
    package func matches(_ path: CanonicalPath) -> Bool {
        guard path.count >= literalCount, path.prefixHashes[literalCount] == literalHash else { return false }
        // What follows the last `**` can only lie at the end: that is looked at first, as it refuses most.
        guard path.count >= literalCount + tailCount else { return false }
        for offset in 0..<tailCount {
            let own = components.count - tailCount + offset
            guard Self.fits(components[own], path, path.count - tailCount + offset) else { return false }
        }
        return align(path.count) { Self.fits($0, path, $1) }
    }

    private static func fits(_ component: Component, _ path: CanonicalPath, _ index: Int) -> Bool {
        let range = path.range(index)
        switch component {
        case .literal(let name):
            guard name.count == range.count else { return false }
            return path.bytes[range].elementsEqual(name)
        case .glob(let glob): return globMatches(glob, path.bytes, range)
        case .tree: return false
        }
    }

    /// Whether everything that the other pattern means is meant by this one too.
    ///
    /// Decided component by component: it may say no although the other is narrower, never yes although it is wider.
    package func covers(_ other: PathPattern) -> Bool {
        align(other.components.count) { component, index in
            switch (component, other.components[index]) {
            case (.literal(let own), .literal(let name)): own == name
            case (.glob(let own), .literal(let name)): globMatches(own, name, 0..<name.count)
            case (.glob(let own), .glob(let glob)): globMatches(own, glob, 0..<glob.count, isPattern: true)
            default: false
            }
        }
    }

    /// Lays the components along `count` items; `**` takes any number of them.
    ///
    /// Only the last `**` is ever moved: what stands between two of them matches as early as it can, which leaves most for
    /// the rest. So time is at most components times items.
    private func align(_ count: Int, _ fits: (Component, Int) -> Bool) -> Bool {
        var own = 0
        var item = 0
        var lastTree: (component: Int, item: Int)?
        while item < count {
            if own < components.count, components[own].isTree {
                lastTree = (own, item)
                own += 1
            } else if own < components.count, fits(components[own], item) {
                own += 1
                item += 1
            } else if let (component, start) = lastTree {
                lastTree = (component, start + 1)
                own = component + 1
                item = start + 1
            } else {
                return false
            }
        }
        return components[own...].allSatisfy { $0.isTree }
    }
}

/// Whether a component matches `*` and `?`; both work on whole characters.
///
/// With `isPattern` the text is itself a glob: its `*` is taken only by a `*`, its `?` by `?` and `*`.
func globMatches(_ glob: [UInt8], _ text: [UInt8], _ range: Range<Int>, isPattern: Bool = false) -> Bool {
    /// The end of the character at a position. Bytes that are no UTF-8 belong to the character before them.
    func end(_ bytes: [UInt8], _ at: Int, _ limit: Int) -> Int {
        var next = at + 1
        while next < limit, bytes[next] & 0xc0 == 0x80 { next += 1 }
        return next
    }
    var own = 0
    var at = range.lowerBound
    var lastStar: (own: Int, at: Int)?
    while at < range.upperBound {
        let next = end(text, at, range.upperBound)
        if own < glob.count, glob[own] == PathPattern.star {
            lastStar = (own, at)
            own += 1
            continue
        }
        if own < glob.count {
            let ownEnd = end(glob, own, glob.count)
            let isAny = glob[own] == PathPattern.question
            if isAny ? !(isPattern && text[at] == PathPattern.star) : glob[own..<ownEnd].elementsEqual(text[at..<next])
            {
                own = ownEnd
                at = next
                continue
            }
        }
        guard let (star, start) = lastStar else { return false }
        at = end(text, start, range.upperBound)
        lastStar = (star, at)
        own = star + 1
    }
    return glob[own...].allSatisfy { $0 == PathPattern.star }
}
