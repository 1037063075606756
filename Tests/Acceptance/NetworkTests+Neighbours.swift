import AegisTestSupport
import Foundation
import Testing

/// Public addresses on a link of the daemon's host: its LAN, where that has no private addresses.
extension NetworkTests {
    /// HTTP over IPv4 and IPv6.
    static let both = """
        import http.server, socket
        class Server(http.server.ThreadingHTTPServer): address_family = socket.AF_INET6
        class Page(http.server.BaseHTTPRequestHandler):
            def do_GET(self): self.send_response(200); self.end_headers()
            def log_message(self, *a): pass
        server = Server(('::', 8080), Page)
        print('ready', flush=True)
        server.serve_forever()
        """

    @Test(
        .enabled(if: FileManager.default.fileExists(atPath: "/proc/net/if_inet6"), "needs IPv6"),
        arguments: backends.prefix(1))
    func neighboursOfTheHostAreNotTheInternet(_ backend: String) async throws {
        var more = OutsideWorld.More()
        more.neighbours = true
        more.programs = [["/usr/bin/python3", "-c", Self.both]]
        try await OutsideWorld.with(more: more) { f in
            func reached(_ arguments: [String]) async throws -> [String: Bool] {
                let lines = """
                    for name in ('near', 'near6', 'gate', 'web', 'far6', 'wide'): show(name, lambda: literal(name + '.example', 8080))
                    for name in ('93.184.200.2', '93.184.216.34'):
                        show(name, lambda: literal(name, 8080))
                    """
                let result = try await f.run(
                    DaemonFixture.cli,
                    ["run", "--isolation", backend] + arguments
                        + ["--", "python3", "-c", Self.attempts + "\n" + lines])
                try #require(result.code == 0, "\(result)")
                return Self.answers(result.out).mapValues { $0.contains("200 OK") }
            }
            func expected(near: Bool) -> [String: Bool] {
                [
                    "near": near, "near6": near, "93.184.200.2": near, "gate": false, "web": true, "far6": true,
                    "wide": true, "93.184.216.34": true,
                ]
            }
            #expect(try await reached(["--network", "allow"]) == expected(near: false))
            let events = try await f.succeed("events")
            for address in ["93.184.200.2", "2600:1::3"] {
                #expect(
                    events.out.contains("\(address) is on a network of this host's own  (address-refused)"), "\(events)"
                )
            }
            let names = ["near", "near6", "gate", "web", "far6", "wide"].flatMap { ["--allow", "\($0).example"] }
            // Blocks that are larger than the link's networks do not mean them.
            let large = names + ["--allow", "93.184.0.0/16", "--allow", "2600::/16"]
            #expect(try await reached(large) == expected(near: false))
            let exact = names + ["--allow", "93.184.200.0/24:8080", "--allow", "2600:1::3", "--allow", "93.184.216.34"]
            #expect(try await reached(exact) == expected(near: true))
        }
    }
}
