import AegisCore
import AegisSandboxTypes
import Testing

@Suite struct ExposeSpecTests {
    @Test(
        arguments: [
            ("80", "127.0.0.1", 0, 80, "http", false), ("8080:80", "127.0.0.1", 8080, 80, "http", false),
            ("80:http", "127.0.0.1", 0, 80, "http", false), ("8080:80:tcp", "127.0.0.1", 8080, 80, "tcp", false),
            ("8080:80:http,ui", "127.0.0.1", 8080, 80, "http", true),
            ("0:80", "127.0.0.1", 0, 80, "http", false), ("65535:65535", "127.0.0.1", 65535, 65535, "http", false),
            ("0.0.0.0:0:80:ws", "0.0.0.0", 0, 80, "ws", false),
            ("[::1]:8080:80", "::1", 8080, 80, "http", false), ("[::]:0:80:grpc", "::", 0, 80, "grpc", false),
            ("[2001:DB8:0:0:1:0:0:1]:1:2", "2001:db8::1:0:0:1", 1, 2, "http", false),
        ] as [(String, String, UInt16, UInt16, String, Bool)])
    func accepted(_ text: String, _ address: String, _ pub: UInt16, _ guest: UInt16, _ proto: String, _ ui: Bool) throws
    {
        let spec = try ExposeSpec(parsing: text)
        #expect(spec.address.description == address && spec.publicPort == pub && spec.guestPort == guest)
        #expect(spec.portProtocol.rawValue == proto && spec.ui == ui)
    }

    @Test func optionsAreRead() throws {
        let spec = try ExposeSpec(parsing: "80:http,ui,wake=never,cooldown=5s,ready=/health?a=1")
        #expect(spec.wake == .never && spec.cooldown == .seconds(5) && spec.ready == .http(path: "/health?a=1"))
        #expect(spec.ui)
        #expect(try ExposeSpec(parsing: "5432:tcp,wait=90s").wait == .seconds(90))
        #expect(try ExposeSpec(parsing: "80,ready=tcp,wake=http").wake == .http)
    }

    @Test(arguments: [
        ("80", "80"), ("0:80:http", "80"), ("127.0.0.1:0:80", "80"), ("127.0.0.1:8080:80", "8080:80"),
        ("0.0.0.0:0:80", "0.0.0.0:0:80"), ("[0:0:0:0:0:0:0:1]:8080:80:tcp", "[::1]:8080:80:tcp"),
        ("80,ready=tcp", "80"), ("80,wake=connect", "80"), ("80,wake=http-only", "80,wake=http"),
        ("80,cooldown=90s", "80,cooldown=1m30s"),
        ("80,wait=60m,cooldown=1s", "80,cooldown=1s,wait=1h"),
        ("80,ready=/a,wake=http,ui", "80,ui,wake=http,ready=/a"),
    ])
    func isPrintedInItsShortestForm(_ text: String, _ canonical: String) throws {
        let spec = try ExposeSpec(parsing: text)
        #expect(spec.description == canonical)
        #expect(try ExposeSpec(parsing: canonical) == spec)
    }

