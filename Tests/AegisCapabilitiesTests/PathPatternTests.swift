import AegisCapabilities
import AegisTestSupport
import Testing

private func pattern(_ text: String) throws -> PathPattern {
    guard case .fileRead(let pattern) = try Capability(parsing: "file_read: \(text)") else {
        throw BadInput(text: text)
    }
    return pattern
}

/// The definition of matching, as plainly as it can be written.
private func naive(_ pattern: ArraySlice<Substring>, _ path: ArraySlice<Substring>) -> Bool {
    guard let first = pattern.first else { return path.isEmpty }
    if first == "**" {
        return naive(pattern.dropFirst(), path) || (!path.isEmpty && naive(pattern, path.dropFirst()))
    }
    guard let name = path.first else { return false }
    return naiveName(Array(first.unicodeScalars)[...], Array(name.unicodeScalars)[...])
        && naive(pattern.dropFirst(), path.dropFirst())
}
private func naiveName(_ glob: ArraySlice<Unicode.Scalar>, _ name: ArraySlice<Unicode.Scalar>) -> Bool {
    guard let first = glob.first else { return name.isEmpty }
    if first == "*" { return naiveName(glob.dropFirst(), name) || (!name.isEmpty && naiveName(glob, name.dropFirst())) }
    guard let letter = name.first else { return false }
    return (first == "?" || first == letter) && naiveName(glob.dropFirst(), name.dropFirst())
}

@Suite struct PathPatternTests {
    @Test(
        arguments: [
            ("/data/*", "/data/project/passwd", true), ("/data/*", "/data", true), ("/data/*", "/data-foo/x", false),
            ("/data/**", "/data/.hidden/x", true), ("/*", "/", true), ("/*", "/etc/passwd", true), ("/", "/", true),
            ("/", "/a", false), ("/data/x", "/data/x", true), ("/data/x", "/data/x/y", false),
            ("/data/x", "/data", false),
            ("/a/*/c", "/a/b/c", true), ("/a/*/c", "/a/b/b/c", false), ("/a/**/c", "/a/c", true),
            ("/a/**/c", "/a/b/b/c", true), ("/a/**/c/**", "/a/x/c/y/c", true), ("/a/?*", "/a/x", true),
            ("/a/?*", "/a", false), ("/a/?*", "/a/x/y", false), ("/a/*.txt", "/a/b.txt", true),
            ("/a/*.txt", "/a/.txt", true),
            ("/a/*.txt", "/a/b/c.txt", false), ("/a/?", "/a/é", true), ("/a/?", "/a/éé", false), ("/A", "/a", false),
            ("/a/b*c*d", "/a/bxcxcd", true), ("/a/b*c*d", "/a/bxd", false),
        ])
    func matches(_ text: String, _ asked: String, _ expected: Bool) throws {
        #expect(try pattern(text).matches(path(asked)) == expected)
    }

    @Test func agreesWithTheDefinition() throws {
        var random = Mutator(seed: 3)
        var hits = 0
        for _ in 0..<8000 {
            let own = try pattern(random.pathPatternText())
            let asked = try path(random.pathText())
            let expected = naive(
                own.description.split(separator: "/")[...], asked.description.split(separator: "/")[...])
            #expect(own.matches(asked) == expected, "\(own) \(asked)")
            if expected { hits += 1 }
        }
        #expect(hits > 800)
    }

    /// Names are bytes: where they are no UTF-8, stray bytes belong to the character before them, for both sides alike.
    @Test func namesNeedNotBeText() throws {
        var random = Mutator(seed: 4)
        let bytes: [UInt8] = [0x61, 0xc3, 0xa9, 0x80, 0xff]
        for _ in 0..<5000 {
            let name = random.some(bytes, 1...4)
            let asked = try #require(CanonicalPath(bytes: [0x2f] + name))
            #expect(try pattern("/**").matches(asked) && pattern("/?*").matches(asked))
            for (wide, narrow) in [("/?*", "/é*"), ("/??", "/é?"), ("/*?", "/*é"), ("/*?*", "/?")] {
                let (wide, narrow) = (try pattern(wide), try pattern(narrow))
                if wide.covers(narrow), narrow.matches(asked) {
                    #expect(wide.matches(asked), "\(wide) \(narrow) \(name)")
                }
            }
        }
    }

    @Test(
        arguments: [
            ("/a/**", "/a/**"), ("/a/**", "/a/b/**"), ("/a/**", "/a"), ("/a/**", "/a/*/c"), ("/a/*/c", "/a/b/c"),
            ("/a/*/c", "/a/?/c"), ("/a/*/c", "/a/b*/c"), ("/a/*.txt", "/a/b*.txt"), ("/**/x", "/a/**/x"),
            ("/**/x", "/x"),
            ("/a/**/c", "/a/b/**/c"), ("/a/?*", "/a/b*"), ("/a/b?", "/a/bc"), ("/a/*b*", "/a/*b"), ("/**", "/"),
            ("/a/**/b/**", "/a/b/c"), ("/a/**/b/*/**", "/a/x/b/c/d*/**"),
        ])
    func coversWhatIsEqualOrPlainlyNarrower(_ wide: String, _ narrow: String) throws {
        #expect(try pattern(wide).covers(pattern(narrow)))
    }

