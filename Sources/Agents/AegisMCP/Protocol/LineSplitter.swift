/// Takes a stream of lines apart, whatever the pieces are in which it comes. Pure; what it holds is bounded by one line.
struct LineSplitter: Sendable {
    private let most: Int
    private var line: [UInt8] = []

    /// - Parameter most: the most bytes of a line.
    init(most: Int) { self.most = most }

    /// A line is longer than is taken; the stream cannot be read on.
    struct TooLong: Error, Sendable, Equatable {}

    /// Takes the next bytes.
    ///
    /// - Parameters:
    ///   - bytes: as many or as few as there are.
    ///   - body: gets each line that has become whole, without its end; empty ones are left out.
    /// - Throws: `TooLong`.
    mutating func feed(_ bytes: ArraySlice<UInt8>, _ body: (ArraySlice<UInt8>) -> Void) throws(TooLong) {
        var rest = bytes
        while let end = rest.firstIndex(of: 10) {
            guard end - rest.startIndex <= most - line.count else { throw TooLong() }
            if line.isEmpty {
                Self.give(rest[..<end], body)
            } else {
                line += rest[..<end]
                Self.give(line[...], body)
                line.removeAll(keepingCapacity: line.capacity <= 64 << 10)
            }
            rest = rest[(end + 1)...]
        }
        guard rest.count <= most - line.count else { throw TooLong() }
        line += rest
    }

    private static func give(_ line: ArraySlice<UInt8>, _ body: (ArraySlice<UInt8>) -> Void) {
        let whole = line.last == 13 ? line.dropLast() : line
        if !whole.isEmpty { body(whole) }
    }
}

/// The end of what a program says beside its messages.
struct TextTail: Sendable {
    private let most: Int
    private var bytes: [UInt8] = []

    /// - Parameter most: how many bytes are kept.
    init(most: Int) { self.most = most }

    mutating func append(_ piece: some Collection<UInt8>) {
        bytes += piece.suffix(most)
        if bytes.count > most { bytes.removeFirst(bytes.count - most) }
    }

    /// What is kept, without the line whose beginning is gone.
    var text: String {
        var shown = bytes[...]
        if bytes.count == most, let end = bytes.firstIndex(of: 10) { shown = bytes[(end + 1)...] }
        return String(decoding: shown, as: UTF8.self)
    }
}
