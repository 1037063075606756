/// An absolute path without `.`, `..`, empty components or links: what the kernel says of an opened descriptor.
///
/// Gates make it from the descriptor that they then use (decision D13), never from what the caller wrote. Bytes are compared
/// as they are: no case folding, no Unicode normalisation.
package struct CanonicalPath: Hashable, Sendable, CustomStringConvertible {
    /// The bytes, from `/` on.
    package let bytes: [UInt8]
    /// Where each component starts.
    let starts: [Int]
    /// A hash of the first n components, for n from 0: an index finds candidates by it, the pattern itself decides.
    let prefixHashes: [UInt64]

    /// The longest path that is taken, in bytes (the kernel's limit).
    package static let longest = 4096
    /// The longest component that is taken, in bytes (the kernel's limit).
    package static let longestComponent = 255

    /// Takes a path that is canonical already; nil when it is not.
    package init?(_ text: String) { self.init(bytes: Array(text.utf8)) }

    /// Takes a path that is canonical already, in whatever encoding its names are; nil when it is not.
    package init?(bytes: [UInt8]) {
        guard bytes.first == PathPattern.slash, bytes.count <= Self.longest, !bytes.contains(0) else { return nil }
        var starts: [Int] = []
        var hashes = [PathHash().value]
        if bytes.count > 1 {
            var hash = PathHash()
            var start = 1
            for index in 1...bytes.count {
                guard index == bytes.count || bytes[index] == PathPattern.slash else {
                    hash.add(bytes[index])
                    continue
                }
                guard Self.isComponent(bytes[start..<index]) else { return nil }
                starts.append(start)
                hashes.append(hash.value)
                hash.add(PathPattern.slash)
                start = index + 1
            }
        }
        self.bytes = bytes
        self.starts = starts
        prefixHashes = hashes
    }

    private static func isComponent(_ part: ArraySlice<UInt8>) -> Bool {
        guard !part.isEmpty, part.count <= longestComponent else { return false }
        return !(part.allSatisfy { $0 == 0x2e } && part.count <= 2)
    }

    /// How many components there are; 0 is the root.
    var count: Int { starts.count }
    /// Where a component stands in `bytes`.
    func range(_ index: Int) -> Range<Int> {
        starts[index]..<(index + 1 < starts.count ? starts[index + 1] - 1 : bytes.count)
    }

    /// Whether this is the other path or lies below it.
    package func isWithin(_ other: CanonicalPath) -> Bool {
        guard other.count <= count, prefixHashes[other.count] == other.prefixHashes[other.count] else { return false }
        return other.count == 0
            || bytes.prefix(other.bytes.count).elementsEqual(other.bytes)
                && (bytes.count == other.bytes.count || bytes[other.bytes.count] == PathPattern.slash)
    }

    package var description: String { String(decoding: bytes, as: UTF8.self) }
    package static func == (a: CanonicalPath, b: CanonicalPath) -> Bool { a.bytes == b.bytes }
    package func hash(into hasher: inout Hasher) { hasher.combine(prefixHashes[count]) }
}

/// FNV-1a over the bytes of a path or name. It need not be strong: who finds two names with one hash gains a comparison.
struct PathHash {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325
    mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    mutating func add(_ bytes: some Sequence<UInt8>) { for byte in bytes { add(byte) } }
}