    /// Text, character of the place, and what the message or the hint says.
    @Test(
        arguments: [
            ("80/tcp", 3, "write 80:tcp"), ("8080:80/tcp,ui", 8, "write 8080:80:tcp,ui"), ("80/", 3, "write 80:tcp"),
            ("53/udp", 3, "UDP is not relayed"), ("http://x:80", 5, "not a URL"),
            ("0", 1, "1 to 65535"), ("70000", 1, "65535"), ("8080:", 6, "guest port is missing"),
            (":80", 1, "public port is missing"), ("080", 1, "write 80"), ("+80", 1, "not a number"),
            ("8080:+80", 6, "not a"), ("-1", 1, "not a number"),
            ("8000-8010:80", 1, "range"), ("80-90", 1, "each port"), ("8000:80-90", 6, "range"),
            ("80:htp", 4, "did you mean '80:http'?"), ("8080:80:HTTPS", 9, "did you mean '8080:80:http'?"),
            ("80:quic", 4, "protocols: http"), ("80:ui", 4, "write 80,ui"), ("80:wake=never", 4, "write 80,wake=never"),
            ("80,tcp", 4, "write 80:tcp"), ("80,uii", 4, "did you mean 'ui'?"), ("80,", 4, "an option is missing"),
            ("80,frob=1", 4, "options: ui"), ("80,ui=1", 4, "takes no value"), ("80,wake", 4, "needs a value"),
            ("80,wake=x", 9, "wake=connect"), ("80,wake=Never", 9, "did you mean 'wake=never'?"),
            ("80,cooldown=5", 13, "cooldown=10m"), ("80,cooldown=0s", 13, "cooldown=10m"),
            ("80,cooldown=8d", 13, "up to 7d"), ("80,wait=0s", 9, "from 1s to 1h"), ("80,wait=61m", 9, "wait=90s"),
            ("80,wait=soon", 9, "from 1s to 1h"), ("80,ready=health", 10, "ready=/health"),
            ("80,ready=/a#b", 10, "neither tcp nor a path"),
            ("80,ui,ui", 7, "given twice"), ("80,wake=http,wake=http", 14, "given twice"),
            ("", 1, "a port is missing"), (",ui", 1, "a port is missing"),
            ("a:b:c:d:80", 1, "brackets"), ("::1:8080:80", 1, "[::1]:8080:80"), ("[::1:80", 1, "bracket"),
            ("[::1]", 6, "missing after the bracket"), ("[::1]:80", 7, "public and a guest port"),
            ("[127.0.0.1]:1:2", 2, "without brackets"), ("[::g]:1:2", 2, "not an IPv6 address"),
            ("host:8080:80", 1, "numeric address"), ("localhost:8080:80", 1, "write 127.0.0.1:8080:80"),
            ("127.0.0.01:8080:80", 1, "numeric address"), ("127.0.0.1", 1, "write 127.0.0.1:8080:80"),
            ("1:2:3:4:5", 1, "too many parts"), ("80 ,ui", 3, "write 80,ui"), ("80\u{0}", 3, "does not belong"),
            ("８０", 1, "does not belong"),
        ] as [(String, Int, String)])
    func refusedWithThePlaceAndTheRightSpelling(_ text: String, _ column: Int, _ said: String) {
        let error = #expect(throws: AegisError.self) { try ExposeSpec(parsing: text) }
        let whole = error.map { "\($0.message) \($0.hint ?? "")" } ?? ""
        #expect(error?.kind == .usage && whole.contains("character \(column):") && whole.contains(said), "\(whole)")
    }

    @Test(arguments: [
        ("80:tcp,ui", "leave ui out"), ("80:tcp,wake=http", "wake=connect"), ("80:tcp,wake=http-only", "wake=connect"),
        ("80:tcp,ready=/x", "ready=tcp"),
        ("80:grpc,ready=/x", "ready=tcp"), ("80:ws,ui", "loading page"),
    ])
    func whatAProtocolCannotIsRefused(_ text: String, _ said: String) {
        let error = #expect(throws: AegisError.self) { try ExposeSpec(parsing: text) }
        let whole = error.map { "\($0.message) \($0.hint ?? "")" } ?? ""
        #expect(whole.contains(said), "\(whole)")
    }

    @Test func hintsThatSayWriteCanBeWritten() throws {
        for text in ["80/tcp", "8080:80/http,ui", "80:ui", "80,tcp", "localhost:8080:80", "127.0.0.1", "080", "80 ,ui"]
        {
            let error = #expect(throws: AegisError.self) { try ExposeSpec(parsing: text) }
            let hint = try #require(error?.hint)
            let written = try #require(hint.split(separator: "write ").last)
            _ = try ExposeSpec(parsing: String(written))
        }
    }

