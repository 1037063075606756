import AegisCore
import AegisIO
import AegisJSON
import AegisTestSupport
import LinuxSys
import Testing

/// The server that comes with the kit `python-runner`, spoken to by the client of the official library.
@Suite struct KitServerPeerTests {
    private static let root = #filePath.split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
    private static let python =
        (CurrentProcess.environment("AEGIS_TEST_PEERS") ?? "\(root)/.build/peers") + "/bin/python"

    @Test(arguments: [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
    func pythonRunner(_ mode: String, _ revision: String) async throws {
        try await onLoop { loop in
            let spec = ProcessSpec(
                executable: Self.python,
                arguments: [
                    Self.python, "\(Self.root)/Tests/AegisMCPTests/Peers/mcp_kit_client.py",
                    "\(Self.root)/kits/python-runner/tools.py", mode,
                ], environment: ["PATH=/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE=1"])
            let (status, out, errors) = try await runProcess(spec, deadline: .seconds(240), on: loop)
            try #require(status.isSuccess, "\(String(decoding: errors, as: UTF8.self))")
            let found = try JSONValue(parsing: out)
            #expect(found["revision"]?.text == revision && found["tools"] == ["reset_python", "run_python"])
            #expect(found["first"] == ["set\n20", false] && found["noise"] == ["42", false], "\(found)")
            #expect(found["other"] == true && found["reset"] == true, "\(found)")
            #expect(found["late"] == ["TimeoutError: the time is over", true], "\(found)")
            #expect(found["kept"] == ["21", false], "\(found)")
            #expect(found["together"] == ["0", "1", "2", "3", "4", "5", "6", "7"], "\(found)")
            #expect(found["wrong"]?.elements?.last == true && found["unknown"] == -32602, "\(found)")
        }
    }
}
