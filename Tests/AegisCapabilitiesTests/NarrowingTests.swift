import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

private let now = Timestamp(milliseconds: 1_000_000)

@Suite struct NarrowingTests {
    /// Whatever the child may do, the parent may: at any moment, for any amount.
    @Test func theChildMayNothingThatTheParentMayNot() throws {
        var random = Mutator(seed: 20)
        var derived = 0
        var allowed = 0
        for _ in 0..<6000 {
            let parent = GrantTerms(try random.grantSpec(), at: now)
            // Half of them near to the parent, so that many are derived at all.
            var wanted = try random.grantSpec()
            if random.chance(1, in: 2) { wanted.capability = try random.narrower(parent.capability) }
            guard let child = try? parent.narrow(wanted, at: now) else { continue }
            derived += 1
            let (own, above) = (GrantSet(fresh: [child]), GrantSet(fresh: [parent]))
            for _ in 0..<10 {
                let amounts = Amounts(bytes: UInt64(random.number(0...35)), tokens: UInt64(random.number(0...35)))
                let request = Request(try random.ofKind(parent.capability.kind), needs: amounts)
                let moment = Timestamp(milliseconds: now.milliseconds + Int64(random.number(0...130)) * 1000)
                guard case .allow = evaluate(request, with: own, at: moment) else { continue }
                allowed += 1
                guard case .allow = evaluate(request, with: above, at: moment) else {
                    Issue.record("\(parent) was narrowed to \(child), which allows \(request)")
                    return
                }
            }
        }
        #expect(derived > 1500 && allowed > 1500)
    }

    /// What is equal is accepted, and so is what is narrower in one plain respect.
    @Test func equalAndPlainlyNarrowerIsAccepted() throws {
        var random = Mutator(seed: 21)
        for _ in 0..<5000 {
            let spec = try random.grantSpec()
            let parent = GrantTerms(spec, at: now)
            #expect(try parent.narrow(spec, at: now) == parent)
            let narrower = try random.narrower(spec.capability)
            #expect(throws: Never.self, "\(spec) -> \(narrower)") { try parent.narrow(GrantSpec(narrower), at: now) }
        }
    }

    /// Derived from derived is derived: lines of grants never widen.
    @Test func coveringIsTransitive() throws {
        var random = Mutator(seed: 22)
        var chains = 0
        for _ in 0..<20_000 {
            let kind = random.pick(["file_read: ", "network: "])
            func one() throws -> Capability {
                try capability(kind + (kind == "network: " ? random.networkText() : random.pathPatternText()))
            }
            let (a, b, c) = (try one(), try one(), try one())
            guard a.covers(b), b.covers(c) else { continue }
            chains += 1
            #expect(a.covers(c), "\(a) \(b) \(c)")
        }
        #expect(chains > 100)
    }

    @Test func limitsAreTheStricterOnes() throws {
        let parent = GrantTerms(try spec("{grant: \"tool: *\", max_calls: 5, max_bytes: 10, expires: 1h}"), at: now)
        let child = try parent.narrow(spec("{grant: \"tool: x\", max_calls: 9, per_minute: 3, max_bytes: 4}"), at: now)
        #expect(child.limits == Limits(maxCalls: 5, perMinute: 3, maxBytes: 4) && child.expires == parent.expires)
        let short = try parent.narrow(spec("{grant: \"tool: x\", expires: 1m}"), at: now)
        #expect(short.expires == Timestamp(milliseconds: now.milliseconds + 60_000))
        #expect(try parent.narrow(spec("{grant: \"tool: x\", expires: 2h}"), at: now).expires == parent.expires)
    }

    @Test(
        arguments: [
            ("tool: x", "tool: *"), ("tool: x", "tool: y"), ("file_read: /a/**", "file_write: /a/x"),
            ("spawn: [a]", "spawn: [a, b]"),
            ("spawn: [a]", "spawn: *"), ("exec: git", "exec: *"), ("exec: git", "exec: /usr/bin/git"),
            ("model: a", "model: b"),
            ("memory: self", "memory: team"), ("secret: K@a.test/v1", "secret: K@a.test"),
            ("secret: K@a.test/v1", "secret: K@a.test/v1x"), ("secret: K@a.test,methods=GET", "secret: K@a.test"),
            ("secret: K@a.test", "secret: K@a.test,header=cookie"),
            ("secret: K@a.test,header=cookie", "secret: K@a.test"),
            ("web_search", "network: a.test"), ("message: [a]", "spawn: [a]"),
        ])
    func widerIsRefusedAndSaysWhatIsHeld(_ parent: String, _ wanted: String) throws {
        let terms = GrantTerms(try capability(parent))
        let error = #expect(throws: NarrowingError.self) { try terms.narrow(spec(wanted), at: now) }
        let shown = try #require(error).asAegisError
        #expect(shown.code == "grant-too-wide" && shown.kind == .denied)
        #expect(
            shown.message.contains("'\(try capability(wanted))'") && shown.message.contains("'\(terms.capability)'"))
    }
}

extension Mutator {
    /// A capability that is narrower in a plain respect, or the same.
    mutating func narrower(_ capability: Capability) throws -> Capability {
        let text = capability.description
        switch capability {
        case .tool(nil): return .tool(pick([nil, "t", "web_fetch"]))
        case .fileRead, .fileWrite:
            guard text.hasSuffix("/**"), chance(2, in: 3) else { return capability }
            return try Capability(parsing: text.dropLast(2) + pick(["a/**", "b*/x", "**", "*/**", "?/a"]))
        case .network(let pattern):
            switch pattern.target {
            case .any where chance(2, in: 3):
                return .network(try with(pattern, pick(["a.test", "*.a.test", "8.0.0.0/8", "::/0"])))
            case .subdomains(let domain) where chance(2, in: 3):
                return .network(try with(pattern, pick(["q.", "*.q.", "*."]) + "\(domain)"))
            default:
                return .network(
                    NetworkPattern(
                        pattern.target, port: pattern.port ?? pick([nil, 443]),
                        inspect: pattern.inspect || chance(1, in: 2),
                        tools: pattern.tools.isEmpty ? pick([[], ["t"]]) : Set(pattern.tools.prefix(1))))
            }
        case .spawn(let names), .message(let names):
            let one = names == .any ? NameSet.names(["a", "c"]) : names
            guard case .names(let list) = one else { return capability }
            return capability.kind == .spawn
                ? .spawn(.names(Array(list.prefix(1)))) : .message(.names(Array(list.suffix(1))))
        case .secret(let binding):
            var narrow = binding.methods.isEmpty ? text + ",methods=GET" : text
            if binding.header == nil { narrow = narrow.replacing(",methods", with: ",header=x-api-key,methods") }
            return try Capability(parsing: narrow)
        default: return capability
        }
    }

    private func with(_ pattern: NetworkPattern, _ target: String) throws -> NetworkPattern {
        guard case .network(let other) = try Capability(parsing: "network: \(target)") else {
            throw BadInput(text: target)
        }
        return NetworkPattern(other.target, port: pattern.port, inspect: pattern.inspect, tools: Set(pattern.tools))
    }
}
