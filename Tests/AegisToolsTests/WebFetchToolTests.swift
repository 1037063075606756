import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import Synchronization
import Testing

@testable import AegisTools

/// A web with its own name server: what is asked, and where it connects.
private final class FakeWeb: WebTransport {
    private let pages: [String: WebAnswer]
    private let names: [String: [String]]
    private let seen = Mutex([String]())
    private let limits = Mutex([Int]())
    var requests: [String] { seen.withLock { $0 } }
    var bounds: [Int] { limits.withLock { $0 } }

    init(_ pages: [String: WebAnswer], names: [String: [String]] = [:]) {
        self.pages = pages
        self.names = names
    }

    func get(_ request: WebRequest) async throws -> WebAnswer {
        let address = try WebAddress(parsing: request.url)
        let found = names[address.host] ?? (IPAddress(address.host) == nil ? ["93.184.215.14"] : [address.host])
        guard let peer = found.first(where: { request.admits($0, address.port) }) else {
            throw WebFailure(.refusedAddress, "no address may be used")
        }
        seen.withLock { $0.append("\(request.url) \(peer)") }
        limits.withLock { $0.append(request.mostBytes) }
        guard var answer = pages[request.url] else { throw WebFailure(.unresolved, "no such\u{1b}host") }
        let isPage = answer.header("content-type").map { WebContent($0) == .page } ?? false
        let most = isPage ? request.mostPageBytes ?? request.mostBytes : request.mostBytes
        answer.isTruncated = answer.isTruncated || answer.body.count > most
        answer.body = Array(answer.body.prefix(most))
        return answer
    }

    static func page(_ text: String, _ status: Int = 200, type: String? = "text/plain") -> WebAnswer {
        WebAnswer(
            status: status, headers: type.map { [("Content-Type", $0)] } ?? [], body: Array(text.utf8),
            isTruncated: false)
    }
    static func redirect(_ location: String, _ status: Int = 302) -> WebAnswer {
        WebAnswer(status: status, headers: [("LOCATION", location)], body: [], isTruncated: false)
    }
}

struct WebFetchToolTests {
    private func world(_ web: FakeWeb, _ grants: String...) throws -> World {
        try World([WebFetchTool(web, place: Self.place)], grants: ["tool: web_fetch"] + grants)
    }

    /// A host with one network of public addresses.
    private static func place(of address: IPAddress) -> AddressPlace {
        if "\(address)" == "93.184.200.1" || "\(address)" == "10.7.7.7" { return .own }
        guard let base = IPAddress("93.184.200.0"), let block = AddressBlock(base, bits: 24), block.contains(address)
        else { return "\(address)" == "93.184.201.1" ? .unknown("no memory") : .far }
        return .near(block)
    }

