import AegisIO
import AegisTestSupport
import Foundation
import Testing

/// A load by a client that others wrote, on real sandboxes through a real daemon.
@Suite struct LoadTests {
    /// A server with a thread for each connection, which stay open.
    private static let server = """
        import http.server
        class Web(http.server.BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            disable_nagle_algorithm = True
            def do_GET(self):
                self.send_response(200)
                self.send_header('Content-Length', '6')
                self.end_headers()
                self.wfile.write(b'hello\\n')
            def log_message(self, *words): pass
        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128
        print('run', flush=True)
        Server(('127.0.0.1', 80), Web).serve_forever()
        """

    /// What wrk is to look at: it counts answers by itself, and does not look at what they say.
    private static let script = """
        local threads = {}
        function setup(thread) table.insert(threads, thread) end
        function init() answers, wrong = 0, 0 end
        function response(status, headers, body)
            answers = answers + 1
            if status ~= 200 or body ~= 'hello\\n' then wrong = wrong + 1 end
        end
        function done()
            for _, thread in ipairs(threads) do
                print('answers ' .. thread:get('answers') .. ' wrong ' .. thread:get('wrong'))
            end
        end
        """

    /// One run of wrk, in which nothing may go wrong.
    ///
    /// - Returns: how many answers there were.
    private func wrk(_ f: DaemonFixture, _ url: String, _ more: [String]) async throws -> Int {
        let script = f.path("look.lua")
        try Self.script.write(toFile: script, atomically: true, encoding: .utf8)
        // A busy machine may take its time for an answer.
        let result = try await f.run(
            "/usr/bin/wrk", ["-t1", "-c16", "-d2s", "--timeout", "60s", "-s", script] + more + [url])
        #expect(result.code == 0, "\(result)")
        #expect(!result.out.contains("Socket errors") && !result.out.contains("Non-2xx"), "\(result.out)")
        let counts = try #require(result.out.firstMatch(of: /answers (\d+) wrong (\d+)/), "\(result)")
        #expect(counts.2 == "0", "\(result.out)")
        return try #require(Int(counts.1))
    }

    @Test(arguments: backends) func manyRequestsAtOnceAreAllAnswered(_ backend: String) async throws {
        try await DaemonFixture.shared { f in
            let name = "load-\(backend)"
            try await f.succeed(
                "instance", "start", "--name", name, "--isolation", backend, "--expose", "80", "--", "python3", "-c",
                Self.server)
            let router = String(try await f.shell("$AEGIS status | sed -n 's/^Port router: *//p'").out.dropLast())
            let ways = [
                ("pause", try await f.url(name) + "/", []),
                ("stop", "http://\(router)/", ["-H", "X-Aegis-Instance: \(name)"]),
            ]
            for (verb, url, fields) in ways {
                // The first ones wake it.
                try await f.eventually("nobody holds it") { try await f.aegis("instance", verb, name).code == 0 }
                var answers = 0
                try await f.eventually("\(url): some hundred answers") {
                    answers += try await wrk(f, url, fields)
                    return answers >= 300
                }
            }
            #expect(try await f.hasRun(name, 2))
            try await f.eventually("nothing is open") { try await f.served(name).connections == 0 }
            try await f.succeed("instance", "delete", name)
        }
    }
}
