/// Looks at eight bytes at a time: most of what a relay does with a head is to look for the end of each line.
extension ASCII {
    private static let ones: UInt64 = 0x0101_0101_0101_0101
    private static let tops: UInt64 = 0x8080_8080_8080_8080

    /// The top bit of every byte that is 0, up to the first one: what is above it may be wrong.
    @inline(always)
    private static func zeros(_ word: UInt64) -> UInt64 { (word &- ones) & ~word & tops }

    /// Eight bytes, the first one lowest.
    @inline(always)
    private static func word(_ bytes: Span<UInt8>, at index: Int) -> UInt64 {
        // SAFETY: the callers see to it that eight bytes are there.
        unsafe bytes.bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: index, as: UInt64.self).littleEndian
    }

    /// The position of the first line feed at or after `start`.
    static func firstLineFeed(_ bytes: Span<UInt8>, from start: Int) -> Int? {
        var index = start
        while bytes.count - index >= 8 {
            let found = zeros(word(bytes, at: index) ^ (ones &* UInt64(lineFeed)))
            if found != 0 { return index + found.trailingZeroBitCount / 8 }
            index += 8
        }
        while index < bytes.count {
            if bytes[index] == lineFeed { return index }
            index += 1
        }
        return nil
    }

    /// Whether a range consists of what a field value may hold.
    static func isFieldValue(_ bytes: Span<UInt8>, _ range: Range<Int>) -> Bool {
        precondition(range.lowerBound >= 0 && range.upperBound <= bytes.count, "a range outside the bytes")
        var index = range.lowerBound
        while range.upperBound - index >= 8 {
            let word = word(bytes, at: index)
            // A byte below 32, or 127; a tab is below 32, so each byte is looked at then.
            let suspects = ((word &- ones &* 32) & ~word & tops) | zeros(word ^ (ones &* 127))
            if suspects != 0 {
                for offset in index..<(index + 8) where !isFieldValue(bytes[offset]) { return false }
            }
            index += 8
        }
        while index < range.upperBound {
            if !isFieldValue(bytes[index]) { return false }
            index += 1
        }
        return true
    }

    /// Eight bytes with their capital letters made small.
    @inline(always)
    private static func lowercased(_ word: UInt64) -> UInt64 {
        let low = word & ~tops
        let capitals = (low &+ ones &* (128 - 65)) & ~(low &+ ones &* (128 - 91)) & ~word & tops
        return word | capitals >> 2
    }

    /// Whether the bytes at a place are a text in lower case; the bytes' case does not matter.
    static func isWord(_ bytes: Span<UInt8>, at start: Int, _ text: Span<UInt8>) -> Bool {
        precondition(start >= 0 && text.count <= bytes.count - start, "a range outside the bytes")
        var offset = 0
        while text.count - offset >= 8 {
            guard lowercased(word(bytes, at: start + offset)) == word(text, at: offset) else { return false }
            offset += 8
        }
        while offset < text.count {
            guard lowercased(bytes[start + offset]) == text[offset] else { return false }
            offset += 1
        }
        return true
    }

    /// Whether bytes are a word, which must be given in lower case; the bytes' case does not matter.
    @inline(always)
    static func equal(_ bytes: Span<UInt8>, _ word: StaticString) -> Bool {
        HTTPText.equal(bytes, bytes.indices, word)
    }
}
