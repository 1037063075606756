import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

@Suite struct GrammarTests {
    @Test(
        arguments: [
            ("tool: web_fetch", "tool: web_fetch"), ("tool:web_fetch", "tool: web_fetch"), ("  tool :  * ", "tool: *"),
            ("tool: mcp__files.read", "tool: mcp__files.read"), ("web_search", "network: *,tools=web_fetch+web_search"),
            ("file_read: /data/project/*", "file_read: /data/project/**"), ("file_read: /", "file_read: /"),
            ("file_write: /data/**/**/*.txt", "file_write: /data/**/*.txt"), ("file_read: /*", "file_read: /**"),
            ("file_read: /a/**/*", "file_read: /a/**"), ("file_read: /a/?*", "file_read: /a/?*"),
            ("file_read: /a/*/b", "file_read: /a/*/b"), ("file_read: /ünï/ç d", "file_read: /ünï/ç d"),
            ("network: *", "network: *"), ("network: *:443", "network: *:443"),
            ("network: Example.COM", "network: example.com"), ("network: example.com:443", "network: example.com:443"),
            ("network: *.example.com:8080", "network: *.example.com:8080"), ("network: db", "network: db"),
            ("network: 192.0.2.7", "network: 192.0.2.7/32"), ("network: 10.0.0.0/8:5432", "network: 10.0.0.0/8:5432"),
            ("network: 2001:db8::1", "network: 2001:db8::1/128"),
            ("network: 2001:DB8:0::/32", "network: 2001:db8::/32"),
            ("network: [2001:db8::1]:443", "network: [2001:db8::1/128]:443"),
            ("network: ::ffff:8.8.8.8", "network: 8.8.8.8/32"), ("network: 0.0.0.0/0", "network: 0.0.0.0/0"),
            ("network: a.test,inspect", "network: a.test,inspect"),
            ("network: a.test:443,tools=b+a,inspect", "network: a.test:443,inspect,tools=a+b"),
            ("exec: git", "exec: git"), ("exec: /usr/bin/git", "exec: /usr/bin/git"), ("exec: *", "exec: *"),
            ("spawn: [writer, critic, writer]", "spawn: [critic, writer]"), ("spawn: writer", "spawn: [writer]"),
            ("spawn: [*]", "spawn: *"), ("spawn_child: a,b", "spawn: [a, b]"), ("message: [a]", "message: [a]"),
            ("model: default", "model: default"), ("model: main/llama3:8b", "model: main/llama3:8b"),
            ("memory: self", "memory: self"), ("secret: KEY@api.test", "secret: KEY@api.test"),
            (
                "secret: KEY@API.test/v1/x,methods=POST+GET,header=X-Key",
                "secret: KEY@api.test/v1/x,header=x-key,methods=GET+POST"
            ),
        ])
    func readsAndPrintsCanonically(_ text: String, _ canonical: String) throws {
        let capability = try Capability(parsing: text)
        #expect(capability.description == canonical)
        #expect(try Capability(parsing: canonical) == capability)
    }

    @Test(
        arguments: [
            ("file_reed: /x/*", 1, "file_read: /x/**"), ("File_Read: /x", 1, "file_read: /x"),
            ("file-write: /x", 1, "file_write: /x"), ("websearch", 1, "network: *,tools=web_fetch+web_search"),
            ("tools: echo", 1, "tool: echo"), ("tool echo", 5, "tool: echo"), ("network=a.test", 8, "network: a.test"),
            ("tool: mem*", 10, "tool: mem"), ("tool: web fetch", 10, "tool: webfetch"),
            ("file_read: x/y", 12, "file_read: /workspace/x/y"), ("file_read: *", 12, "file_read: /**"),
            ("file_read: /a//b", 15, "file_read: /a/b"), ("file_read: /a/", 15, "file_read: /a"),
            ("file_read: /a/../b", 15, "file_read: /b"), ("file_read: /a/./b", 15, "file_read: /a/b"),
            ("file_read: /a/b**", 16, "file_read: /a/b*"), ("file_read: /a/[id].ts", 15, "file_read: /a/?id?.ts"),
            ("network: https://a.test/x", 10, "network: a.test"), ("network: a.test/x", 16, "network: a.test"),
            ("network: a.test:0", 17, "network: a.test"), ("network: a.test:99999", 17, "network: a.test"),
            ("network: *a.test", 10, "network: *.a.test"), ("network: a.test.", 17, "network: a.test"),
            ("network: user@a.test:22", 14, "network: a.test:22"), ("network: 10.1.2.3/8", 10, "network: 10.1.2.3/32"),
            ("network: [2600::1]443", 19, "network: 2600::1/128"),
            ("network: a.test,inspct", 17, "network: a.test,inspect"),
            ("network: a.test,b.test", 17, "network: a.test"), ("network: a.test b", 16, "network: a.test"),
            ("network: 8.8.8.0/33", 18, "network: 8.8.8.0/32"), ("exec: git push", 10, "exec: git"),
            ("spawn: [a, b", 13, "spawn: [a, b]"), ("spawn: [a, b!]", 13, "spawn: [a, b]"),
            ("spawn: [*, a]", 8, "spawn: [a]"), ("web_search: a.test", 11, "network: a.test"),
            ("secret: K@a.test/x/,methods=GET", 17, "secret: K@a.test/x"),
            ("secret: K@a.test,methods=get", 26, "secret: K@a.test,methods=GET"),
        ])
    func refusesWithPlaceAndNearest(_ text: String, _ column: Int, _ nearest: String) throws {
        let error = #expect(throws: CapabilityError.self) { try Capability(parsing: text) }
        #expect(error?.column == column && error?.nearest == nearest, "\(error.map(\.description) ?? "")")
        #expect(error?.asAegisError.hint?.contains(nearest) == true && error?.asAegisError.kind == .usage)
    }

