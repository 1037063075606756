/// A text that another one must contain; `*` stands for anything, and what it stood for is kept.
///
/// At the beginning `*` reaches back to the text's beginning, at the end to its end; in between it takes as little as it can.
struct TextPattern: Sendable, Hashable {
    /// The pattern as it was written.
    let source: String
    private let pieces: [String]

    init(_ source: String) {
        self.source = source
        pieces = source.split(separator: "*", omittingEmptySubsequences: false).map(String.init)
    }

    /// How many `*` it has.
    var wildcards: Int { pieces.count - 1 }

    /// What each `*` stood for; nil when the text does not fit.
    func match(_ text: String) -> [String]? {
        let bytes = Array(text.utf8)
        var captures: [String] = []
        var at = 0
        for (index, piece) in pieces.enumerated() {
            let piece = Array(piece.utf8)
            let isLast = index == pieces.count - 1
            // Only what follows a final `*` is empty on purpose: it takes the rest.
            let found = piece.isEmpty && isLast && index > 0 ? bytes.count : Self.find(piece, in: bytes, from: at)
            guard let found else { return nil }
            if index > 0 { captures.append(String(decoding: bytes[at..<found], as: UTF8.self)) }
            at = found + piece.count
        }
        return captures
    }

    private static func find(_ piece: [UInt8], in bytes: [UInt8], from start: Int) -> Int? {
        guard !piece.isEmpty else { return start }
        var at = start
        while at + piece.count <= bytes.count {
            if bytes[at] == piece[0], bytes[at..<at + piece.count].elementsEqual(piece) { return at }
            at += 1
        }
        return nil
    }
}
