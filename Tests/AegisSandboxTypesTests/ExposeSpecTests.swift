import AegisCore
import AegisSandboxTypes
import Testing

@Suite struct ExposeSpecTests {
    @Test(
        arguments: [
            ("80", "127.0.0.1", 0, 80, "http", false), ("8080:80", "127.0.0.1", 8080, 80, "http", false),
            ("80:http", "127.0.0.1", 0, 80, "http", false), ("8080:80:tcp", "127.0.0.1", 8080, 80, "tcp", false),
            ("8080:80:http,ui", "127.0.0.1", 8080, 80, "http", true),
            ("0.0.0.0:0:80:ws", "0.0.0.0", 0, 80, "ws", false),
            ("[::1]:8080:80", "::1", 8080, 80, "http", false),
        ] as [(String, String, UInt16, UInt16, String, Bool)])
    func accepted(_ text: String, _ address: String, _ pub: UInt16, _ guest: UInt16, _ proto: String, _ ui: Bool) throws
    {
        let spec = try ExposeSpec(parsing: text)
        #expect(spec.address == address && spec.publicPort == pub && spec.guestPort == guest)
        #expect(spec.portProtocol.rawValue == proto && spec.ui == ui)
    }

    @Test func optionsAreRead() throws {
        let spec = try ExposeSpec(parsing: "80:http,ui,wake=never,cooldown=5s,ready=/health")
        #expect(spec.wake == .never && spec.cooldown == .seconds(5) && spec.ready == .http(path: "/health") && spec.ui)
    }

    @Test(arguments: [
        ("80/tcp", "write 80:tcp"), ("0", "1 to 65535"), ("70000", "65535"), ("80:htp", "did you mean 'http'?"),
        ("", "write ["),
        ("a:b:c:d:80", "write ["), ("80,uii", "did you mean 'ui'?"), ("80,wake=x", "wake=connect"),
        ("[::1:80", "write ["),
        ("host:8080:80", "write ["),
    ])
    func refusedWithTheRightSpelling(_ text: String, _ hint: String) {
        let error = #expect(throws: AegisError.self) { try ExposeSpec(parsing: text) }
        #expect(error?.kind == .usage && error?.hint?.contains(hint) == true, "\(String(describing: error))")
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
