/// What can be said of a path in two words, so that most patterns that do not match it are passed over by two comparisons.
struct PathFace {
    /// Two bits for each component's name.
    let names: UInt64
    /// The last eight bytes, the last of them lowest.
    let end: UInt64

    /// The face of the file that an action is about; of any other action, that of the root.
    init(_ action: Action) {
        switch action {
        case .fileRead(let path), .fileWrite(let path): self.init(path.bytes)
        default: self.init([PathPattern.slash])
        }
    }

    init(_ path: CanonicalPath) { self.init(path.bytes) }

    private init(_ bytes: [UInt8]) {
        var names: UInt64 = 0
        var hash = PathHash()
        // The first byte is a slash, which ends no name.
        for index in 1..<max(1, bytes.count) {
            if bytes[index] == PathPattern.slash {
                names |= PathFace.bits(hash.value)
                hash = PathHash()
            } else {
                hash.add(bytes[index])
            }
        }
        self.names = names | PathFace.bits(hash.value)
        end = PathFace.end(of: bytes[...]).word
    }

    /// The two bits of a name.
    static func bits(_ hash: UInt64) -> UInt64 { 1 << (hash & 63) | 1 << (hash >> 6 & 63) }

    /// The last eight bytes as a word, and which bits of it there are.
    static func end(of bytes: ArraySlice<UInt8>) -> (word: UInt64, mask: UInt64) {
        var (word, mask): (UInt64, UInt64) = (0, 0)
        for byte in bytes.suffix(8) { (word, mask) = (word << 8 | UInt64(byte), mask << 8 | 0xff) }
        return (word, mask)
    }
}

/// What every path has that a pattern matches, behind the components by which the pattern is found. It decides nothing: what
/// may fit is matched.
struct PathTrait: Sendable {
    private var names: UInt64 = 0
    private var end: UInt64 = 0
    private var mask: UInt64 = 0

    /// That of a pattern of which nothing can be said.
    static let none = PathTrait()

    private init() {}

    init(of pattern: PathPattern) {
        for component in pattern.components.dropFirst(pattern.literalCount) {
            guard case .literal(let name) = component else { continue }
            var hash = PathHash()
            hash.add(name)
            names |= PathFace.bits(hash.value)
        }
        guard pattern.literalCount < pattern.components.count, let last = pattern.components.last else { return }
        switch last {
        case .literal(let name): (end, mask) = PathFace.end(of: ([PathPattern.slash] + name)[...])
        case .glob(let glob):
            // What follows the last wildcard stands at the end as it is.
            let isWild: (UInt8) -> Bool = { $0 == PathPattern.star || $0 == PathPattern.question }
            let rest = glob.lastIndex(where: isWild).map { glob[($0 + 1)...] } ?? glob[...]
            (end, mask) = PathFace.end(of: rest)
        case .tree: break
        }
    }

    /// Whether nothing can be said.
    var isNone: Bool { names | mask == 0 }

    /// Whether a path may match: false only for one that does not.
    func mayFit(_ face: PathFace) -> Bool { names & ~face.names == 0 && (face.end ^ end) & mask == 0 }
}