    @Test(
        arguments: [
            "", " ", ":", "tool:", "tool: ", "nonsense", "file_read: ~/x", "file_read: /../..", "model: *", "memory: *",
            "network: localhost", "network: a.localhost:80", "network: 127.0.0.1", "network: 169.254.169.254",
            "network: 169.254.0.0/16", "network: ::1", "network: 198.18.0.0/16", "network: fe80::/10", "network: 1.2.3",
            "network: 0x7f.1", "network: 01.2.3.4", "network: -a.test", "network: a..test", "network: bücher.test",
            "network: a.*.test", "network: [::1", "network: 10.0.0.0/08", "network: a_%.test",
            "network: 100.100.100.200",
            "exec: bin/git", "exec: /usr/bin/*", "exec: /", "spawn: []", "spawn: [,]", "spawn: ", "secret: K",
            "secret: 1K@a.test",
            "secret: K@10.0.0.1", "secret: K@a.test/../x", "secret: K@localhost", "secret: K@a.test,header=a b",
            "file_read: /a\u{0}b", "file_read: /a\nb", "tool: a\u{202e}b",
            "file_read: /" + String(repeating: "a", count: 256),
            "file_read: " + String(repeating: "/a", count: 65),
            "file_read: " + String(repeating: "/abcdefgh", count: 200),
        ])
    func refusesWhatHasNoMeaning(_ text: String) {
        #expect(throws: CapabilityError.self) { try Capability(parsing: text) }
    }

    @Test func messagesShowNoControlCharacters() throws {
        let error = #expect(throws: CapabilityError.self) { try Capability(parsing: "tool: a\u{202e}b\u{1b}[31m") }
        let text = try #require(error).description
        #expect(!text.unicodeScalars.contains { $0 == "\u{202e}" || $0 == "\u{1b}" } && text.contains("\\u{202e}"))
    }

    @Test func everyCapabilityReadsBackAsItself() throws {
        var random = Mutator(seed: 1)
        for _ in 0..<2000 {
            let capability = try Capability(parsing: random.capabilityText())
            let again = try Capability(parsing: capability.description)
            #expect(again == capability && again.description == capability.description && again.covers(capability))
            let spec = try random.grantSpec()
            #expect(try GrantSpec(parsing: spec.description) == spec)
        }
    }

    /// Whatever is thrown at the parser: it answers, and what it proposes can be read.
    @Test func everyProposalCanBeRead() throws {
        var random = Mutator(seed: 2)
        var proposals = 0
        let pieces = [
            "tool", "file_read", "network", "exec", "spawn", "secret", "web_search", ":", ": ", " ", "/", "//", "..",
            ".", "*", "**",
            "?", "a", "a.test", "[", "]", "{", "}", ",", "@", "8.8.8.8", "/8", "::", "443", "é", "\u{301}", "\"", "\\",
            "grant",
            "max_calls", "1", "-", "inspect", "tools=", "methods=GET", "\u{0}", "\u{202e}", "=",
        ]
        for _ in 0..<6000 {
            var text = random.chance(1, in: 2) ? random.capabilityText() : ""
            for piece in random.some(pieces, 0...6) {
                let at = text.index(text.startIndex, offsetBy: random.number(0...text.count))
                text.insert(contentsOf: piece, at: at)
            }
            do throws(CapabilityError) {
                let spec = try GrantSpec(parsing: text)
                #expect(try GrantSpec(parsing: spec.description) == spec, "\(text)")
            } catch {
                #expect(error.column >= 1 && error.column <= text.count + 1, "\(text): \(error)")
                guard let nearest = error.nearest else { continue }
                proposals += 1
                #expect(throws: Never.self, "\(text) -> \(nearest)") { try GrantSpec(parsing: nearest) }
            }
        }
        #expect(proposals > 300)
    }

