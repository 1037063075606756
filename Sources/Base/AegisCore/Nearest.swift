/// The known word nearest to a mistyped one, or nil when none is near enough to be what was meant.
package func nearest(_ word: String, in known: some Sequence<String>) -> String? {
    let word = Array(word.utf8)
    var best: (distance: Int, word: String)?
    for candidate in known {
        let other = Array(candidate.utf8)
        // Whatever has two letters is near to anything.
        let limit = word.count < 3 ? 0 : max(1, min(word.count, other.count) / 2)
        let most = min(limit, (best?.distance ?? .max) - 1)
        if let distance = editDistance(word, other, atMost: most) { best = (distance, candidate) }
    }
    return best?.word
}

/// Optimal string alignment distance: insert, delete, replace and swap of neighbours count one each.
///
/// - Parameters:
///   - a: a text.
///   - b: another one.
///   - most: the largest distance that is of interest; what is farther is given up as soon as that is known.
/// - Returns: the distance; nil when it is larger.
func editDistance(_ a: [UInt8], _ b: [UInt8], atMost most: Int = .max) -> Int? {
    // What one has more than the other is inserted.
    guard abs(a.count - b.count) <= most else { return nil }
    guard !a.isEmpty, !b.isEmpty else { return max(a.count, b.count) }
    // The rows for a letter of `a` and for the two before it, in turns.
    let width = b.count + 1
    var rows = Array(0..<width) + [Int](repeating: 0, count: 2 * width)
    var (before, previous, row) = (2 * width, 0, width)
    var lastLeast = 0
    for i in 1...a.count {
        rows[row] = i
        var least = i
        for j in 1...b.count {
            let cost = a[i - 1] == b[j - 1] ? 0 : 1
            var distance = min(rows[previous + j] + 1, rows[row + j - 1] + 1, rows[previous + j - 1] + cost)
            if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                distance = min(distance, rows[before + j - 2] + 1)
            }
            rows[row + j] = distance
            least = min(least, distance)
        }
        // Each row follows from the two before it and is never less than both.
        guard min(least, lastLeast) <= most else { return nil }
        lastLeast = least
        (before, previous, row) = (previous, row, before)
    }
    let distance = rows[previous + b.count]
    return distance <= most ? distance : nil
}