    @Test func severalPortsMustNotBeInEachOthersWay() throws {
        #expect(try ExposeSpec.list(["80", "81", "8080:82", "[::1]:8080:83"]).count == 4)
        for (texts, said) in [
            (["80", "8080:80"], "exposed twice"), (["8080:80", "8080:81"], "is taken by '8080:80'"),
            (["8080:80", "0.0.0.0:8080:81"], "is taken by"),
        ] {
            let error = #expect(throws: AegisError.self) { try ExposeSpec.list(texts) }
            #expect(error?.message.contains(said) == true)
        }
        let many = (1...65).map(String.init)
        #expect(throws: AegisError.self) { try ExposeSpec.list(many) }
        #expect(try ExposeSpec.list(Array(many.dropLast())).count == 64)
    }

    /// Whatever is accepted reads back from its own text.
    @Test func everyAcceptedTextSurvivesARoundTrip() throws {
        var random = SystemRandomNumberGenerator()
        let pieces = [
            "80", "8080", "0", ":", ":", ",", "ui", "tcp", "http", "ws", "[::1]", "127.0.0.1", "wake=", "never",
            "cooldown=5s", "wait=5s", "ready=/x", "/", "-", "[", "]", "=",
        ]
        var accepted = 0
        for _ in 0..<40_000 {
            let count = Int.random(in: 1...8, using: &random)
            let text = (0..<count).map { _ in pieces.randomElement(using: &random) ?? "" }.joined()
            guard let spec = try? ExposeSpec(parsing: text) else { continue }
            accepted += 1
            #expect(try ExposeSpec(parsing: spec.description) == spec, "\(text)")
        }
        #expect(accepted > 100)
    }

    @Test(arguments: [
        ("::", "::"), ("1::", "1::"), ("::1", "::1"), ("1:0:0:2::", "1:0:0:2::"), ("0:0:1:0:0:0:1:1", "0:0:1::1:1"),
        ("fe80::1", "fe80::1"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"),
        ("0000:0001::00ab", "0:1::ab"), ("255.255.255.255", "255.255.255.255"),
    ])
    func addressesHaveOneSpelling(_ text: String, _ canonical: String) {
        #expect(HostAddress(text)?.description == canonical)
    }

    @Test(arguments: [
        "", ":", ":::", "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "::1%lo", "256.1.1.1", "1.2.3",
        "1.2.3.4.5", "01.2.3.4", "1.2.3.", "a.b.c.d", "::1.2.3.4", "1:2:3:4:5:6:7::8:9",
    ])
    func whatIsNoAddressIsRefused(_ text: String) { #expect(HostAddress(text) == nil) }

    @Test func recordOfAPortReadsBack() throws {
        var port = ExposedPort(try ExposeSpec(parsing: "0.0.0.0:8080:80,ui,wake=http,cooldown=5s,ready=/x"))
        #expect(port.url == "http://127.0.0.1:8080" && port.warning?.contains("no authentication") == true)
        port.error = RecordedError(.conflict("port-in-use", "taken"))
        #expect(port.url == nil)
        #expect(ExposedPort(try ExposeSpec(parsing: "80")).url == nil)
        #expect(ExposedPort(try ExposeSpec(parsing: "[::1]:9:80:tcp")).url == "tcp://[::1]:9")
    }

    @Test func mountForms() throws {
        #expect(try MountSpec(parsing: "a:/b") == MountSpec(source: "a", target: "/b", readOnly: true))
        #expect(try MountSpec(parsing: "a:/b:rw").readOnly == false)
        for bad in ["a", "a:b", ":/b", "a:/b:rx", "a:/b:rw:x"] {
            #expect(throws: AegisError.self) { try MountSpec(parsing: bad) }
        }
        for bad in ["/", "/proc/x", "/dev", "/a/../b"] {
            #expect(throws: AegisError.self) { try MountSpec(source: "/x", target: bad).validateTarget() }
        }
    }

    @Test func gradesAreOrdered() {
        #expect(Grade.hardwareVM > .userKernel && Grade.userKernel > .emulatedVM && Grade.emulatedVM > .namespaces)
    }
}