    @Test(
        arguments: [
            (
                "{ grant: \"tool: web_fetch\", max_calls: 20, per_minute: 5, max_bytes: 10Mi, max_tokens: 100k, max_usd: 0.50, expires: 1h }",
                "{grant: \"tool: web_fetch\", max_calls: 20, per_minute: 5, max_bytes: 10Mi, max_tokens: 100k, max_usd: 0.50, expires: 1h}"
            ),
            ("{grant: 'tool: x'}", "tool: x"),
            ("{max_calls: 1, grant: \"tool: x\"}", "{grant: \"tool: x\", max_calls: 1}"),
            (
                "{grant: \"model: m\", max_usd: 1, max_tokens: 2000000}",
                "{grant: \"model: m\", max_tokens: 2M, max_usd: 1.00}"
            ),
            ("{grant: \"spawn: [a, b]\", expires: 90s}", "{grant: \"spawn: [a, b]\", expires: 1m30s}"),
            (
                "{grant: \"file_read: /a\\\"b/*\", max_bytes: 1000}",
                "{grant: \"file_read: /a\\\"b/**\", max_bytes: 1000}"
            ),
        ])
    func readsLimits(_ text: String, _ canonical: String) throws {
        #expect(try spec(text).description == canonical && spec(canonical) == spec(text))
    }

    @Test(
        arguments: [
            ("{grant: \"tool: x\", max_call: 3}", "{grant: \"tool: x\", max_calls: 3}"),
            ("{grant: \"tool: x\", max_calls: 0}", "{grant: \"tool: x\", max_calls: 20}"),
            ("{grant: \"tool: x\", max_calls: many}", "{grant: \"tool: x\", max_calls: 20}"),
            ("{grant: \"tool: x\", expires: 0s}", "{grant: \"tool: x\", expires: 1h}"),
            ("{grant: \"tool: x\", max_usd: 0.1234567}", "{grant: \"tool: x\", max_usd: 0.50}"),
            ("{grant: \"tool: x\", per_minute: 70000}", "{grant: \"tool: x\", per_minute: 60000}"),
            ("{grant: \"exec: git\", max_bytes: 1Mi}", "exec: git"), ("{grant: \"tool: x*\", max_calls: 1}", "tool: x"),
        ])
    func refusesLimitsThatNobodyKeeps(_ text: String, _ nearest: String) throws {
        let error = #expect(throws: CapabilityError.self) { try spec(text) }
        #expect(error?.nearest == nearest, "\(error.map(\.description) ?? "")")
    }

    @Test(
        arguments: [
            "{", "{}", "{grant}", "{grant: tool: x}", "{grant: \"tool: x\"", "{grant: \"tool: x",
            "{grant: \"tool: x\"} y",
            "{grant: \"tool: x\", grant: \"tool: y\"}", "{max_calls: 1}", "{grant: \"tool: x\",}",
        ])
    func refusesMapsThatAreNone(_ text: String) { #expect(throws: CapabilityError.self) { try spec(text) } }

    @Test func errorsInMapsNameTheirPlace() throws {
        let error = #expect(throws: CapabilityError.self) { try spec("{grant: \"file_read: /a//b\", max_calls: 2}") }
        #expect(error?.column == 24)
        let limit = #expect(throws: CapabilityError.self) { try spec("{grant: \"tool: x\", max_calls: many}") }
        #expect(limit?.column == 31)
    }

    /// What YAML makes of grants that are written without quotes.
    @Test func readsFieldsOfADocument() throws {
        #expect(try GrantSpec(fields: [GrantField("tool", .text("web_fetch"))]) == spec("tool: web_fetch"))
        #expect(try GrantSpec(fields: [GrantField("spawn_child", .list(["b", "a"]))]) == spec("spawn: [a, b]"))
        let limited = try GrantSpec(fields: [
            GrantField("grant", .text("tool: x")), GrantField("max_calls", .text("2")),
        ])
        #expect(try limited == spec("{grant: \"tool: x\", max_calls: 2}"))
        let error = #expect(throws: CapabilityError.self) {
            try GrantSpec(fields: [GrantField("grant", .text("tool: x")), GrantField("max_calls", .text("x"))])
        }
        #expect(error?.field == "max_calls")
    }

    /// The manifest of the agent runtime's own documentation.
    @Test func readsTheSeedsManifest() throws {
        let texts = [
            "web_search", "file_read: /data/project/*", "file_write: /data/output/*", "tool: web_fetch",
            "tool: file_write",
            "tool: memory_store", "tool: memory_query",
        ]
        let given = try texts.map { try spec($0) }
        let all = try GrantSpec.completed(given, model: "deepseek-chat")
        #expect(all.suffix(2).map(\.description) == ["model: deepseek-chat", "memory: self"])
        #expect(try all.count == 9 && GrantSpec.completed(all, model: "deepseek-chat") == all)
        #expect(try GrantSpec.completed(specs("tool: echo"), model: nil).count == 1)
    }
}
