import AegisBroker
import AegisCore
import AegisTestSupport
import LinuxSys
import Testing

/// The same checks when both sides speak HTTP/2: curl and the library h2 inside, the library h2 outside.
@Suite struct InspectorHTTP2Tests {
    /// The server and clients of the library h2.
    static func peer() throws -> String {
        let path = #filePath.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/Peers/h2_peer.py"
        return String(decoding: try Files.read(path, limit: 1 << 20), as: UTF8.self)
    }

    /// What a client of the library h2 says, by the first word of each line.
    private func said(_ what: String, _ world: InspectorTests.World) async throws -> [String: String] {
        let result = try await runTool(
            "python3", ["-c", try Self.peer(), what, "\(world.port)", world.placeholder], in: world.folder.path,
            environment: ["PYTHONPATH=\(try TestPeers.packages())"], on: world.loop)
        #expect(result.code == 0, "\(result)")
        var out: [String: String] = [:]
        for line in result.out.split(separator: "\n") {
            let parts = line.split(separator: " ", maxSplits: 1)
            out[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
        }
        return out
    }

    @Test func aSecretIsUsedAndNotSeen() async throws {
        try await InspectorTests.world(protocols: "h2,http/1.1") { world in
            let key = "X-Api-Key: \(world.placeholder)"
            let good = try await world.curl([
                "--http2", "-w", " %{http_version}", "-H", key, "https://api.example.com/v1/count",
            ])
            #expect(good.out.contains(#""good": true"#) && good.out.hasSuffix(" 2"), "\(good)")
            let echo = try await world.curl(["--http2", "-i", "-H", key, "https://api.example.com/v1/echo"])
            #expect(echo.code == 0 && echo.out.hasSuffix("\ndone"), "\(echo)")
            #expect(!echo.out.contains("real-value") && !echo.out.contains("123+x"), "\(echo.out)")
            #expect(echo.out.contains("x-echo: ****************"))
            #expect(world.refusals == [])
        }
    }
}
