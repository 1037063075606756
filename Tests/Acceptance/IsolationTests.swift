import Testing

/// What is asked of isolation and is not there is refused with its reason, never replaced by something weaker.
@Suite struct IsolationTests {
    @Test func whatIsNotThereIsRefusedAndTheNodesMinimumHolds() async throws {
        let config = """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            spec:
              runtime: { min_isolation: user-kernel }
            """
        try await DaemonFixture.with(config: config) { f in
            for (options, code, error) in [
                (["--min-isolation", "hardware-vm"], 125, "isolation-too-weak"),
                // A request may raise the node's minimum and not lower it.
                (["--isolation", "runc", "--min-isolation", "namespaces"], 125, "isolation-too-weak"),
                (["--isolation", "qemu"], 125, "isolation-unavailable"),
                (["--isolation", "runk"], 2, "did you mean 'runc'?"),
            ] as [([String], Int32, String)] {
                let arguments = ["run"] + options + ["--", "true"]
                let result = try await f.run(DaemonFixture.cli, arguments)
                #expect(
                    result.code == code && result.out.isEmpty && result.err.contains(error), "\(arguments): \(result)")
            }
            let allowed = try await f.aegis("run", "--isolation", "runsc", "--", "echo", "in")
            #expect(allowed.code == 0 && allowed.out == "in\n", "\(allowed)")
            let list = try await f.aegis("instance", "list", "--output", "json")
            #expect(list.out == "[]\n", "\(list)")
        }
    }
}