    @Test func aPageIsFetched() async throws {
        let web = FakeWeb(["https://example.com/a?b": FakeWeb.page("hello")])
        let reply = try await world(web, "network: example.com:443").call(
            "web_fetch", ["url": "HTTPS://Example.COM:443/x/../a?b#fragment"])
        #expect(
            reply.value == [
                "url": "https://example.com/a?b", "status": 200, "content_type": "text/plain", "body": "hello",
                "bytes_read": 5, "truncated": false, "extracted": false, "redirects": 0,
            ])
        #expect(!reply.isError && web.bounds == [50_000])
    }

    @Test func statusIsPartOfSuccess() async throws {
        let web = FakeWeb(["http://example.com/": FakeWeb.page("gone", 404)])
        let reply = try await world(web, "network: *").call("web_fetch", ["url": "http://example.com"])
        #expect(reply.isError && reply.value["status"] == 404 && reply.value["body"] == "gone")
    }

    @Test func everyHopIsAskedFor() async throws {
        let web = FakeWeb([
            "https://a.example/1": FakeWeb.redirect("/2"),
            "https://a.example/2": FakeWeb.redirect("//b.example:444/x/y", 301),
            "https://b.example:444/x/y": FakeWeb.redirect("z?q", 307),
            "https://b.example:444/x/z?q": FakeWeb.page("end"),
            "https://a.example/evil": FakeWeb.redirect("https://evil.example/"),
            "https://evil.example/": FakeWeb.page("evil"),
            "https://a.example/plain": FakeWeb.redirect("http://a.example/"),
            "https://a.example/loop": FakeWeb.redirect("loop"),
            "https://a.example/file": FakeWeb.redirect("file:///etc/passwd"),
        ])
        let world = try world(web, "network: a.example:443", "network: b.example:444")
        let reply = await world.call("web_fetch", ["url": "https://a.example/1"])
        #expect(reply.value["body"] == "end" && reply.value["redirects"] == 3)
        #expect(reply.value["url"] == "https://b.example:444/x/z?q")
        #expect(await world.call("web_fetch", ["url": "https://a.example/evil"]).code == "capability-denied")
        #expect(!web.requests.contains { $0.contains("evil.example") })
        #expect(await world.call("web_fetch", ["url": "https://a.example/plain"]).code == "redirect-unsafe")
        #expect(await world.call("web_fetch", ["url": "https://a.example/file"]).code == "url-invalid")
        #expect(await world.call("web_fetch", ["url": "https://a.example/loop"]).code == "too-many-redirects")
        #expect(web.requests.count { $0.contains("/loop") } == 6)
    }

    @Test(arguments: [
        "127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "fe80::1", "fd00::1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "not an address",
    ])
    func namesLeadToThePublicInternetOrNowhere(_ address: String) async throws {
        let web = FakeWeb(["http://rebind.example/": FakeWeb.page("secret")], names: ["rebind.example": [address]])
        let world = try world(web, "network: *", "network: 10.0.0.0/8")
        let reply = await world.call("web_fetch", ["url": "http://rebind.example/"])
        #expect(reply.code == "capability-denied" && web.requests.isEmpty)
        #expect(world.trail.kinds == ["tool_invoked", "tool_refused", "tool_result"])
    }

    @Test func privateAddressesNeedAGrantForThem() async throws {
        let web = FakeWeb([
            "http://10.1.2.3/": FakeWeb.page("inside"), "http://127.0.0.1/": FakeWeb.page("host"),
            "http://169.254.169.254/": FakeWeb.page("metadata"), "http://[::1]/": FakeWeb.page("host"),
        ])
        let open = try world(web, "network: *")
        for url in ["http://10.1.2.3/", "http://127.0.0.1/", "http://169.254.169.254/", "http://[::1]/"] {
            #expect(await open.call("web_fetch", ["url": .string(url)]).code == "capability-denied", "\(url)")
        }
        let closed = try world(web, "network: 10.0.0.0/8")
        #expect(await closed.call("web_fetch", ["url": "http://10.1.2.3/"]).value["body"] == "inside")
        // Other spellings of the host that Aegis runs on.
        for url in [
            "http://localhost/", "http://0x7f.1/", "http://2130706433/", "http://127.1/", "http://[::ffff:7f00:1]/",
        ] {
            #expect(await open.call("web_fetch", ["url": .string(url)]).isError, "\(url)")
        }
    }

    /// Neighbours with public addresses are a private network by another name, and this host is never reached.
    @Test(arguments: [
        (["network: *"], false), (["network: *", "network: 93.184.0.0/16"], false),
        (["network: *", "network: 93.184.200.0/25"], true), (["network: *", "network: 93.184.200.2:80"], true),
        (["network: near.example", "network: 93.184.200.2:81"], false),
        ([#"{grant: "network: 93.184.200.2", max_calls: 2}"#, "network: *"], true),
    ])
    func neighboursNeedAGrantForThem(_ grants: [String], _ isReached: Bool) async throws {
        let web = FakeWeb(
            ["http://near.example/": FakeWeb.page("n"), "http://93.184.200.2/": FakeWeb.page("n")],
            names: [
                "near.example": ["93.184.200.2"], "own.example": ["93.184.200.1"], "odd.example": ["93.184.201.1"],
            ])
        let world = try World(
            [WebFetchTool(web, place: Self.place)], grants: ["tool: web_fetch", "network: 10.0.0.0/8"] + grants)
        for url in ["http://near.example/", "http://93.184.200.2/"] {
            let reply = await world.call("web_fetch", ["url": .string(url)])
            #expect(reply.code == (isReached ? nil : "capability-denied"), "\(url): \(reply)")
        }
        for url in ["http://own.example/", "http://93.184.200.1/", "http://10.7.7.7/", "http://odd.example/"] {
            let reply = await world.call("web_fetch", ["url": .string(url)])
            #expect(reply.code == "capability-denied", "\(url): \(reply)")
        }
    }

    /// A grant that admits a connection to an address, and is used up by that, has still let it in.
    @Test(arguments: ["93.184.200.2", "10.1.2.3"]) func theLastCallOfAGrantReachesWhatItIsFor(
        _ address: String
    ) async throws {
        let web = FakeWeb(["http://\(address)/": FakeWeb.page("x")])
        let world = try world(web, "{grant: \"network: \(address)\", max_calls: 1}", "network: *")
        #expect(await world.call("web_fetch", ["url": .string("http://\(address)/")]).value["body"] == "x")
        #expect(await world.call("web_fetch", ["url": .string("http://\(address)/")]).isError)
    }

    @Test(arguments: [
        "ftp://example.com/", "example.com", "http:/example.com", "http://", "http://user:pw@example.com/",
        "http://example.com:0/", "http://example.com:99999/", "http://exa mple.com/",
        "http://example.com\\@evil.example/",
        "http://ex\u{e4}mple.com/", "http://[::1/", "http://example.com/\u{7f}", "javascript:alert(1)", "http://a..b/",
    ])
    func whatIsNoAddressIsRefused(_ url: String) async throws {
        let web = FakeWeb([:])
        let reply = try await world(web, "network: *").call("web_fetch", ["url": .string(url)])
        #expect(reply.code == "url-invalid" && web.requests.isEmpty)
    }

    @Test func onlyTextIsGiven() async throws {
        let binary = WebAnswer(
            status: 200, headers: [("content-type", "text/plain")], body: [0x50, 0, 1, 2], isTruncated: false)
        let latin = WebAnswer(
            status: 200, headers: [("content-type", "text/plain; Charset=\"ISO-8859-1\"")], body: [0xe4],
            isTruncated: false)
        let web = FakeWeb([
            "http://x.example/png": FakeWeb.page("x", type: "image/png"), "http://x.example/binary": binary,
            "http://x.example/latin": latin, "http://x.example/json": FakeWeb.page("{}", type: "application/ld+json"),
            "http://x.example/odd": FakeWeb.page("x", type: "text/plain; charset=utf-7"),
            "http://x.example/none": FakeWeb.page("x", type: nil),
            "http://x.example/html": FakeWeb.page("<p>hi", type: "text/html"),
        ])
        let world = try world(web, "network: *")
        func fetch(_ name: String) async -> ToolReply {
            await world.call("web_fetch", ["url": .string("http://x.example/\(name)")])
        }
        for name in ["png", "binary", "odd"] { #expect(await fetch(name).code == "content-not-text", "\(name)") }
        #expect(await fetch("latin").value["body"] == "ä")
        #expect(await fetch("json").value["body"] == "{}")
        #expect(await fetch("none").value["body"] == "x")
        #expect(await fetch("html").value["body"] == "<p>hi")
        let missing = await fetch("missing")
        #expect(missing.code == "host-not-found")
        #expect(missing.value["error"]?["message"]?.text?.contains(#"no such\u{1b}host"#) == true)
    }

    /// A reader that shows what it was given.
    private struct Reader: PageReader {
        func read(_ html: String, at address: String, limit: Int) async throws -> (
            title: String, text: String, isTruncated: Bool
        ) { ("T", "\(address) \(html.utf8.count) \(html.prefix(limit))", html.utf8.count > limit) }
    }

    @Test func aPageIsMadeReadableUnlessItsSourceIsWanted() async throws {
        let long = "<p>" + String(repeating: "x", count: 100_000)
        let meta = WebAnswer(
            status: 200, headers: [("content-type", "text/html")],
            body: Array("<meta charset=\"ISO-8859-1\">".utf8) + [0xe4], isTruncated: false)
        let web = FakeWeb([
            "http://x.example/long": FakeWeb.page(long, type: "text/html"), "http://x.example/meta": meta,
            "http://x.example/text": FakeWeb.page(long),
        ])
        let world = try World(
            [WebFetchTool(web, pages: Reader(), place: Self.place)], grants: ["tool: web_fetch", "network: *"])
        func fetch(_ name: String, raw: Bool = false) async -> JSONValue {
            await world.call(
                "web_fetch",
                ["url": .string("http://x.example/\(name)"), "max_bytes": 10, "raw": .bool(raw)]
            ).value
        }
        // All of the page is read, and so much of the text is given.
        let page = await fetch("long")
        #expect(page["body"]?.text == "http://x.example/long 100003 <p>xxxxxxx" && page["title"] == "T")
        #expect(page["extracted"] == true && page["truncated"] == true && page["bytes_read"] == 100_003)
        let source = await fetch("long", raw: true)
        #expect(source["body"]?.text == "<p>xxxxxxx" && source["extracted"] == false && source["title"] == nil)
        #expect(await fetch("meta")["body"]?.text?.hasPrefix("http://x.example/meta 29 ") == true)
        let text = await fetch("text")
        #expect(text["body"]?.text == "<p>xxxxxxx" && text["bytes_read"] == 10 && text["extracted"] == false)
    }

    @Test func bytesAreBoundedByCallerAndGrant() async throws {
        let web = FakeWeb(["http://x.example/": FakeWeb.page(String(repeating: "ä", count: 100))])
        let world = try world(web, "{grant: \"network: *\", max_bytes: 40}")
        let first = await world.call("web_fetch", ["url": "http://x.example/", "max_bytes": 31])
        #expect(first.value["bytes_read"] == 31 && first.value["truncated"] == true)
        #expect(first.value["body"]?.text == String(repeating: "ä", count: 15))
        let second = await world.call("web_fetch", ["url": "http://x.example/", "max_bytes": 31])
        #expect(second.value["bytes_read"] == 9)
        #expect(await world.call("web_fetch", ["url": "http://x.example/"]).code == "limit-bytes-used-up")
        #expect(
            await world.call("web_fetch", ["url": "http://x.example/", "max_bytes": 1_000_001]).code
                == "arguments-invalid")
        #expect(web.bounds == [31, 9])
    }

    @Test func whatWouldBeRefusedIsNotShown() async throws {
        let web = FakeWeb(["https://a.example/": FakeWeb.page("x")])
        var world = try world(web, "network: a.example:443")
        let desk = ScriptedDesk.agreeing()
        world.context.desk = desk
        world.context.approvals.required = ["web_fetch"]
        #expect(await world.call("web_fetch", ["url": "https://b.example/"]).code == "capability-denied")
        #expect(await world.call("web_fetch", ["url": "https://a.example/"]).isError == false)
        #expect(
            desk.requests.map(\.preview) == [
                ApprovalPreview("GET https://a.example/", resource: "network: a.example:443")
            ])
    }
}
