import AegisCore
import Testing

@testable import AegisImages

struct PullTableTests {
    @Test func oneJobServesAllWhoWantTheSame() {
        var table = PullTable(limit: 4, waiting: 10)
        #expect(table.join(1, "a") == [.start(0)])
        #expect(table.join(2, "a") == [])
        #expect(table.finished(0) == [.answer([1, 2])])
        #expect(table.jobCount == 0)
        #expect(table.join(3, "a") == [.start(1)])
    }

    @Test func jobsBeyondTheLimitWaitInOrder() {
        var table = PullTable(limit: 2, waiting: 10)
        #expect(table.join(1, "a") == [.start(0)])
        #expect(table.join(2, "b") == [.start(1)])
        #expect(table.join(3, "c") == [])
        #expect(table.join(4, "d") == [])
        #expect(table.finished(1) == [.answer([2]), .start(2)])
        #expect(table.finished(0) == [.answer([1]), .start(3)])
    }

    @Test func theLastWaiterWhoLeavesCancels() {
        var table = PullTable(limit: 1, waiting: 10)
        _ = table.join(1, "a")
        _ = table.join(2, "a")
        #expect(table.leave(1) == [.abandon(1)])
        #expect(table.leave(2) == [.abandon(2), .cancel(0)])
        #expect(table.leave(2) == [])
    }

    @Test func aNewcomerDoesNotJoinACancelledJob() {
        var table = PullTable(limit: 2, waiting: 10)
        _ = table.join(1, "a")
        _ = table.leave(1)
        #expect(table.join(2, "a") == [.start(1)])
        #expect(table.finished(0) == [])
        #expect(table.waiters(1) == [2])
        #expect(table.finished(1) == [.answer([2])])
    }

    @Test func aQueuedJobThatNobodyWantsNeverStarts() {
        var table = PullTable(limit: 1, waiting: 10)
        _ = table.join(1, "a")
        _ = table.join(2, "b")
        #expect(table.leave(2) == [.abandon(2)])
        #expect(table.finished(0) == [.answer([1])])
        #expect(table.jobCount == 0)
    }

    @Test func tooManyWaitersAreRefused() {
        var table = PullTable(limit: 1, waiting: 2)
        _ = table.join(1, "a")
        _ = table.join(2, "a")
        #expect(table.join(3, "a") == [.refuse(3)])
    }

