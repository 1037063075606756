import AegisCapabilities
import AegisCore
import AegisTestSupport
import Testing

private let now = Timestamp(milliseconds: 1_000_000)

private func decide(_ held: [String], _ asked: String) throws -> Decision {
    let terms = try held.map { GrantTerms(try spec($0), at: now) }
    return evaluate(Request(try action(asked)), with: GrantSet(fresh: terms), at: now)
}
private func denial(_ held: [String], _ asked: String) throws -> Denial {
    guard case .deny(let denial) = try decide(held, asked) else { throw BadInput(text: "\(asked) is allowed") }
    return denial
}

@Suite struct EvaluatorTests {
    /// The index finds what a look at every grant finds.
    @Test func agreesWithALookAtEveryGrant() throws {
        var random = Mutator(seed: 10)
        var allowed = 0
        for _ in 0..<800 {
            var terms: [GrantTerms] = []
            for _ in 0..<random.number(0...12) { terms.append(GrantTerms(try random.grantSpec(), at: now)) }
            let set = GrantSet(fresh: terms)
            for _ in 0..<6 {
                let request = Request(try random.anyAction(), needs: Amounts(bytes: UInt64(random.number(0...20))))
                let moment = Timestamp(milliseconds: now.milliseconds + Int64(random.number(0...130)) * 1000)
                let fitting = set.grants.filter { held in
                    held.terms.capability.allows(request.action) && (held.terms.expires.map { $0 > moment } ?? true)
                        && request.needs.bytes <= held.terms.limits.maxBytes ?? .max
                }
                switch evaluate(request, with: set, at: moment) {
                case .allow(let allowance):
                    allowed += 1
                    #expect(
                        fitting.contains { $0.id == allowance.grant && $0.terms.capability == allowance.capability })
                case .deny(let denial):
                    #expect(fitting.isEmpty, "\(request.action) \(terms)")
                    #expect(denial.nearest.map { id in set.grants.contains { $0.id == id } } ?? true)
                    #expect(denial.message.contains("'\(request.action.description)'"))
                }
            }
        }
        #expect(allowed > 300)
    }

    @Test(
        arguments: [
            (["network: *", "network: *.a.test", "network: b.a.test:443,inspect"], "network: b.a.test:443", 3),
            (["network: *", "network: *.a.test", "network: b.a.test:443,inspect"], "network: b.a.test:80", 2),
            (["network: *", "network: *.a.test", "network: b.a.test:443,inspect"], "network: c.test:80", 1),
            (["network: 8.0.0.0/8", "network: 8.8.8.0/24"], "network: 8.8.8.8:80", 2),
            (["tool: *", "tool: x"], "tool: x", 2),
            (["file_read: /**", "file_read: /a/b/**", "file_read: /a/**"], "file_read: /a/b/c", 2),
            (["exec: *", "exec: git", "exec: /usr/bin/git"], "exec: git (/usr/bin/git)", 2),
            (["tool: x", "tool: x"], "tool: x", 1),
        ] as [([String], String, Int)])
    func theNarrowestAnswers(_ held: [String], _ asked: String, _ which: Int) throws {
        guard case .allow(let allowance) = try decide(held, asked) else {
            Issue.record("\(asked) is denied")
            return
        }
        #expect(try allowance.capability == spec(held[which - 1]).capability)
        #expect(allowance.grant.description == "g-000000000000000\(which)")
        #expect(allowance.description.hasPrefix("allowed by g-"))
    }

    @Test(
        arguments: [
            ([], "tool: x", Denial.Reason.noGrant, "nothing of the kind 'tool'"),
            (["tool: web_fetch"], "tool: web_fetsh", .notCovered, "is for 'web_fetch' only"),
            (["network: a.test:443"], "network: a.test:80", .notCovered, "is for port 443 only"),
            (["network: *.a.test"], "network: a.test:80", .notCovered, "not for a.test itself"),
            (["network: *"], "network: 10.0.0.1:80", .notCovered, "private and reserved"),
            (["network: *"], "network: 169.254.169.254:80", .outOfReach, "a metadata service"),
            (["network: *"], "network: localhost:80", .outOfReach, "the host that Aegis runs on"),
            (["network: a.test"], "network: 8.8.8.8:80", .notCovered, "an address is not a name"),
            (["web_search"], "network: a.test:80", .notCovered, "may be used by web_fetch, web_search only"),
            (["file_read: /a/b/**", "file_read: /x/**"], "file_read: /a/c", .notCovered, "files in /a/b"),
            (["file_read: /a/*.txt"], "file_read: /a/x.md", .notCovered, "wildcards"),
            (["file_write: /a/**"], "file_read: /a/c", .noGrant, "nothing of the kind 'file_read'"),
            (["file_read: /**"], "file_read: /proc/1/environ", .outOfReach, "/proc"),
            (["file_write: /**"], "file_write: /dev/sda", .outOfReach, "/dev"),
            (["exec: git"], "exec: /workspace/git", .notCovered, "along PATH"),
            (["exec: git"], "exec: sh (/bin/sh)", .notCovered, "'git' only"),
            (
                ["secret: K@a.test/v1,methods=GET"], "secret: K@a.test/v1 authorization POST", .notCovered,
                "is for GET only"
            ),
            (["secret: K@a.test"], "secret: K@a.test/ user-agent GET", .notCovered, "may stand in"),
            (["secret: K@a.test"], "secret: K@b.test/ authorization GET", .notCovered, "a.test only"),
            (["secret: K@a.test/v1"], "secret: K@a.test/v1/%2e%2e/v2 authorization GET", .notCovered, "plainly below"),
            (["spawn: [writer]"], "spawn: critic", .notCovered, "'writer' only"),
            (["model: default"], "model: fast", .notCovered, "'default' only"),
        ] as [([String], String, Denial.Reason, String)])
    func denialsSayWhatCameNearest(_ held: [String], _ asked: String, _ reason: Denial.Reason, _ part: String) throws {
        let denial = try denial(held, asked)
        #expect(denial.reason == reason && denial.message.contains(part), "\(denial)")
        #expect((denial.nearest == nil) == (reason != .notCovered), "\(denial)")
        #expect(denial.asAegisError.kind == .denied && denial.asAegisError.code == "capability-denied")
    }

    /// The grant that the proofs of a network need was given to nobody in particular.
    @Test func theGrantOfTheProofsExplainsNothing() throws {
        let proofs = "network: \(HostName.ofProofs):7"
        for asked in ["network: 1.1.1.1:80", "network: a.test:7", "network: \(HostName.ofProofs):80"] {
            let alone = try denial([proofs], asked)
            #expect(alone.reason == .noGrant && alone.nearest == nil, "\(alone)")
            #expect(try denial([proofs, "network: b.test:80"], asked).nearest?.description == "g-0000000000000002")
        }
    }

    @Test func ofSeveralTheNearestIsNamed() throws {
        let held = ["network: x.example", "network: a.test:443", "network: b.a.test"]
        #expect(try denial(held, "network: a.test:80").nearest?.description == "g-0000000000000002")
        #expect(try denial(held, "network: c.a.test:80").nearest?.description == "g-0000000000000003")
        let files = ["file_read: /x/**", "file_read: /a/b/c/*.txt", "file_read: /a/z/**"]
        #expect(try denial(files, "file_read: /a/b/q").nearest?.description == "g-0000000000000002")
        #expect(try denial(["tool: echo", "tool: grep"], "tool: grpe").hint == "did you mean 'grep'?")
    }

    @Test func hintsTellWhatMayBeDone() throws {
        #expect(try denial([], "network: a.test:80").hint == "a grant 'network: a.test:80' would allow it")
        #expect(try denial([], "network: 10.0.0.1:80").hint == "a grant 'network: 10.0.0.1/32:80' would allow it")
        let hint = try #require(try denial(["file_write: /a/**"], "file_read: /a/x").hint)
        #expect(hint.contains("reading needs a 'file_read' of its own"))
        for asked in [
            "tool: x", "file_read: /a/b", "network: a.test:80", "network: [2600::1]:80", "exec: git (/usr/bin/git)",
            "spawn: a",
            "exec: /opt/x", "model: m", "memory: self", "message: b", "secret: K@a.test/x authorization GET",
        ] {
            let hint = try #require(try denial([], asked).hint)
            let proposed = try #require(hint.split(separator: "'").dropFirst().first.map(String.init))
            #expect(try capability(proposed).allows(action(asked)), "\(hint)")
        }
    }

    @Test func aGrantThatFitsButIsOverSaysSo() throws {
        let terms = GrantTerms(try spec("{grant: \"tool: x\", max_calls: 2, per_minute: 1, expires: 10s}"), at: now)
        let id = try #require(GrantID(parsing: "g-00000000000000ab"))
        func ask(_ change: (inout Standing) -> Void, at time: Timestamp = now, _ needs: Amounts = Amounts()) -> Denial?
        {
            var standing = Standing(terms)
            change(&standing)
            let set = GrantSet([GrantSet.Held(id: id, terms: terms, standing: standing)])
            guard case .deny(let denial) = evaluate(Request(.tool("x"), needs: needs), with: set, at: time) else {
                return nil
            }
            return denial
        }
        let later = Timestamp(milliseconds: now.milliseconds + 10_000)
        #expect(ask { _ in } == nil)
        #expect(ask({ _ in }, at: later)?.reason == .expired && ask { $0.callsLeft = 0 }?.reason == .callsUsedUp)
        #expect(ask { $0.revoked = now }?.reason == .revoked)
        // It had expired before it was taken back.
        #expect(ask({ $0.revoked = later }, at: later)?.reason == .expired)
        #expect(ask { $0.nextCall = later }?.retryAt == later && ask { $0.nextCall = later }?.reason == .tooFast)
        #expect(ask { $0.nextCall = now } == nil)
        #expect(
            ask { $0.room.bytes = 0 }?.reason == .bytesUsedUp && ask { $0.room.tokens = 0 }?.reason == .tokensUsedUp)
        let money = try #require(ask({ $0.room.microUSD = 5 }, Amounts(microUSD: 6)))
        #expect(money.reason == .moneyUsedUp && money.message.contains("$0.000005 left"))
        #expect(money.nearest == id && money.asAegisError.code == "limit-money-used-up")
        #expect(ask { $0.callsLeft = 0 }?.message.contains("max_calls 2") == true)
    }

    @Test func reservesWhatIsLeftOfWhatIsWanted() throws {
        let terms = GrantTerms(try spec("{grant: \"model: m\", max_tokens: 500}"), at: now)
        let set = GrantSet(fresh: [terms])
        let request = Request(.model("m"), needs: Amounts(tokens: 100), wants: Amounts(tokens: 4100))
        guard case .allow(let allowance) = evaluate(request, with: set, at: now) else {
            Issue.record("denied")
            return
        }
        #expect(allowance.reserved == Amounts(tokens: 500))
        let tooMuch = Request(.model("m"), needs: Amounts(tokens: 501))
        guard case .deny(let denial) = evaluate(tooMuch, with: set, at: now) else {
            Issue.record("allowed")
            return
        }
        #expect(denial.reason == .tokensUsedUp && denial.message.contains("500 tokens left, 501 are needed"))
    }

    /// A limit on one grant takes nothing from another.
    @Test func grantsAddUp() throws {
        let held = ["{grant: \"tool: x\", expires: 1s}", "tool: *"]
        let terms = try held.map { GrantTerms(try spec($0), at: now) }
        let later = Timestamp(milliseconds: now.milliseconds + 5000)
        guard case .allow(let allowance) = evaluate(Request(.tool("x")), with: GrantSet(fresh: terms), at: later) else {
            Issue.record("denied")
            return
        }
        #expect(allowance.capability == .tool(nil))
    }

    @Test func protectedPathsAreClosedButForVolumes() throws {
        let paths = ProtectedPaths(closed: [try path("/var/lib/aegis")], open: [try path("/var/lib/aegis/volumes/v1")])
        let set = GrantSet(fresh: [GrantTerms(try capability("file_write: /**"))], protected: paths)
        func allows(_ text: String) throws -> Bool {
            guard case .allow = evaluate(Request(.fileWrite(try path(text))), with: set, at: now) else { return false }
            return true
        }
        #expect(try allows("/var/lib/aegis/volumes/v1/x") && allows("/var/lib/other") && allows("/process/x"))
        #expect(
            try !allows("/var/lib/aegis/aegis.db") && !allows("/var/lib/aegis") && !allows("/var/lib/aegis/volumes/v2"))
        #expect(try !allows("/proc/self/mem") && !allows("/sys/x") && !allows("/dev/null"))
        #expect(try allows("/var/lib"))
    }

    @Test func aSandboxSeesWhatTheGrantsSay() throws {
        let texts = [
            "file_read: /workspace/**", "file_write: /workspace/out/*", "file_read: /workspace/out/x/**",
            "file_read: /data/*.csv",
            "file_read: /workspace/sub/**", "file_write: /srv/**", "file_read: /srv/**", "tool: x",
            "file_write: /etc/hosts", "file_write: /blind/**", "file_write: /opt/**", "file_read: /opt/a/**",
        ]
        let view = FileView(try texts.map(capability))
        #expect(
            view.mounts.map { "\($0.path) \($0.isWritable)" } == [
                "/srv true", "/workspace false", "/opt/a true", "/workspace/out true",
            ])
        #expect(
            view.perOperation.map(\.description) == [
                "file_read: /data/*.csv", "file_write: /etc/hosts", "file_write: /blind/**",
            ])
    }

    @Test(
        arguments: [
            ("file_write: /home/u/**", "~/.ssh"), ("file_write: /home/u/**", "shell start files"),
            ("file_read: /root/*", "~/.ssh"),
            ("file_read: /etc/**", "/etc"), ("file_write: /etc/cron.d/*", "crontabs"), ("file_read: /**", "every file"),
            ("file_read: /home/*/.ssh/*", "~/.ssh"), ("file_write: /**/.bashrc", "shell start files"),
        ])
    func warnsOfFilesThatGiveMoreAway(_ text: String, _ part: String) throws {
        let warnings = GrantSpec.warnings(try specs(text))
        #expect(
            warnings.contains { $0.contains(part) && $0.contains(try! spec(text).capability.description) },
            "\(warnings)")
    }

    @Test func warnsOfLimitsThatNothingCountsTowards() throws {
        let warnings = GrantSpec.warnings(
            try specs(
                "{grant: \"tool: web_fetch\", max_tokens: 5, max_usd: 1}",
                "{grant: \"tool: spawn_agent\", max_tokens: 5}",
                "{grant: \"model: m\", max_tokens: 5}"))
        #expect(
            warnings == [
                "'tool: web_fetch' has max_tokens and max_usd, but only spawn_agent, spawn_agents, memory_store, memory_query use models for their caller"
            ])
    }

    @Test func warnsOfLimitsThatAreMoot() throws {
        let warnings = GrantSpec.warnings(
            try specs("{grant: \"tool: x\", max_calls: 2}", "tool: *", "file_read: /workspace/**"))
        #expect(warnings == ["'tool: x' has limits, but 'tool: *' allows the same without any"])
        #expect(GrantSpec.warnings(try specs("{grant: \"tool: *\", max_calls: 2}", "tool: x", "network: *")).isEmpty)
    }
}
