import AegisRegex
import Testing

struct BoundedRegexTests {
    @Test(arguments: [
        ("a+", "caat", true), ("^a", "ba", false), ("ä", "xäx", true), ("", "", true), ("^$", "", true),
        ("x", "", false),
        (#"\d{3}"#, "ab123", true), ("A", "a", false),
    ])
    func finds(_ pattern: String, _ text: String, _ found: Bool) throws {
        #expect(try BoundedRegex(pattern).isFound(in: text) == found)
    }

    @Test func optionsChangeHowAPatternIsRead() throws {
        #expect(try BoundedRegex("STRASSE|Ä", options: .caseInsensitive).isFound(in: "ä"))
        #expect(try BoundedRegex("a.c(", options: .literal).isFound(in: "xa.c(y"))
        #expect(try BoundedRegex("a.c", options: [.literal, .caseInsensitive]).isFound(in: "A.C"))
        #expect(try !BoundedRegex("a.c", options: .literal).isFound(in: "abc"))
    }

    @Test func placesAreThoseOfTheSlice() throws {
        var matcher = BoundedRegex.Matcher(try BoundedRegex("b+"))
        let bytes = Array("abbcbbb".utf8)
        #expect(try matcher.first(in: bytes[...]) == 1..<3)
        #expect(try matcher.first(in: bytes[3...]) == 4..<7)
        #expect(try matcher.first(in: bytes[3..<4]) == nil)
        #expect(try matcher.first(in: []) == nil)
    }

    @Test func bytesThatAreNoTextAreTaken() throws {
        var matcher = BoundedRegex.Matcher(try BoundedRegex("b"))
        #expect(try matcher.first(in: [0xff, 0xfe, 0x62, 0x80]) == 2..<3)
    }

    @Test func whatCannotBeReadNamesThePlace() {
        let error = #expect(throws: RegexError.self) { try BoundedRegex("ab(c") }
        #expect(error?.kind == .syntax && error?.offset == 4)
        #expect(throws: RegexError.self) { try BoundedRegex(String(repeating: "a", count: BoundedRegex.longest + 1)) }
        #expect(throws: RegexError.self) { try BoundedRegex(#"\C"#) }
        #expect(throws: RegexError.self) { try BoundedRegex(String(repeating: "(", count: 400)) }
    }

    @Test(arguments: ["(a+)+$", "(a|aa)+$", "(?:a?){40}a{40}$"])
    func aCostlyPatternEndsWithAnError(_ pattern: String) throws {
        let text = String(repeating: "a", count: 60) + "!"
        let error = #expect(throws: RegexError.self) { try BoundedRegex(pattern).isFound(in: text) }
        #expect(error?.kind == .tooComplex)
    }

    /// Every step of this one goes over the whole text, and so their number bounds nothing.
    @Test(arguments: [BoundedRegex.Options.stoppable, [.stoppable, .caseInsensitive]])
    func aMatchIsStoppedInTheMiddle(_ options: BoundedRegex.Options) throws {
        var asked = 0
        var matcher = BoundedRegex.Matcher(try BoundedRegex("a*+[cd]", options: options)) {
            asked += 1
            return asked == 3
        }
        let text = [UInt8](repeating: 0x61, count: 16 << 20)
        let error = #expect(throws: RegexError.self) { _ = try matcher.first(in: text[...]) }
        #expect(error?.kind == .stopped && asked == 3)
        asked = 3
        #expect(try matcher.first(in: [0x61, 0x63]) == 0..<2)
    }

    /// What is asked takes room in the pattern: one that only fits without it is taken all the same.
    @Test(arguments: ["^(\\d{3},){0,2000}$", "^([a-z0-9]+(-[a-z0-9]+)*\\.){0,500}x$"])
    func aPatternThatIsTooLargeToBeStoppedHasFewerSteps(_ pattern: String) throws {
        let regex = try BoundedRegex(pattern, options: [.stoppable, .schema])
        #expect(try regex.isFound(in: pattern.hasSuffix("x$") ? "a-b.c.x" : "123,456,"))
        #expect(try !regex.isFound(in: "123,45y"))
    }

    @Test func manyShortTextsAskNowAndThen() throws {
        var asked = 0
        var matcher = BoundedRegex.Matcher(try BoundedRegex("(a+)+$", options: .stoppable)) {
            asked += 1
            return false
        }
        for _ in 0..<3 { #expect(try matcher.first(in: Array("aaaaaaaaaaaaaab".utf8)[...]) == nil) }
        #expect(asked > 3)
    }
}
