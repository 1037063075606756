import AegisHTTPClient
import Testing

@Suite struct WebURLTests {
    @Test(arguments: [
        ("http://example.org", "http://example.org/", "example.org", 80, "/"),
        ("HTTPS://Example.ORG:8443/a%20b?c=d#e", "https://example.org:8443/a%20b?c=d", "example.org", 8443, "/a%20b"),
        ("http://[::1]:80/x", "http://[::1]:80/x", "::1", 80, "/x"),
        // One address, however it is written: whoever decides about it sees what is connected to.
        ("http://0x7f.1/", "http://127.0.0.1/", "127.0.0.1", 80, "/"),
        ("http://2130706433/", "http://127.0.0.1/", "127.0.0.1", 80, "/"),
        ("http://0177.0.0.1/", "http://127.0.0.1/", "127.0.0.1", 80, "/"),
        ("http:///x", "http://x/", "x", 80, "/"),
        ("http://a/../../b/./c", "http://a/b/c", "a", 80, "/b/c"),
    ])
    func anAddressIsBroughtIntoOneForm(_ text: String, _ whole: String, _ host: String, _ port: Int, _ path: String)
        throws
    {
        let url = try WebURL(text)
        #expect(url.text.lowercased() == whole && url.host == host && url.port == UInt16(port) && url.path == path)
    }

    @Test func aNameInAnotherScriptIsAskedForInItsASCIIForm() {
        #expect { try WebURL("https://bücher.example/") } throws: { "\($0)".contains("xn--") }
    }

    @Test(arguments: [
        "", "example.org", "/path", "//host/path", "ftp://a/", "file:///etc/passwd", "gopher://a/", "http://",
        "http://user:secret@host/", "http://user@host/", "http://a b/", "http://a/\r\nX: y", "http://a/\u{0}",
        "http://a:0/",
        "http://a:99999/", "http://[::1/", "javascript:alert(1)", "http://a\\@b/", "data:text/plain,x", "unix:///run/x",
    ])
    func whatIsNoAddressIsRefused(_ text: String) {
        #expect { try WebURL(text) } throws: { ($0 as? HTTPClientError)?.kind == .invalidRequest }
    }

    @Test func aSecretInAnAddressIsNotRepeatedWhole() {
        let long = "http://host/\(String(repeating: "x", count: 20_000))"
        #expect { try WebURL(long) } throws: { "\($0)".utf8.count < 400 }
    }

    @Test(arguments: [
        ("/x?y", "https://a.example:44/x?y"), ("x", "https://a.example:44/p/x"), ("../x", "https://a.example:44/x"),
        ("//b.example/x", "https://b.example/x"), ("http://c.example/", "http://c.example/"),
        ("?q", "https://a.example:44/p/q?q"),
    ])
    func aLocationIsReadFromWhereItStands(_ reference: String, _ meant: String) throws {
        #expect(try WebURL("https://a.example:44/p/q").resolving(reference).text == meant)
    }

    @Test func aLocationMayNotLeaveTheWeb() throws {
        let base = try WebURL("http://a.example/")
        #expect(throws: HTTPClientError.self) { try base.resolving("file:///etc/passwd") }
        #expect(throws: HTTPClientError.self) { try base.resolving("http://user:x@b/") }
    }

    @Test func theOriginNamesOnlyAnUnusualPort() throws {
        #expect(try WebURL("https://a:443/x").origin == "https://a")
        #expect(try WebURL("http://[::1]:8/x").origin == "http://[::1]:8")
    }
}