    /// Random events: every waiter gets exactly one answer or farewell, and never more jobs run than may.
    @Test(arguments: 0..<50)
    func everyWaiterIsAnsweredOnce(_ seed: UInt64) {
        var random = SplitMix(state: seed)
        var table = PullTable(limit: 3, waiting: 1000)
        var running = Set<Int>()
        var open = Set<Int>()
        func apply(_ actions: [PullTable.Action]) {
            for action in actions {
                switch action {
                case .start(let job): #expect(running.insert(job).inserted)
                case .cancel(let job): #expect(running.contains(job))
                case .answer(let waiters): for waiter in waiters { #expect(open.remove(waiter) != nil) }
                case .abandon(let waiter), .refuse(let waiter): #expect(open.remove(waiter) != nil)
                }
            }
            #expect(running.count <= 3)
        }
        for waiter in 0..<200 {
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1:
                open.insert(waiter)
                apply(table.join(waiter, "\(Int.random(in: 0..<6, using: &random))"))
            case 2: apply(table.leave(Int.random(in: 0...waiter, using: &random)))
            default:
                if let job = running.randomElement(using: &random) {
                    running.remove(job)
                    apply(table.finished(job))
                }
            }
        }
        while let job = running.first {
            running.remove(job)
            apply(table.finished(job))
        }
        #expect(open.isEmpty && table.jobCount == 0)
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

struct HelperReportTests {
    private static let digest = Digest(of: Array("x".utf8))

    @Test(
        arguments: [
            .whiteout(Array("a/b".utf8)), .opaque([]), .opaque(Array("a".utf8)), .implicit(Array("a".utf8)),
            .warning("careful"),
            .done(digest: digest, bytes: 5, entries: 6), .done(digest: nil, bytes: 0, entries: 0),
            .failure(code: "corrupt-layer", message: "a text with spaces"),
        ] as [HelperRecord])
    func recordsComeBackInAnyPieces(_ record: HelperRecord) throws {
        for size in [1, 3, 1000] {
            var reader = ReportReader()
            let bytes = record.encoded + record.encoded
            for start in stride(from: 0, to: bytes.count, by: size) {
                try reader.take(bytes[start..<min(start + size, bytes.count)])
            }
            #expect(reader.records == [record, record])
        }
    }

    @Test(arguments: [
        "", "w", "w/abs", "w../x", "wa/../b", "wa//b", "wa/", "w.", "o..", "i", "x", "d", "d- 1", "d- -1 0", "dzz 1 1",
        "eUPPER x", "e",
        "w" + String(repeating: "n", count: 256),
    ])
    func refusesOtherRecords(_ text: String) {
        var reader = ReportReader()
        #expect(throws: AegisError.self) { try reader.take((Array(text.utf8) + [0])[...]) }
    }

    @Test func refusesFloods() {
        var long = ReportReader(limit: 100)
        #expect(throws: AegisError.self) {
            for _ in 0..<20 { try long.take(HelperRecord.warning("1234567890").encoded[...]) }
        }
        var endless = ReportReader()
        #expect(throws: AegisError.self) { try endless.take([UInt8](repeating: 0x21, count: 9000)[...]) }
    }
}

struct FetchFailureTests {
    @Test(arguments: [
        (
            #"level=fatal msg="Error parsing image name \"docker://h/x:1\": reading manifest 1 in h/x: manifest unknown""#,
            false, "image-not-found"
        ),
        (
            #"reading manifest latest in h/x: name unknown: repository name not known to registry"#, false,
            "image-not-found"
        ),
        (
            #"pinging container registry h: Get "https://h/v2/": dial tcp 1.2.3.4:443: connect: connection refused"#,
            false, "registry-unreachable"
        ),
        (
            #"Get "http://h:40404/v2/": dial tcp 1.2.3.4:40404: connect: connection refused"#, false,
            "registry-unreachable"
        ),
        (#"read tcp 1.2.3.4:40412->1.2.3.4:4429: read: connection reset by peer"#, false, "registry-unreachable"),
        (#"fetching blob: StatusCode: 404, <html>"#, false, "image-not-found"),
        (#"dial tcp: lookup h on 1.1.1.1:53: no such host"#, false, "registry-unreachable"),
        (
            #"net/http: request canceled while waiting for connection (Client.Timeout exceeded): i/o timeout"#, false,
            "registry-unreachable"
        ),
        (#"http: server gave HTTP response to HTTPS client"#, false, "registry-tls"),
        (#"x509: certificate signed by unknown authority"#, false, "registry-tls"),
        (#"reading manifest 1 in h/x: unauthorized: authentication required"#, false, "image-auth-required"),
        (
            #"unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password"#,
            true, "image-auth-required"
        ),
        (#"reading manifest: requested access to the resource is denied"#, false, "image-auth-required"),
        (#"toomanyrequests: You have reached your pull rate limit"#, false, "registry-rate-limited"),
        (
            #"writing blob: storing blob to file "/tmp/pull/layout/oci-put-blob1": write /tmp/x: no space left on device"#,
            false, "disk-full"
        ),
        (#"Error: Digest did not match, expected sha256:aa, got sha256:bb"#, false, "digest-mismatch"),
        (#"reading signatures: open /var/lib/x/signature-1: permission denied"#, false, "pull-failed"),
        (#"reading blob sha256:404404404a: read tcp 1.1.1.1: connection reset by peer"#, false, "registry-unreachable"),
        (#"pinging registry for h.example/x: connect: connection refused"#, false, "registry-unreachable"),
        (#"something that nobody has seen before"#, false, "pull-failed"),
        ("", false, "pull-failed"),
    ])
    func knowsWhatMessagesMean(_ text: String, _ authenticated: Bool, _ code: String) throws {
        let error = FetchFailure.error(text, try ImageReference(parsing: "h.example/x:1"), authenticated: authenticated)
        #expect(error.code == code)
        #expect(error.message.contains("h.example/x:1"))
    }

    @Test func theImagesOwnNameIsNoReason() throws {
        let reference = try ImageReference(parsing: "h.example/denied/404-eof:1")
        let error = FetchFailure.error(
            "reading h.example/denied/404-eof:1 in denied/404-eof: odd", reference, authenticated: false)
        #expect(error.code == "pull-failed")
    }

    @Test func theReasonIsTheLastMessageWithoutItsDressing() {
        let text = "time=\"x\" level=warning msg=\"first\"\ntime=\"x\" level=fatal msg=\"reading \\\"it\\\": gone\"\n"
        #expect(FetchFailure.reason(text) == "reading \"it\": gone")
    }
}

struct BaseRecipeTests {
    private static let release = "ID=debian\nVERSION_CODENAME=trixie\n"

    @Test func takesTheHostsOwnSourcesOnly() throws {
        let sources = """
            # a comment
            Types: deb deb-src
            URIs: http://mirror.example/debian
            Suites: trixie trixie-updates
            Components: main contrib
            Signed-By: /usr/share/keyrings/k.gpg

            Types: deb
            URIs: http://vendor.example/apt
            Suites: nodistro
            Components: main

            Enabled: no
            Types: deb
            URIs: http://off.example/debian
            Suites: trixie
            Components: main
            """
        let list = """
            deb [arch=amd64 signed-by=/k.gpg] http://list.example/debian trixie-security main
            deb-src http://list.example/debian trixie main
            deb http://vendor.example/apt cloud-sdk-trixie main
            """
        let config =
            "Acquire::http::Proxy \"http://proxy.example:3128\";\nAPT::Architecture \"amd64\";\nAcquire::http \"\";\n"
        let recipe = try BaseRecipe(
            release: Self.release, sources: [("debian.sources", sources), ("sources.list", list)], aptConfig: config)
        #expect(recipe.suite == "trixie")
        #expect(recipe.sources.contains("mirror.example") && recipe.sources.contains("list.example"))
        #expect(recipe.sources.contains("Signed-By: /k.gpg"))
        #expect(
            !recipe.sources.contains("vendor.example") && !recipe.sources.contains("off.example")
                && !recipe.sources.contains("deb-src"))
        #expect(recipe.aptOptions == "Acquire::http::Proxy \"http://proxy.example:3128\";")
    }

    @Test func saysWhatTheHostLacks() {
        for (release, sources) in [
            ("", ""), (Self.release, "deb http://x.example/ other main"), ("VERSION_CODENAME=$(x)\n", ""),
        ] {
            let error = #expect(throws: AegisError.self) {
                try BaseRecipe(release: release, sources: [("sources.list", sources)], aptConfig: "")
            }
            #expect(error?.code == "base-build-failed")
        }
    }
}
