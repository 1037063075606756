import AegisCore
import Testing

@testable import AegisImages

struct ImageReferenceTests {
    private static let usual = ImageReference.conventionalRegistry
    private static let hex = String(repeating: "0123456789abcdef", count: 4)

    @Test(arguments: [
        ("python", "\(usual)/library/python:latest"),
        ("python:3.12-alpine", "\(usual)/library/python:3.12-alpine"),
        ("someone/thing", "\(usual)/someone/thing:latest"),
        ("registry.example/thing", "registry.example/thing:latest"),
        ("registry.example:5000/a/b/c:v1", "registry.example:5000/a/b/c:v1"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:1", "localhost:5000/x:1"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("UPPER/x", "UPPER/x:latest"),
        ("a__b/c-d.e--f", "\(usual)/a__b/c-d.e--f:latest"),
        ("x@sha256:\(hex)", "\(usual)/library/x@sha256:\(hex)"),
        ("x:1@sha256:\(hex)", "\(usual)/library/x:1@sha256:\(hex)"),
        ("base", "base"),
        ("oci:/some/folder", "oci:/some/folder"),
        ("oci:/some/folder:tag", "oci:/some/folder:tag"),
        ("docker-archive:/x.tar", "docker-archive:/x.tar"),
        ("oci-archive:/a:b/x.tar:v1", "oci-archive:/a:b/x.tar:v1"),
        ("base:1", "\(usual)/library/base:1"),
        ("oci:1", "\(usual)/library/oci:1"),
    ])
    func readsDockersGrammar(_ text: String, _ full: String) throws {
        let reference = try ImageReference(parsing: text)
        #expect(reference.description == full)
        #expect(try ImageReference(parsing: full) == reference)
    }

    @Test(arguments: [
        "", ":", "x:", "x@", "x:y z", "x@sha256:12", "x@md5:\(hex)", "Python", "a//b", "/a", "a/", "-a", "a..b",
        "a___b", "a/.b",
        "x:-tag", "x:.tag", "x:" + String(repeating: "t", count: 129), "h.x:99999/x", "h.x:0/x", "h_x.y/x", "-h.x/y",
        "[zz]/x",
        String(repeating: "a/", count: 130) + "a", "oci:relative/path", "docker-archive:x.tar", "oci:/x:", "a b",
        "a\u{0}b", "é",
    ])
    func refusesAnythingElse(_ text: String) {
        #expect(throws: AegisError.self) { try ImageReference(parsing: text) }
    }

    @Test func upperCaseNamesGetAHint() {
        let error = #expect(throws: AegisError.self) { try ImageReference(parsing: "Python:3") }
        #expect(error?.hint == "did you mean 'python:3'?")
    }

    @Test func theDefaultRegistryIsASetting() throws {
        let reference = try ImageReference(parsing: "python", defaultRegistry: "mirror.example:5000")
        #expect(reference.description == "mirror.example:5000/python:latest")
    }

    @Test(arguments: [
        ("localhost/x", true), ("localhost:1/x", true), ("127.0.0.1:1/x", true), ("127.9.9.9/x", true),
        ("[::1]:1/x", true),
        ("127.example.org/x", false), ("127.0.0.1.example/x", false), ("localhost.example/x", false),
        ("10.0.0.1/x", false),
    ])
    func onlyThisMachineIsLoopback(_ text: String, _ expected: Bool) throws {
        guard case .registry(let reference) = try ImageReference(parsing: text) else { throw Missing(what: text) }
        #expect(reference.isLoopback == expected)
        #expect(ImageSettings().verifiesTLS(reference) == !expected)
    }

    @Test func listedRegistriesMayDoWithoutTLS() throws {
        var settings = ImageSettings()
        settings.insecureRegistries = ["inner.example:5000"]
        guard case .registry(let listed) = try ImageReference(parsing: "inner.example:5000/x"),
            case .registry(let other) = try ImageReference(parsing: "inner.example/x")
        else { throw Missing(what: "registry") }
        #expect(!settings.verifiesTLS(listed) && settings.verifiesTLS(other))
    }
}
