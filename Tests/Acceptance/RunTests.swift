import Testing

/// The isolations that every body runs on.
let backends = ["runc", "runsc"]

@Suite struct RunTests {
    @Test(arguments: backends) func aCommandRunsIsolatedAndLeavesNothing(_ backend: String) async throws {
        try await DaemonFixture.with { f in
            let result = try await f.aegis("run", "--isolation", backend, "--", "python3", "-c", "print(6*7)")
            #expect(result.code == 0 && result.out == "42\n" && result.err.isEmpty, "\(result)")
            let code = try await f.aegis(
                "run", "--isolation", backend, "--", "sh", "-c", "echo out; echo err >&2; exit 3")
            #expect(code.code == 3 && code.out == "out\n" && code.err == "err\n", "\(code)")
            let list = try await f.aegis("instance", "list", "--output", "json")
            #expect(list.out == "[]\n", "\(list)")
        }
    }
}
