/// The output of a program, of which the beginning and the end are kept.
package struct BoundedOutput: Sendable, Hashable {
    private let headLimit: Int
    private let tailLimit: Int
    private var head: [UInt8] = []
    /// Twice as long as it may be at most, so that not every piece moves all of it.
    private var tail: [UInt8] = []
    /// Bytes in all.
    package private(set) var total = 0

    /// Keeps so many bytes.
    package init(head: Int = 8 << 10, tail: Int = 24 << 10) {
        headLimit = head
        tailLimit = tail
    }

    /// Takes what comes next.
    package mutating func append(_ bytes: some Collection<UInt8>) {
        total += bytes.count
        let first = bytes.prefix(headLimit - head.count)
        head.append(contentsOf: first)
        let rest = bytes.dropFirst(first.count)
        tail.append(contentsOf: rest.suffix(tailLimit))
        if tail.count > 2 * tailLimit { tail.removeFirst(tail.count - tailLimit) }
    }

    /// The text, as a model reads it.
    package struct Shown: Sendable, Hashable {
        /// Beginning and end, with a note between them where something is missing.
        package var text: String
        /// Bytes that are missing.
        package var cut: Int
        /// Whether it is no UTF-8: then what cannot be read stands as U+FFFD.
        package var isDamaged: Bool
    }

    /// What was kept.
    package var shown: Shown {
        var end = tail.suffix(tailLimit)
        guard head.count + end.count < total else {
            return Self.text(head + end).map { Shown(text: $0, cut: 0, isDamaged: false) }
                ?? Shown(text: String(decoding: head + end, as: UTF8.self), cut: 0, isDamaged: true)
        }
        // A character that the cut goes through is left out on both sides.
        let start = Self.withoutPart(head[...])
        for _ in 0..<3 where end.first.map({ $0 & 0xc0 == 0x80 }) == true { end.removeFirst() }
        let cut = total - start.count - end.count
        let isDamaged = Self.text(start) == nil || Self.text(end) == nil
        let note = "\n[... \(cut) bytes are left out here ...]\n"
        return Shown(
            text: String(decoding: start, as: UTF8.self) + note + String(decoding: end, as: UTF8.self), cut: cut,
            isDamaged: isDamaged)
    }

    /// Bytes without the beginning of a character at their end.
    private static func withoutPart(_ bytes: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        for back in 1...3 where back <= bytes.count {
            let byte = bytes[bytes.endIndex - back]
            if byte & 0xc0 == 0x80 { continue }
            let length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1
            return length > back ? bytes.dropLast(back) : bytes
        }
        return bytes
    }

    private static func text(_ bytes: some Collection<UInt8>) -> String? {
        String(validating: bytes, as: UTF8.self)
    }
}
