import AegisTestSupport
import Testing

@testable import AegisCapabilities

/// What passes patterns over must never pass over one that matches.
@Suite struct PathTraitTests {
    private func pattern(_ text: String) throws -> PathPattern {
        guard case .fileRead(let pattern) = try capability("file_read: \(text)") else { throw BadInput(text: text) }
        return pattern
    }

    @Test func whatMatchesMayFit() throws {
        var random = Mutator(seed: 40)
        var (hits, refused) = (0, 0)
        for _ in 0..<12_000 {
            let own = try pattern(random.pathPatternText())
            let asked = try path(random.pathText())
            let mayFit = PathTrait(of: own).mayFit(PathFace(asked))
            if own.matches(asked) {
                hits += 1
                #expect(mayFit, "\(own) \(asked)")
            } else if !mayFit {
                refused += 1
            }
        }
        #expect(hits > 1000 && refused > 1000)
    }

    @Test(arguments: [
        ("/a/**/d/*.swift", "/a/b/e/x.swift", false), ("/a/**/d/*.swift", "/a/b/d/x.c", false),
        ("/a/**/d/*.swift", "/a/b/d/x.swift", true), ("/a/**/d/*.swift", "/a/d/.swift", true),
        ("/a/*/d", "/a/b/xd", false), ("/a/*/d", "/a/b/d", true), ("/a/*é", "/a/é", true), ("/a/?", "/a/é", true),
        ("/a/*", "/a", true), ("/**", "/", true), ("/**/longer-than-eight", "/longer-than-eight", true),
        ("/**/longer-than-eight", "/shorter-than-eight", false),
    ])
    func decidesByNamesAndEnds(_ text: String, _ asked: String, _ expected: Bool) throws {
        #expect(PathTrait(of: try pattern(text)).mayFit(PathFace(try path(asked))) == expected)
    }

    /// The index finds what each grant says for itself, in whatever order and of whatever kind.
    @Test func theIndexFindsWhatEachGrantAllows() throws {
        var random = Mutator(seed: 41)
        for _ in 0..<600 {
            var own: [Capability] = []
            for _ in 0..<random.number(0...20) { own.append(try capability(random.capabilityText())) }
            let index = GrantIndex(own)
            for _ in 0..<10 {
                let asked = try random.anyAction()
                var found: [Int] = []
                index.find(asked, allows: { own[$0].allows(asked) }) { position in
                    found.append(position)
                    return false
                }
                #expect(found.sorted() == own.indices.filter { own[$0].allows(asked) }, "\(asked)")
            }
        }
    }
}
