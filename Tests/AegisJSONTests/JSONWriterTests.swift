import Testing

@testable import AegisJSON

/// The text of values, against one that is put together a character at a time.
struct JSONWriterTests {
    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case 0x22: out += #"\""#
            case 0x5c: out += #"\\"#
            case 10: out += #"\n"#
            case 13: out += #"\r"#
            case 9: out += #"\t"#
            case 0..<0x20, 0x7f..<0xa0:
                let digits = String(scalar.value, radix: 16)
                out += #"\u"# + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }

    private static func compact(_ value: JSONValue) -> String {
        switch value {
        case .null: "null"
        case .bool(let flag): flag ? "true" : "false"
        case .number(let text): text
        case .string(let text): quoted(text)
        case .array(let elements): "[" + elements.map(compact).joined(separator: ",") + "]"
        case .object(let fields):
            "{" + fields.map { quoted($0.name) + ":" + compact($0.value) }.joined(separator: ",") + "}"
        }
    }

    private static func check(_ value: JSONValue) {
        let written = String(decoding: value.compact, as: UTF8.self)
        #expect(Array(written.utf8) == value.compact && written == compact(value))
        #expect((try? JSONValue(parsing: value.compact)) == value)
    }

    /// Every character that is treated by itself, at every place of the eight that are looked at together.
    @Test func everyCharacterIsWrittenAtEveryPlace() {
        let scalars =
            (0..<0x180).compactMap { Unicode.Scalar($0 as UInt32) } + ["\u{7ff}", "\u{800}", "\u{2028}", "\u{10ffff}"]
        for scalar in scalars {
            for place in 0..<9 {
                let text = String(repeating: "a", count: place) + String(scalar) + "bcdefghij"
                #expect(String(decoding: JSONValue.string(text).compact, as: UTF8.self) == Self.quoted(text))
            }
        }
    }

    /// Pieces of long texts end between two characters, wherever those are.
    @Test func longTextsAreWrittenWhole() {
        for length in [590, 599, 600, 601, 700, 1200, 5000, 70_000] {
            for unit in ["x", "\"", "\u{85}", "é", "€", "😀", "\u{c2}\u{a0}\n"] {
                for shift in 0..<4 {
                    Self.check(.string(String(repeating: "-", count: shift) + String(repeating: unit, count: length)))
                }
            }
        }
    }

    /// Values of every shape and size, those about the length among them from which on they are written in parts.
    @Test func valuesOfEveryShapeAreWritten() {
        var random = SystemRandomNumberGenerator()
        func text() -> String {
            let pool: [Unicode.Scalar] = [
                "a", "Z", "0", " ", "\"", "\\", "\n", "\u{1}", "\u{7f}", "\u{9f}", "\u{c2}", "ß", "€", "😀",
            ]
            var text = ""
            for _ in 0..<Int.random(in: 0...(Bool.random(using: &random) ? 12 : 300), using: &random) {
                text.unicodeScalars.append(pool.randomElement(using: &random) ?? "a")
            }
            return text
        }
        func value(_ depth: Int) -> JSONValue {
            switch Int.random(in: 0..<(depth > 0 ? 7 : 5), using: &random) {
            case 0: .null
            case 1: .bool(Bool.random(using: &random))
            case 2: .number("\(Int.random(in: -9_999...9_999, using: &random))")
            case 3, 4: .string(text())
            case 5: .array((0..<Int.random(in: 0..<12, using: &random)).map { _ in value(depth - 1) })
            default:
                .object(
                    (0..<Int.random(in: 0..<12, using: &random)).map {
                        JSONValue.Field("\($0)" + text(), value(depth - 1))
                    })
            }
        }
        for _ in 0..<300 { Self.check(value(4)) }
        Self.check(.array((0..<2000).map { .number("\($0)") }))
        Self.check(.array((0..<900).map { _ in .array([]) }))
    }
}
