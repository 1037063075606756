import AegisCore
import AegisSecrets
import Testing

@Suite struct EncodedMaskTests {
    private static func masked(_ text: [UInt8], _ values: [[UInt8]], cuts: [Int] = [], isLive: Bool = false) -> [UInt8]
    {
        var stream = EncodedMaskStream(EncodedMask(values.map { Secret($0) }), isLive: isLive)
        var out: [UInt8] = []
        var start = 0
        for cut in cuts + [text.count] {
            stream.write(text[start..<cut], into: &out)
            start = cut
        }
        stream.finish(into: &out)
        return out
    }

    private static func masked(_ text: String, _ value: String = "s3cr+t/V@lue") -> String {
        String(decoding: masked(Array(text.utf8), [Array(value.utf8)]), as: UTF8.self)
    }

    @Test func everySpellingIsFound() {
        for (text, expected) in [
            ("x s3cr+t/V@lue y", "x ************ y"),
            ("k=s3cr%2Bt%2FV%40lue&z", "k=******************&z"),
            ("k=s3cr%2bt/V%40lue&z", "k=****************&z"),
            (#"{"k":"s3cr+t\/V@lue"}"#, #"{"k":"*************"}"#),
            (#"{"k":"\u0073\u0033cr+t\u002fV@lue"}"#, #"{"k":"***************************"}"#),
            ("%73%33%63%72%2b%74%2f%56%40%6c%75%65", "************************************"),
            // What only looks like it stays.
            ("s3cr+t/V@lu s3cr%2Bt%2FV%40luf %zz \\q", "s3cr+t/V@lu s3cr%2Bt%2FV%40luf %zz \\q"),
            ("s3s3cr+t/V@luelue", "s3************lue"),
        ] {
            #expect(Self.masked(text) == expected)
        }
        #expect(Self.masked("a+b%20c+d", "a b c d") == "*********")
        #expect(Self.masked("%%41BCDEFGH%", "ABCDEFGH") == "%**********%")
        #expect(Self.masked(#"\\n"#, "abcd") == #"\\n"#)
        #expect(Self.masked(#"\ud83d\ude00key"#, "😀key") == "***************")
    }

    @Test func base64IsFoundWhereverItBegins() {
        let value = Array("s3cr+t/V@lue".utf8)
        for before in 0...7 {
            for after in 0...3 {
                let plain = [UInt8](repeating: 0x7e, count: before) + value + [UInt8](repeating: 0x7e, count: after)
                let text = Base64.encode(plain)
                let out = Self.masked(text, [value])
                // What a value decides alone is gone: all but what it shares with its neighbours.
                let stars = out.count { $0 == EncodedMask.star }
                #expect(stars >= value.count * 8 / 6 - 2, "\(before) \(after)")
                let left = Base64.decode(out.map { $0 == EncodedMask.star ? 65 : $0 }) ?? []
                #expect(zip(left, plain).dropFirst(before).prefix(value.count).count { $0 == $1 } <= 3)
                let url = text.map { $0 == 43 ? 45 : $0 == 47 ? 95 : $0 }
                #expect(Self.masked(url, [value]).count { $0 == EncodedMask.star } == stars)
                var lines: [UInt8] = []
                for (index, letter) in text.enumerated() { lines += index % 7 == 6 ? [letter, 13, 10] : [letter] }
                #expect(Self.masked(lines, [value]).count { $0 == EncodedMask.star } >= stars)
            }
        }
    }

    @Test func cutsChangeNothing() {
        var random = SystemRandomNumberGenerator()
        let letters = Array(#"ab+/ %2B\u0061"Q=&-_"#.utf8) + [10, 13]
        for round in 0..<400 {
            let value = (0..<Int.random(in: 4...14, using: &random)).map { _ in letters.randomElement(using: &random)! }
            var text: [UInt8] = []
            for _ in 0..<12 {
                switch Int.random(in: 0..<6, using: &random) {
                case 0: text += value
                case 1: text += value.flatMap { Array("%".utf8) + hex($0) }
                case 2: text += value.flatMap { Array(#"\u00"#.utf8) + hex($0) }
                case 3: text += Base64.encode([7, 8] + value)
                case 4: text += value.prefix(Int.random(in: 0...value.count, using: &random))
                default: text += (0..<9).map { _ in letters.randomElement(using: &random)! }
                }
            }
            let whole = Self.masked(text, [value])
            #expect(whole.count == text.count)
            let cuts = (0..<Int.random(in: 0...20, using: &random)).map { _ in
                Int.random(in: 0...text.count, using: &random)
            }.sorted()
            #expect(Self.masked(text, [value], cuts: cuts) == whole, "round \(round): \(value) \(text) \(cuts)")
            #expect(!contains(whole, value), "round \(round): \(value) in \(text)")
            #expect(Self.masked(text, [value], cuts: Array(0...text.count)) == whole)
        }
    }

    private func hex(_ byte: UInt8) -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        return [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    }

    private func contains(_ text: [UInt8], _ value: [UInt8]) -> Bool {
        guard text.count >= value.count else { return false }
        // A value of stars could not be told from what hides it.
        return (0...text.count - value.count).contains { Array(text[$0..<$0 + value.count]) == value }
    }

    @Test func whatIsHeldBackHasABound() {
        let value = Array("abcdefghijklmnop".utf8)
        var stream = EncodedMaskStream(EncodedMask([Secret(value)]))
        var out: [UInt8] = []
        for piece in [#"\u0061\u0062\u0063"#, "\r\n\r\n", "a\nb\nc\n", "%61%62", "YWJjZGVm\n", "Z2hp\r\n\r\n\r\n"] {
            for _ in 0..<2000 { stream.write(Array(piece.utf8)[...], into: &out) }
            #expect(stream.heldCount <= 12 * 24, "\(piece)")
        }
    }

    @Test func liveStreamsAreNotHeldForALetter() {
        let value = Array("secret-value".utf8)
        var stream = EncodedMaskStream(EncodedMask([Secret(value)]), isLive: true)
        var out: [UInt8] = []
        stream.write(Array("data: classes".utf8)[...], into: &out)
        #expect(String(decoding: out, as: UTF8.self) == "data: classes")
        stream.write(Array("ecret-value\n\n".utf8)[...], into: &out)
        #expect(String(decoding: out, as: UTF8.self) == "data: classes***********\n\n")
        stream.write(Array("data: secr".utf8)[...], into: &out)
        #expect(stream.heldCount == 4)
    }

    @Test func shortAndMissingValuesDoNothing() {
        #expect(Self.masked("abcabc", "abc") == "abcabc")
        #expect(EncodedMask([]).isEmpty)
        #expect(Self.masked("anything", "") == "anything")
        #expect("\(EncodedMask([Secret(Array("secret".utf8))]))" == "•••")
    }

    @Test func base64TextsAreReadAndWritten() {
        for count in 0...20 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 97 &+ 131) }
            let text = Base64.encode(bytes)
            #expect(Base64.decode(text) == bytes)
            #expect(Base64.decode(text.filter { $0 != 61 }) == bytes)
        }
        #expect(String(decoding: Base64.encode(Array("user:pass".utf8)), as: UTF8.self) == "dXNlcjpwYXNz")
        #expect(Base64.decode(Array("a".utf8)) == nil && Base64.decode(Array("a b=".utf8)) == nil)
    }
}
