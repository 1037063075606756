import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The HTTP API on TCP, as a stranger on the network finds it.
@Suite(.serialized) struct DoorTests {
    /// Sends a request as it stands and reads the answer until the daemon closes.
    private func ask(_ f: DaemonFixture, _ request: String) async throws -> String {
        let stream = try await connect(f)
        defer { stream.close() }
        try await stream.write(Array(request.utf8)[...])
        return String(decoding: try await stream.readAll(limit: 1 << 20), as: UTF8.self)
    }

    private func connect(_ f: DaemonFixture) async throws -> FileStream {
        struct Status: Decodable { var ports: [String: String] }
        let status = try await f.succeed("status", "--output", "json")
        let address = try #require(try JSONDecoder().decode(Status.self, from: Data(status.stdout)).ports["api"])
        let port = try #require(address.split(separator: ":").last.flatMap { UInt16($0) })
        return try await Connect.tcp(host: "127.0.0.1", port: port, on: f.loop)
    }

    private func token(_ f: DaemonFixture) throws -> String {
        try String(contentsOfFile: "\(f.home)/token", encoding: .utf8).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    @Test func whoHasNoTokenIsAskedForOne() async throws {
        try await DaemonFixture.shared { f in
            let end = "Host: 127.0.0.1\r\nConnection: close\r\n"
            let none = try await ask(f, "GET /v1/status HTTP/1.1\r\n\(end)\r\n")
            #expect(
                none.hasPrefix("HTTP/1.1 401 ") && none.contains("WWW-Authenticate: Bearer realm=\"aegis\"\r\n")
                    && none.contains("token-needed"), "\(none)")
            for wrong in ["Bearer wrong", "Bearer ", "Basic abc", "Bearer"] {
                let answer = try await ask(f, "GET /v1/status HTTP/1.1\r\n\(end)Authorization: \(wrong)\r\n\r\n")
                #expect(
                    answer.hasPrefix("HTTP/1.1 401 ") && answer.contains("error=\"invalid_token\""), "\(wrong)")
            }
            let token = try token(f)
            for scheme in ["Bearer", "bearer", "BEARER "] {
                let answer = try await ask(
                    f, "GET /v1/status HTTP/1.1\r\n\(end)Authorization: \(scheme) \(token)\r\n\r\n")
                #expect(answer.hasPrefix("HTTP/1.1 200 "), "\(scheme): \(answer)")
            }
        }
    }

    @Test func theHostOfAnAbsoluteTargetCounts() async throws {
        try await DaemonFixture.shared { f in
            let rest = "Connection: close\r\nAuthorization: Bearer \(try token(f))\r\n\r\n"
            for (target, host, status) in [
                ("http://evil.example/v1/status", "127.0.0.1", 403), ("/v1/status", "evil.example", 403),
                ("http://127.0.0.1/v1/status", "evil.example", 200), ("/v1/status", "127.0.0.1:80", 200),
                ("http://localhost:7/v1/status", "localhost", 200),
            ] {
                let answer = try await ask(f, "GET \(target) HTTP/1.1\r\nHost: \(host)\r\n\(rest)")
                #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(target), \(host): \(answer)")
                #expect((status == 403) == answer.contains("host-refused"))
            }
        }
    }

    @Test func methodsThatARouteDoesNotHaveAreNamed() async throws {
        try await DaemonFixture.shared { f in
            let rest = "Host: localhost\r\nConnection: close\r\nAuthorization: Bearer \(try token(f))\r\n\r\n"
            let wrong = try await ask(f, "DELETE /v1/status HTTP/1.1\r\n\(rest)")
            #expect(
                wrong.hasPrefix("HTTP/1.1 405 ") && wrong.contains("Allow: GET, HEAD\r\n")
                    && wrong.contains("method-not-allowed"), "\(wrong)")
            for path in ["/v1/groups", "/v1/groups/shop"] {
                let group = try await ask(f, "POST \(path) HTTP/1.1\r\nContent-Length: 0\r\n\(rest)")
                #expect(
                    group.hasPrefix("HTTP/1.1 405 ") && group.contains("Allow: GET, HEAD\r\n")
                        && group.contains("made by its first member"), "\(group)")
            }
            let head = try await ask(f, "HEAD /v1/status HTTP/1.1\r\n\(rest)")
            #expect(head.hasPrefix("HTTP/1.1 200 ") && head.hasSuffix("\r\n\r\n"), "\(head)")
            #expect(head.contains("Content-Length: ") && !head.contains("Content-Length: 0"), "\(head)")
        }
    }
}
