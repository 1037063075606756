import AegisCore
import Testing

@testable import AegisSecrets

/// The definition, as slowly as it can be written: every byte of every occurrence is covered, every run is one marker.
private func naive(_ text: [UInt8], _ values: [[UInt8]]) -> [UInt8] {
    var covered = [Bool](repeating: false, count: text.count)
    for value in values where value.count >= 4 && value.count <= text.count {
        for start in 0...(text.count - value.count) where Array(text[start..<start + value.count]) == value {
            for index in start..<start + value.count { covered[index] = true }
        }
    }
    var out: [UInt8] = []
    for index in text.indices {
        if !covered[index] {
            out.append(text[index])
        } else if index == 0 || !covered[index - 1] {
            out += Array("***".utf8)
        }
    }
    return out
}

private func masked(_ chunks: [[UInt8]], _ values: [[UInt8]]) -> [UInt8] {
    var stream = SecretMaskStream(SecretMask(values.map { Secret($0) }))
    var out: [UInt8] = []
    for chunk in chunks { stream.write(chunk, into: &out) }
    stream.finish(into: &out)
    return out
}

private func masked(_ text: String, _ values: [String]) -> String {
    String(decoding: masked([Array(text.utf8)], values.map { Array($0.utf8) }), as: UTF8.self)
}

@Suite struct SecretMaskTests {
    @Test(
        arguments: [
            ("key=hunter22 end", ["hunter22"], "key=*** end"), ("hunter22hunter22", ["hunter22"], "***"),
            ("hunter22", ["hunter22"], "***"), ("hunter2", ["hunter22"], "hunter2"), ("", ["hunter22"], ""),
            ("abcdef", ["abcd", "cdef"], "***"), ("xabcdex", ["bcde", "abcdef"], "xa***x"),
            ("aaaaaaa", ["aaaa"], "***"),
            ("abc abcd", ["abc", "abcd"], "abc ***"), ("plain", [], "plain"), ("abcdeabcdf", ["abcdf"], "abcde***"),
            ("one\ntwo\nthree", ["one\ntwo"], "***\nthree"),
            ("xxsecretAyysecretBzz", ["secretA", "secretB"], "xx***yy***zz"),
        ] as [(String, [String], String)])
    func masks(_ text: String, _ values: [String], _ expected: String) { #expect(masked(text, values) == expected) }

    @Test func anyBytesAreValues() {
        #expect(masked([[0xff, 0, 0xfe, 0x80, 7, 9]], [[0, 0xfe, 0x80, 7]]) == [0xff, 0x2a, 0x2a, 0x2a, 9])
    }

    @Test func valuesThatComeLaterAreFoundInWhatIsHeldBack() {
        func run(_ parts: [(mask: [String], text: String)]) -> String {
            var stream = SecretMaskStream(SecretMask([]))
            var out: [UInt8] = []
            for part in parts {
                stream.change(to: SecretMask(part.mask.map { Secret(Array($0.utf8)) }))
                stream.write(Array(part.text.utf8), into: &out)
            }
            stream.finish(into: &out)
            return String(decoding: out, as: UTF8.self)
        }
        #expect(
            run([([], "old new "), (["old1"], "old1 new1 "), (["old1", "new1"], "old1 new1")])
                == "old new *** new1 *** ***")
        // Held back for one value, it may be the beginning of another.
        #expect(run([(["abcdef"], "xabc"), (["abcdef", "bcxy"], "xy.")]) == "xa***.")
        #expect(run([(["abcdef"], "xabc"), (["abcdef", "bcxy"], "def.")]) == "x***.")
        // The beginning of a value is out, its rest is held back for another one.
        #expect(run([(["abcdef", "defghi"], "abcdef"), (["abcdef", "defghi", "zzzz"], "g.")]) == "***g.")
        #expect(run([(["abcdef", "defghi"], "abcdefg"), (["abcdef", "defghi", "zzzz"], ".")]) == "***g.")
    }

