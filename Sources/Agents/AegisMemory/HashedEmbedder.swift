internal import AegisCore

/// The embedder that needs no model and no network: words and parts of words, hashed into 384 numbers.
///
/// It finds what shares words, forms of words, or spelling with the query. It knows no meaning: *car* and *automobile* are
/// strangers to it, negation is invisible, and the order of words hardly counts. Two texts without anything in common may
/// come out at up to about 0.15, from hashes that fall together. Its vectors are the same on every machine and in every
/// release of this model name: a change of any constant below takes a new name.
package struct HashedEmbedder: Embedder {
    package let model = "aegis-hash-1"
    package let dimensions = 384

    /// There is one of it.
    package init() {}

    package func embed(_ texts: [String], for payer: EmbeddingPayer?) async throws -> [[Float]] { texts.map(vector) }

    /// The vector of one text, of length 1; all zero for a text without letters, digits or symbols.
    package func vector(_ text: String) -> [Float] {
        var counts: [UInt64: (count: Int, weight: Float)] = [:]
        func add(_ feature: UInt64, _ weight: Float) {
            let old = counts[feature]
            counts[feature] = ((old?.count ?? 0) + 1, max(weight, old?.weight ?? 0))
        }
        let words = Self.words(text)
        var previous: [UInt32]?
        for word in words {
            let isCommon = Self.commonWords.contains(word)
            add(Self.hash(word, kind: 1), isCommon ? 0.15 : 1)
            if !isCommon {
                Self.parts(word) { add($0, $1) }
                // Neighbours, a little: "not done" and "done" differ by them.
                if let previous { add(Self.hash(previous + [32] + word, kind: 3), 0.3) }
                previous = word
            }
        }
        var sums = [Float](repeating: 0, count: dimensions)
        // In an order of their own: a dictionary's changes from run to run, and sums of floats with it.
        for (feature, entry) in counts.sorted(by: { $0.key < $1.key }) {
            let value = entry.weight * Self.frequencyWeight(entry.count)
            // Two places with signs of their own: what falls together in one rarely does in both.
            for place in [feature, Self.mix(feature)] {
                let index = Int((place >> 8) % UInt64(dimensions))
                sums[index] += place & 1 == 0 ? value : -value
            }
        }
        var square: Float = 0
        for sum in sums { square += sum * sum }
        return square > 0 ? sums.map { $0 / square.squareRoot() } : sums
    }

    /// A word that comes again counts less each time.
    private static func frequencyWeight(_ count: Int) -> Float {
        switch count {
        case 1: 1
        case 2: 1.6
        case 3...5: 2.1
        default: 2.6
        }
    }

    /// Runs of letters and digits, in lower case.
    private static func words(_ text: String) -> [[UInt32]] {
        var words: [[UInt32]] = []
        var word: [UInt32] = []
        for scalar in text.lowercased().unicodeScalars {
            let properties = scalar.properties
            if properties.isAlphabetic || properties.numericType != nil || properties.isEmoji && scalar.value > 0xff {
                word.append(scalar.value)
            } else if !word.isEmpty, scalar != "'", scalar != "\u{2019}", scalar.value != 0x301 {
                words.append(word)
                word = []
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    /// Pieces of 3 and 4 letters of the word with its ends marked; together they weigh a little more than the word.
    private static func parts(_ word: [UInt32], _ add: (UInt64, Float) -> Void) {
        let marked = [94] + word + [36]
        // Scripts without spaces carry their meaning in single signs and pairs.
        let isDense = word.contains { $0 >= 0x2e80 }
        for length in isDense ? 1...2 : 3...4 where marked.count > length {
            let pieces = marked.count - length + 1
            let weight = 0.9 / Float(pieces).squareRoot()
            for start in 0..<pieces { add(hash(marked[start..<start + length], kind: 2), weight) }
        }
    }

    /// FNV-1a over the scalars' bytes, then mixed.
    private static func hash(_ scalars: some Sequence<UInt32>, kind: UInt64) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325 ^ kind
        for scalar in scalars {
            for shift: UInt32 in [0, 8, 16] {
                hash = (hash ^ UInt64(scalar >> shift & 0xff)) &* 0x100_0000_01b3
            }
        }
        return mix(hash)
    }

    private static func mix(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9e37_79b9_7f4a_7c15
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    private static let commonWords: Set<[UInt32]> = Set(
        """
        a an and are as at be been but by can could did do does for from had has have he her his how i if in into is it its \
        me my no not of on or our she should so some such than that the their them then there these they this those to too \
        us was we were what when where which who why will with would you your
        """
        .split(separator: " ").map { $0.unicodeScalars.map(\.value) })
}
