import Testing

@testable import AegisWire

/// What looks at eight bytes at a time must say the same as what looks at each.
struct ASCIIWordsTests {
    /// Every byte value at every place of a text, so that it comes to lie in each place of a word and behind the last one.
    private func everywhere(_ text: String, _ body: ([UInt8]) -> Void) {
        let base = Array(text.utf8)
        for position in base.indices {
            for byte in UInt8.min...UInt8.max {
                var bytes = base
                bytes[position] = byte
                body(bytes)
            }
        }
    }

    private func lineFeed(_ bytes: [UInt8], from start: Int = 0) -> Int? {
        ASCII.firstLineFeed(bytes.span, from: start)
    }
    private func isValue(_ bytes: [UInt8], _ range: Range<Int>) -> Bool { ASCII.isFieldValue(bytes.span, range) }
    private func same(_ bytes: [UInt8], _ word: StaticString) -> Bool { ASCII.equal(bytes.span, word) }

    @Test func findsTheFirstLineFeed() {
        for text in ["", "a", "1234567", "12345678", "0123456789abcdefghi"] {
            everywhere(text) { bytes in
                for start in 0...bytes.count {
                    let expected = bytes[start...].firstIndex(of: 10)
                    #expect(lineFeed(bytes, from: start) == expected)
                }
            }
        }
        let two: [UInt8] = [1, 11, 10, 10, 9, 11, 138, 10, 0]
        #expect(lineFeed(two) == 2)
        #expect(lineFeed(two, from: 4) == 7)
        // A byte behind a match, and one that differs from a line feed in its top bit alone.
        let high: [UInt8] = [138, 138, 138, 138, 138, 138, 138, 138, 10, 11]
        #expect(lineFeed(high) == 8)
    }

    @Test func tellsFieldValues() {
        for text in ["", "v", "text/ht", "text/html", "a\tb and \u{e4}\u{f6} \tmore of it"] {
            everywhere(text) { bytes in
                let expected = bytes.allSatisfy { ASCII.isFieldValue($0) }
                #expect(isValue(bytes, 0..<bytes.count) == expected)
            }
        }
        // Only the range counts.
        let edges: [UInt8] = [0, 65, 66, 67, 68, 69, 70, 71, 72, 73, 127]
        #expect(isValue(edges, 1..<10))
        #expect(!isValue(edges, 0..<10))
        #expect(!isValue(edges, 1..<11))
    }

    @Test func comparesWithoutCase() {
        func each(_ word: StaticString) {
            let expected = word.withUTF8Buffer { unsafe Array($0) }
            everywhere(word.description) { bytes in
                #expect(same(bytes, word) == (bytes.map { ASCII.lowercased($0) } == expected))
            }
            #expect(same(Array(word.description.uppercased().utf8), word))
            #expect(!same(expected + [97], word))
            #expect(!same(expected.dropLast(), word))
        }
        each("host")
        each("upgrade")
        each("trailers")
        each("connection")
        each("100-continue")
        each("transfer-encoding")
    }

    @Test func tellsTokens() {
        let special = Array("!#$%&'*+-.^_`|~".utf8)
        for byte in UInt8.min...UInt8.max {
            let isLetter = (65...90).contains(byte) || (97...122).contains(byte)
            #expect(ASCII.isToken(byte) == (isLetter || (48...57).contains(byte) || special.contains(byte)))
        }
    }
}
