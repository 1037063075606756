internal import LinuxSys

/// Where lines and pieces of lines end in output that comes in chunks.
///
/// A line above 64 KiB is cut into pieces of exactly 64 KiB; the rest, up to its newline, is its last piece.
enum LinePhase {
    static let pieceBytes = 64 << 10

    /// A piece within a chunk.
    struct Piece: Equatable {
        var range: Range<Int>
        /// Whether a newline (not in the range) ended it; else it is a cut piece.
        var isLine: Bool
    }

    /// Calls `body` with each piece that ends in the chunk.
    ///
    /// - Parameters:
    ///   - bytes: the chunk.
    ///   - column: bytes of the current piece before the chunk.
    ///   - body: gets each piece.
    /// - Returns: bytes of the current piece after the chunk.
    static func scan(_ bytes: ArraySlice<UInt8>, column: Int, _ body: (Piece) -> Void) -> Int {
        var start = bytes.startIndex
        var filled = column
        while start < bytes.endIndex {
            let rest = bytes[start...]
            let newline = Newlines.first(in: rest.span).map { start + $0 }
            let end = newline ?? bytes.endIndex
            // A piece that is full is only cut when a further byte of the line follows.
            while filled + (end - start) > pieceBytes {
                let cut = start + pieceBytes - filled
                body(Piece(range: start..<cut, isLine: false))
                start = cut
                filled = 0
            }
            guard newline != nil else { return filled + (end - start) }
            body(Piece(range: start..<end, isLine: true))
            filled = 0
            start = end + 1
        }
        return filled
    }

    /// How many pieces end in the chunk.
    static func count(_ bytes: ArraySlice<UInt8>, column: Int) -> Int {
        if column + bytes.count <= pieceBytes { return Newlines.count(in: bytes.span) }
        var pieces = 0
        _ = scan(bytes, column: column) { _ in pieces += 1 }
        return pieces
    }

    /// The column after a chunk.
    static func column(after bytes: Span<UInt8>, from column: Int) -> Int {
        let filled = Newlines.last(in: bytes).map { bytes.count - $0 - 1 } ?? column + bytes.count
        // The same cutting rule as `scan`: full pieces stay until a byte follows.
        return filled <= pieceBytes ? filled : (filled - 1) % pieceBytes + 1
    }
}