    @Test(
        arguments: [
            ("/a/b/**", "/a/**"), ("/a", "/a/**"), ("/a/*/c", "/a/**/c"), ("/a/*.txt", "/a/?*"), ("/a/b", "/a/?"),
            ("/a/?", "/a/?*"), ("/a/**", "/ab/**"), ("/a/**", "/**"), ("/a/**/c", "/a/**"), ("/a/b?", "/a/b?*"),
        ])
    func doesNotCoverWhatIsWider(_ own: String, _ wider: String) throws {
        #expect(try !pattern(own).covers(pattern(wider)))
    }

    /// Whatever the narrower one matches, the one that covers it matches.
    @Test func coveringIsNeverWrong() throws {
        var random = Mutator(seed: 5)
        var covered = 0
        for _ in 0..<8000 {
            let (wide, narrow) = (try pattern(random.pathPatternText()), try pattern(random.pathPatternText()))
            #expect(wide.covers(wide))
            guard wide.covers(narrow) else { continue }
            covered += 1
            for _ in 0..<20 {
                let asked = try path(random.pathText())
                if narrow.matches(asked) { #expect(wide.matches(asked), "\(wide) \(narrow) \(asked)") }
            }
        }
        #expect(covered > 400)
    }

    /// Replacing a part by something inside it gives a pattern that is covered, however that is nested.
    @Test func obviouslyNarrowerIsAccepted() throws {
        var random = Mutator(seed: 6)
        for _ in 0..<5000 {
            let wide = try pattern(random.pathPatternText())
            var parts: [String] = []
            for part in wide.description.split(separator: "/") {
                switch part {
                case "**": parts += random.pick([["**"], [], ["x"], ["x", "**"], ["x*", "y"]])
                case "*": parts.append(random.pick(["*", "x", "x*", "?"]))
                default:
                    let name = part.replacing("*", with: random.pick(["*", "", "q", "q*"]))
                    parts.append(name.isEmpty ? "q" : String(name))
                }
            }
            // A final star stands for the tree, which is more than the component that it was.
            if parts.last == "*" { continue }
            let narrow = try pattern("/" + parts.joined(separator: "/"))
            #expect(wide.covers(narrow), "\(wide) \(narrow)")
        }
    }

    /// Patterns that make careless matchers take for ever.
    @Test func hardPatternsEndSoon() throws {
        let stars = try pattern("/" + String(repeating: "a*", count: 100) + "b")
        let long = try path("/" + String(repeating: "a", count: 255))
        #expect(!stars.matches(long))
        let trees = try pattern("/" + (0..<31).map { _ in "**/a*" }.joined(separator: "/") + "/b")
        let deep = try path(String(repeating: "/a", count: 2000))
        #expect(!trees.matches(deep) && trees.covers(trees))
    }

    @Test func rootsTreesAndRebasing() throws {
        let tree = try pattern("/var/run/x/*")
        #expect(tree.tree?.description == "/var/run/x" && tree.root.description == "/var/run/x")
        #expect(try tree.rebased(to: path("/run/x"))?.description == "/run/x/**")
        #expect(try tree.rebased(to: path("/"))?.description == "/**")
        let narrow = try pattern("/var/*/x")
        #expect(narrow.tree == nil && narrow.root.description == "/var")
        #expect(try narrow.rebased(to: path("/private/var"))?.description == "/private/var/*/x")
        // What cannot be written as a pattern cannot be granted.
        #expect(try narrow.rebased(to: path("/a*b")) == nil)
        #expect(try narrow.rebased(to: path("/a ")) != nil && pattern("/x").rebased(to: path("/a ")) == nil)
        #expect(try narrow.rebased(to: path(String(repeating: "/a", count: 600))) == nil)
        #expect(try pattern("/**").root.description == "/" && pattern("/a/b").isLiteral)
    }

    @Test(arguments: ["", "a", "/a/", "//a", "/a//b", "/./a", "/a/..", "/..", "/a\u{0}"])
    func pathsThatAreNotCanonicalCannotBeAsked(_ text: String) { #expect(CanonicalPath(text) == nil) }

    @Test func pathsWithinPaths() throws {
        #expect(
            try path("/a/b").isWithin(path("/a")) && path("/a").isWithin(path("/a")) && path("/a").isWithin(path("/")))
        #expect(
            try !path("/ab").isWithin(path("/a")) && !path("/a").isWithin(path("/a/b"))
                && path("/...").description == "/...")
        #expect(CanonicalPath("/" + String(repeating: "a", count: 256)) == nil)
    }
}