    @Test func aChangeToTheSameValuesChangesNothingHoweverTheStreamIsCut() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2000 {
            func word(_ length: Int) -> [UInt8] { (0..<length).map { _ in UInt8.random(in: 97...98, using: &random) } }
            let values = (0..<3).map { _ in word(Int.random(in: 4...7, using: &random)) }
            let text = word(40)
            var stream = SecretMaskStream(SecretMask(values.map { Secret($0) }))
            var out: [UInt8] = []
            for byte in text {
                stream.write([byte], into: &out)
                if Bool.random(using: &random) { stream.change(to: SecretMask(values.map { Secret($0) })) }
            }
            stream.finish(into: &out)
            #expect(out == naive(text, values))
        }
    }

    /// Small alphabets make overlaps, shared starts and near misses; chunks are cut anywhere.
    @Test func equalsTheNaiveDefinitionHoweverTheStreamIsCut() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<3000 {
            let letters = UInt8.random(in: 2...4, using: &random)
            func word(_ length: Int) -> [UInt8] {
                (0..<length).map { _ in 97 + UInt8.random(in: 0..<letters, using: &random) }
            }
            let values = (0..<Int.random(in: 0...6, using: &random)).map { _ in
                word(Int.random(in: 1...9, using: &random))
            }
            let text = word(Int.random(in: 0...120, using: &random))
            var chunks: [[UInt8]] = []
            var rest = text[...]
            while !rest.isEmpty {
                let count = Int.random(in: 0...min(12, rest.count), using: &random)
                chunks.append(Array(rest.prefix(count)))
                rest = rest.dropFirst(count)
            }
            let got = masked(chunks, values)
            #expect(got == naive(text, values), "text \(text), values \(values), chunks \(chunks.map(\.count))")
        }
    }

    @Test func onlyWhatMayBecomeAValueIsHeldBack() {
        var stream = SecretMaskStream(SecretMask([secret("password"), secret("swordfish")]))
        var out: [UInt8] = []
        func write(_ text: String) -> String {
            out.removeAll()
            stream.write(text.utf8, into: &out)
            return String(decoding: out, as: UTF8.self)
        }
        #expect(write("hello ") == "hello " && stream.heldCount == 0)
        #expect(write("pas") == "" && stream.heldCount == 3)
        #expect(write("sword") == "" && stream.heldCount == 8, "it has become a value, and may go on as swordfish")
        #expect(write("fis") == "***" && stream.heldCount == 8)
        #expect(write("X") == "fisX" && stream.heldCount == 0)
        #expect(write("passw") == "")
        out.removeAll()
        stream.finish(into: &out)
        #expect(out == Array("passw".utf8) && stream.heldCount == 0)
        #expect(write("ord") == "ord", "after finish the stream starts anew")
    }

    @Test func shortValuesPassAndAnEmptyMaskIsEmpty() {
        #expect(SecretMask([secret("abc"), Secret([])]).isEmpty)
        #expect(!SecretMask([secret("abcd")]).isEmpty)
        #expect(masked("abc 12", ["abc", "12"]) == "abc 12")
    }

    @Test func aMaskDoesNotShowItsValues() {
        let mask = SecretMask([secret("canary-value")])
        var dumped = ""
        dump(mask, to: &dumped)
        #expect("\(mask)" == "•••" && !String(reflecting: mask).contains("canary") && !dumped.contains("99"))
    }

    /// Work is counted, not timed: each byte steps once and falls back at most as often as it went forward.
    @Test func manyLongValuesThatAlmostMatchAreFoundAtTheEnd() {
        let tail = [UInt8](repeating: 97, count: 5000)
        let values = (0..<100).map { tail + [98, UInt8($0)] }
        let text = [UInt8](repeating: 97, count: 20_000) + [98, 42]
        #expect(masked([text], values) == [UInt8](repeating: 97, count: 15_000) + Array("***".utf8))
    }
}
