import AegisCapabilities
import AegisCore
import Testing

/// Every example of docs/capabilities.md, run.
@Suite struct DocsTests {
    private let now = Timestamp(milliseconds: 1_000_000)

    /// `A => B`, or nil when a line has another form.
    private func sides(_ line: String) throws -> (String, String) {
        guard let arrow = line.firstRange(of: "=>") else { throw BadInput(text: line) }
        func trimmed(_ text: Substring) -> String {
            String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
        }
        return (trimmed(line[..<arrow.lowerBound]), trimmed(line[arrow.upperBound...]))
    }
    private func lines(_ kind: String, atLeast count: Int) throws -> [(String, String)] {
        let lines = try examples(kind, in: "capabilities.md").flatMap { $0 }.map(sides)
        #expect(lines.count >= count)
        return lines
    }

    @Test func canonicalForms() throws {
        for (text, canonical) in try lines("canonical", atLeast: 15) {
            #expect(try spec(text).description == canonical)
            #expect(try spec(canonical) == spec(text))
        }
    }

    @Test func refusedForms() throws {
        for (text, nearest) in try lines("refused", atLeast: 10) {
            let error = #expect(throws: CapabilityError.self, "\(text)") { try spec(text) }
            #expect(error?.nearest ?? "-" == nearest, "\(text): \(error.map(\.description) ?? "")")
        }
    }

    @Test func decisions() throws {
        let blocks = try examples("decide", in: "capabilities.md")
        #expect(blocks.count >= 4)
        for block in blocks {
            let held = block.filter { $0.hasPrefix("hold ") }.map { String($0.dropFirst(5)) }
            let set = GrantSet(fresh: try held.map { GrantTerms(try spec($0), at: now) })
            for line in block where line.hasPrefix("ask ") {
                let (asked, answer) = try sides(String(line.dropFirst(4)))
                switch evaluate(Request(try action(asked)), with: set, at: now) {
                case .allow: #expect(answer == "allowed", "\(line)")
                case .deny(let denial): #expect(answer == denial.reason.rawValue, "\(line): \(denial)")
                }
            }
        }
    }

    @Test func narrowing() throws {
        for (pair, answer) in try lines("narrow", atLeast: 8) {
            let sides = pair.split(separator: "|").map { $0.drop { $0 == " " } }
            let terms = GrantTerms(try spec(String(sides[0])), at: now)
            let wanted = try spec(String(sides[1]))
            #expect(((try? terms.narrow(wanted, at: now)) == nil ? "too wide" : "ok") == answer, "\(pair)")
        }
    }

    /// The table of limits says what the parser accepts.
    @Test func limitsByKind() throws {
        let rows = try examples("limits", in: "capabilities.md").flatMap { $0 }.map(sides)
        #expect(rows.count == 6)
        for (field, kinds) in rows {
            let words = field.split(separator: " ").map(String.init)
            for kind in CapabilityKind.allCases {
                let example = try #require(Self.limitable[kind])
                let isAccepted = (try? spec("{grant: \"\(example)\", \(words[0]) \(words[1])}")) != nil
                let isSaid =
                    kinds == "all" || kinds.split(separator: ",").contains { $0.drop { $0 == " " } == kind.rawValue }
                #expect(isAccepted == isSaid, "\(field) \(kind)")
            }
        }
    }
    private static let limitable: [CapabilityKind: String] = [
        .tool: "tool: x", .network: "network: a.test", .exec: "exec: git", .spawn: "spawn: [a]", .model: "model: m",
        .memory: "memory: self", .message: "message: [a]", .secret: "secret: K@a.test", .fileRead: "file_read: /a",
        .fileWrite: "file_write: /a",
    ]
}
