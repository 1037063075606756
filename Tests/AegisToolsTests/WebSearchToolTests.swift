import AegisAuditTestSupport
import AegisCapabilities
import AegisCore
import AegisJSON
import Synchronization
import Testing

@testable import AegisTools

struct WebSearchToolTests {
    private final class Service: WebTransport {
        private let answer: WebAnswer
        private let seen = Mutex([(String, [String])]())
        var requests: [(String, [String])] { seen.withLock { $0 } }
        init(_ body: String, status: Int = 200) {
            answer = WebAnswer(status: status, headers: [], body: Array(body.utf8), isTruncated: false)
        }
        func get(_ request: WebRequest) async throws -> WebAnswer {
            #expect(!request.admits("127.0.0.1", 443) && request.admits("93.184.215.14", 443))
            seen.withLock { $0.append((request.url, request.headers.map { "\($0.name): \($0.value)" })) }
            return answer
        }
    }

    private func world(_ service: Service, _ grants: String...) throws -> World {
        let provider = try SearchProvider(
            url: "https://search.example/v1?q={query}&n={count}", headers: [("X-Key", "hidden")],
            results: "web.results",
            fields: ("name", "link", "text"))
        return try World([WebSearchTool(service, provider: provider)], grants: grants)
    }

    @Test func resultsAreRead() async throws {
        let service = Service(
            #"{"web":{"results":[{"name":"N","link":"https://a","text":"T","x":1},{"name":"no link"}]}}"#)
        // The short grant is both: the tool, and the network for it.
        let world = try world(service, "tool: web_search", "web_search")
        let reply = await world.call("web_search", ["query": "a b&n=9#ä", "count": 3])
        #expect(reply.value == ["results": [["title": "N", "url": "https://a", "snippet": "T"]], "count": 1])
        #expect(service.requests[0].0 == "https://search.example/v1?q=a%20b%26n%3D9%23%C3%A4&n=3")
        #expect(service.requests[0].1.contains("X-Key: hidden"))
        #expect(!world.trail.events.contains { "\($0)".contains("hidden") })
    }

    @Test func theServiceMustBeGranted() async throws {
        let service = Service("{}")
        let reply = try await world(service, "tool: web_search", "network: other.example").call(
            "web_search", ["query": "x"])
        #expect(reply.code == "capability-denied" && service.requests.isEmpty)
    }

    @Test(arguments: [
        ("no json", 200), ("{}", 200), (#"{"web":{"results":{}}}"#, 200), (#"{"web":{"results":[]}}"#, 302),
        (#"{"web":{"results":[]}}"#, 500),
    ])
    func otherAnswersAreFailures(_ body: String, _ status: Int) async throws {
        let reply = try await world(Service(body, status: status), "tool: web_search", "network: *").call(
            "web_search", ["query": "x"])
        #expect(reply.code == "search-failed")
    }

    /// Where the operator's own service is was not said by a model; what it is asked for is granted by a name of its own.
    @Test func aServiceOfTheOperatorMayBeOnThisHost() async throws {
        func admitted(_ url: String, _ found: String, _ port: UInt16) throws -> Bool {
            let provider = try SearchProvider(url: url + "?q={query}", results: "r")
            return provider.admits(found, port, at: try provider.address(of: "x", count: 1))
        }
        #expect(try admitted("http://127.0.0.1:8888/s", "127.0.0.1", 8888))
        #expect(try !admitted("http://127.0.0.1:8888/s", "127.0.0.2", 8888))
        #expect(try !admitted("http://127.0.0.1:8888/s", "127.0.0.1", 80))
        #expect(try admitted("http://localhost:8888/s", "127.0.0.1", 8888))
        #expect(try admitted("http://search.lan/s", "10.1.2.3", 80))
        for address in ["127.0.0.1", "169.254.169.254", "::1"] {
            #expect(try !admitted("http://search.lan/s", address, 80))
        }
        for (url, wanted) in [
            ("http://127.0.0.1:8888", "web-search.internal"), ("http://10.0.0.1:8888", "web-search.internal"),
            ("http://search.example:8888", "search.example"),
        ] {
            let provider = try SearchProvider(url: url + "?q={query}", results: "r")
            let destination = provider.destination(of: try provider.address(of: "x", count: 1))
            #expect("\(destination)" == "\(wanted):8888")
        }
    }

    @Test func aProviderIsCheckedWhenItIsMade() {
        for url in ["https://search.example/", "ftp://x/?q={query}", "{query}"] {
            #expect(throws: AegisError.self) { try SearchProvider(url: url, results: "r") }
        }
    }
}
