/// Times of one thing, measured many times, in milliseconds.
struct Samples: Sendable {
    private(set) var values: [Double] = []

    mutating func add(_ value: Double) { values.append(value) }

    /// The value below which a share of the samples lies (nearest rank).
    func percentile(_ share: Double) -> Double {
        guard !values.isEmpty else { return .nan }
        let sorted = values.sorted()
        return sorted[
            min(
                sorted.count - 1,
                Int((Double(sorted.count) * share).rounded(.up)) - 1 < 0
                    ? 0 : Int((Double(sorted.count) * share).rounded(.up)) - 1)]
    }
    var p50: Double { percentile(0.5) }
    var p99: Double { percentile(0.99) }
}

/// A number with two or, when it is large, fewer digits.
func short(_ value: Double) -> String {
    guard value.isFinite else { return "–" }
    let factor = value >= 100 ? 1.0 : value >= 10 ? 10.0 : 100.0
    let rounded = (value * factor).rounded() / factor
    return rounded == rounded.rounded() && value >= 100 ? "\(Int(rounded))" : "\(rounded)"
}

/// One table of results, as Markdown.
struct ResultTable: Sendable {
    var title: String
    var note: String
    var head: [String]
    var rows: [[String]] = []

    var markdown: String {
        let line = { (cells: [String]) in "| " + cells.joined(separator: " | ") + " |" }
        let rule = "|" + head.map { _ in "---" }.joined(separator: "|") + "|"
        return (["## \(title)", "", note, "", line(head), rule] + rows.map(line)).joined(separator: "\n") + "\n"
    }
}
