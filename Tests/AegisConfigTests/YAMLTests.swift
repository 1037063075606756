import Testing

@testable import AegisConfig

private func parse(_ text: String, _ change: (inout YAMLLimits) -> Void = { _ in }) throws -> ConfigNode? {
    var limits = YAMLLimits()
    change(&limits)
    return try YAML.parse(Array(text.utf8), file: "f", limits: limits)
}

/// The values without their places.
private func plain(_ node: ConfigNode?) -> String {
    switch node?.content {
    case nil: "-"
    case .scalar(let text, _): text
    case .list(let items): "[\(items.map { plain($0) }.joined(separator: ","))]"
    case .map(let entries): "{\(entries.map { "\($0.key):\(plain($0.value))" }.joined(separator: ","))}"
    }
}

@Suite struct YAMLTests {
    @Test(arguments: [
        ("a: 1\nb: [x, 'y']\n", "{a:1,b:[x,y]}"), ("", "-"), ("# nothing", "-"), ("---\n", "-"),
        ("just text", "just text"),
        ("a: |\n  two\n  lines\n", "{a:two\nlines\n}"), ("a: &x [1, 2]\nb: *x\n", "{a:[1,2],b:[1,2]}"),
        ("a: \"\"", "{a:}"),
        ("%YAML 1.2\n---\na: ünï\n", "{a:ünï}"), ("a: \"nul\\0\"", "{a:nul\0}"), ("&k a: *k", "{a:a}"),
    ])
    func reads(_ text: String, _ expected: String) throws { #expect(plain(try parse(text)) == expected) }

    @Test func valuesKnowTheirPlace() throws {
        guard case .map(let entries) = try parse("ä: 1\nlist:\n  - é: x\n")?.content,
            case .list(let items) = entries[1].value.content
        else {
            Issue.record("a map with a list")
            return
        }
        #expect(entries[0].mark.description == "f:1:1" && entries[0].value.mark.description == "f:1:4")
        #expect(items[0].mark.description == "f:3:5")
    }

    @Test(arguments: [
        (
            "a: 1\na: 2\nb: 1\nb: 2\n",
            "f:2:1: key 'a' is there twice; first in line 1\nf:4:1: key 'b' is there twice; first in line 3"
        ),
        ("a: !!int 1", "f:1:4: the tag 'tag:yaml.org,2002:int' is not allowed; write the value alone"),
        (
            "a: !x {b: ! c}",
            "f:1:4: the tag '!x' is not allowed; write the value alone\nf:1:11: the tag '!' is not allowed; write the value alone"
        ),
        ("a: *b", "f:1:4: alias '*b' has no anchor '&b' before it"),
        ("a: &a [*a]", "f:1:8: alias '*a' has no anchor '&a' before it"),
        (
            "x: &x {a: 1}\ny:\n  <<: *x\n",
            "f:3:3: merge keys ('<<') are not supported; repeat the keys, or use an alias as a value"
        ),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document starts here; only one is read"),
        ("[a]: 1", "f:1:1: a key must be a text, not a list or a map"),
        ("a:\n\tb: 1\n", "f:2:1: not valid YAML: a tab cannot indent; use spaces"),
        ("a: b: c", "f:1:5: not valid YAML: mapping values are not allowed in this context"),
        ("a: [1, 2", "f:2:1: not valid YAML: did not find expected ',' or ']' while parsing a flow sequence"),
        ("a: \"x", "f:1:6: not valid YAML: found unexpected end of stream while scanning a quoted scalar"),
        ("a: 1\nb: \u{7}\n", "f:2:4: the file is not UTF-8 text: control characters are not allowed"),
    ])
    func refusesWithPlaceAndReason(_ text: String, _ expected: String) {
        let error = #expect(throws: ConfigErrors.self) { try parse(text) }
        #expect(error?.description == expected)
    }

    @Test func bytesThatAreNotUTF8AreRefused() {
        let error = #expect(throws: ConfigErrors.self) { try YAML.parse(Array("a: é\nb: ".utf8) + [0xff], file: "f") }
        #expect(error?.description == "f:2:4: the file is not UTF-8 text: invalid leading UTF-8 octet")
    }

    @Test func aliasesCannotMakeASmallFileLarge() {
        var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        for level in 1...20 {
            text += "a\(level): &a\(level) [\((0..<10).map { _ in "*a\(level - 1)" }.joined(separator: ", "))]\n"
        }
        let error = #expect(throws: ConfigErrors.self) { try parse(text) }
        #expect(error?.description.hasSuffix("more than 100000 values (aliases count as what they stand for)") == true)
    }

    @Test func depthSizeAndCountAreBounded() throws {
        let nested = { (depth: Int) in String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
        #expect(try parse(nested(64)) != nil)
        let deep = #expect(throws: ConfigErrors.self) { try parse(nested(65)) }
        #expect(deep?.description == "f:1:65: more than 64 lists and maps in each other")
        #expect(throws: ConfigErrors.self) { try parse(String(repeating: "[", count: 1_000_000)) }

        #expect(try parse("[a, b]") { $0.values = 3 } != nil)
        #expect(throws: ConfigErrors.self) { try parse("[a, b]") { $0.values = 2 } }
        let long = #expect(throws: ConfigErrors.self) { try parse("abcd") { $0.bytes = 3 } }
        #expect(long?.description == "f:1:1: the file has 4 bytes; at most 3 are read")
    }

    /// Whatever the bytes are, the parser ends and tells a place inside the text or gives values.
    @Test func damagedTextsNeverTrap() {
        var random = SystemRandomNumberGenerator()
        let seed = Array("a: &x [1, {b: \"c\"}]\nd: |\n  text\ne: *x\n? f\n: - g\n".utf8)
        for _ in 0..<3000 {
            var bytes = seed
            for _ in 0..<Int.random(in: 1...6, using: &random) {
                let at = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[at] = UInt8.random(in: .min ... .max, using: &random)
                case 1: bytes.remove(at: at)
                default: bytes.insert(seed[Int.random(in: 0..<seed.count, using: &random)], at: at)
                }
            }
            do throws(ConfigErrors) {
                _ = try YAML.parse(bytes, file: "f")
            } catch {
                #expect(!error.problems.isEmpty, "\(bytes)")
            }
        }
    }
}
