/// The fields of a section that lies in somebody's buffer, as offsets from the section's first byte.
package struct HTTPFieldTable: Sendable {
    var fields: [HTTPHeaders.Field] = []
    /// Where the empty line begins that ends the section.
    package internal(set) var end = 0

    /// Number of fields.
    package var count: Int { fields.count }
    /// Where a field's name is.
    package func name(_ index: Int) -> Range<Int> { fields[index].name }
    /// Where a field's value is, without blanks around it.
    package func value(_ index: Int) -> Range<Int> { fields[index].value }
    /// A field's whole line with its end.
    package func line(_ index: Int) -> Range<Int> {
        let next = index + 1 < fields.count ? Int(fields[index + 1].nameStart) : end
        return Int(fields[index].nameStart)..<next
    }

    /// The position of the first field with a name (in lower case) at or after `start`.
    package func position(of name: StaticString, in bytes: Span<UInt8>, from start: Int = 0) -> Int? {
        for index in start..<max(start, fields.count) where HTTPText.equal(bytes, fields[index].name, name) {
            return index
        }
        return nil
    }

    /// The value of the first field with a name (in lower case), as text.
    package func text(_ name: StaticString, in bytes: Span<UInt8>) -> String? {
        position(of: name, in: bytes).map { String(copying: bytes.extracting(value($0))) }
    }
}

/// Comparisons on bytes, without strings.
package enum HTTPText {
    /// Whether the bytes of a range are a word, which must be given in lower case; the bytes' case does not matter.
    package static func equal(_ bytes: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
        guard range.count == word.utf8CodeUnitCount else { return false }
        // SAFETY: the text of a static string lives as long as the program, and the counts are the same.
        let text = unsafe Span(_unsafeStart: word.utf8Start, count: word.utf8CodeUnitCount)
        return ASCII.isWord(bytes, at: range.lowerBound, text)
    }

    /// Whether the bytes of a range begin with a word in lower case.
    package static func hasPrefix(_ bytes: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard range.count >= count else { return false }
        return equal(bytes, range.lowerBound..<(range.lowerBound + count), word)
    }

    /// Whether a comma-separated value in a range has an element, compared without case.
    package static func contains(_ bytes: Span<UInt8>, _ range: Range<Int>, element: Span<UInt8>) -> Bool {
        var found = false
        HTTPControlFields.elements(bytes.extracting(range)) { if ASCII.equal($0, element) { found = true } }
        return found
    }

    /// Whether a range of bytes contains a word (in lower case) anywhere.
    package static func mentions(_ bytes: Span<UInt8>, _ range: Range<Int>, _ word: StaticString) -> Bool {
        let count = word.utf8CodeUnitCount
        guard range.count >= count else { return false }
        for start in range.lowerBound...(range.upperBound - count)
        where equal(bytes, start..<(start + count), word) { return true }
        return false
    }

    /// The text of a range; what is not UTF-8 is repaired.
    package static func string(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
        String(copying: bytes.extracting(range))
    }
}
