/// The known word nearest to a mistyped one, or nil when none is near enough to be what was meant.
package func nearest(_ word: String, in known: some Sequence<String>) -> String? {
    let word = Array(word.utf8)
    var best: (distance: Int, word: String)?
    for candidate in known {
        let distance = editDistance(word, Array(candidate.utf8))
        let shorter = min(word.count, candidate.utf8.count)
        // Whatever has two letters is near to anything.
        let limit = word.count < 3 ? 0 : max(1, shorter / 2)
        if distance <= limit, distance < best?.distance ?? .max { best = (distance, candidate) }
    }
    return best?.word
}

/// Optimal string alignment distance: insert, delete, replace and swap of neighbours count one each.
func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
    guard !a.isEmpty else { return b.count }
    guard !b.isEmpty else { return a.count }
    var before = [Int](repeating: 0, count: b.count + 1)
    var previous = Array(0...b.count)
    for i in 1...a.count {
        var row = [i] + [Int](repeating: 0, count: b.count)
        for j in 1...b.count {
            let cost = a[i - 1] == b[j - 1] ? 0 : 1
            row[j] = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + cost)
            if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] { row[j] = min(row[j], before[j - 2] + 1) }
        }
        (before, previous) = (previous, row)
    }
    return previous[b.count]
}
