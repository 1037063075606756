import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// `aegis config show`, with a daemon and without one.
@Suite struct ConfigurationTests {
    private struct Value: Decodable, Equatable {
        var key: String
        var value: String
        var origin: String
    }

    private static let head = "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: x }\nspec:\n"

    private func values(_ result: CommandResult) throws -> [String: Value] {
        let list = try JSONDecoder().decode([Value].self, from: Data(result.stdout))
        return Dictionary(uniqueKeysWithValues: list.map { ($0.key, $0) })
    }

    @Test func itIsShownWithoutADaemonAndNothingIsMade() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let file = "\(f.home)/aegis-config.yaml"
            try (Self.head + "  network: { port: 0, token: \"env:TOKEN_X\" }\n  instances:\n    max: 7\n").write(
                toFile: file, atomically: true, encoding: .utf8)
            let broken = try await f.aegis("config", "show")
            #expect(broken.code == 2 && broken.err.contains("(invalid-config)"), "\(broken)")
            #expect(broken.err.contains("TOKEN_X"), "\(broken)")
            let text = try await f.shell("TOKEN_X=hidden-value $AEGIS config show")
            #expect(text.code == 0 && text.out.contains("instances.max: 7  # \(file):7"), "\(text)")
            #expect(text.err.contains("no daemon is running") && !text.out.contains("hidden-value"), "\(text)")
            let json = try await f.shell("TOKEN_X=hidden-value $AEGIS config show -o json --quiet")
            let found = try values(json)
            #expect(json.err.isEmpty && found["instances.max"]?.value == "7", "\(json)")
            #expect(found["network.bind"] == Value(key: "network.bind", value: "127.0.0.1", origin: "default"))
            #expect(try Files.list(f.home).map(\.name) == ["aegis-config.yaml"])
            let other = f.path("other.yaml")
            try (Self.head + "  instances: { max: 9 }\n").write(toFile: other, atomically: true, encoding: .utf8)
            #expect(
                try values(await f.aegis("config", "show", "--config", other, "-o", "json"))["instances.max"]?.value
                    == "9")
            let none = try await f.aegis("config", "show", "--config", f.path("none.yaml"))
            #expect(none.code == 2 && none.err.contains("cannot be read"), "\(none)")
        }
    }

    @Test func everythingThatIsWrongIsNamedWithItsPlace() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let file = f.path("bad.yaml")
            let lines = """
                  runtime: { default_isolation: gvisor }
                  instances:
                    max: 7
                    limits:
                      cpus: -1
                      pids: 1
                    warm:
                      base: 1
                      other: 99
                  network: { proof_interval: 2h }

                """
            try (Self.head + lines).write(toFile: file, atomically: true, encoding: .utf8)
            let result = try await f.shell(
                "AEGIS_INSTANCES_WARM= AEGIS_NETWORK_PROT=1 AEGIS_INSTANCES_MAXX=1 $AEGIS config show --config \(file)")
            #expect(result.code == 2 && result.err.contains("(invalid-config)"), "\(result)")
            for expected in [
                "\(file):5:33: spec.runtime.default_isolation must be one of auto, runsc, runc, crun",
                "\(file):9:13: spec.instances.limits.cpus is out of range: give 0.01 to 1024",
                "\(file):10:13: spec.instances.limits.pids is out of range: give 4 to",
                "\(file):13:14: spec.instances.warm: 99 warm sandboxes of 'other' are out of range; give 0 to 64",
                "\(file):14:30: spec.network.proof_interval must be 1s to 1h",
                "AEGIS_NETWORK_PROT: it sets no key of spec.network; did you mean 'AEGIS_NETWORK_PORT'?",
                "AEGIS_INSTANCES_MAXX: it sets no key of spec.instances; did you mean 'AEGIS_INSTANCES_MAX'?",
            ] { #expect(result.err.contains(expected), "\(expected) in \(result)") }
        }
    }

    @Test func aRunningDaemonShowsWhatItHas() async throws {
        try await onLoop { loop in
            let held = try Listener.tcp(address: "127.0.0.1", port: 0, on: loop)
            defer { held.close() }
            let taken = try held.localPort()
            let config = Self.head + "  instances: { max: 7 }\n  network: { port: \(taken) }\n"
            try await DaemonFixture.with(config: config) { f in
                // Changed since: not in force.
                try (Self.head + "  instances: { max: 8 }\n").write(
                    toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
                let json = try await f.succeed("config", "show", "--output", "json")
                let found = try values(json)
                #expect(found["instances.max"]?.value == "7" && json.err.isEmpty, "\(json)")
                let text = try await f.succeed("config", "show")
                #expect(text.out.contains("instances.max: 7  # "), "\(text)")
                // Ports as they are listened on, and every key.
                let port = try #require(found["network.port"])
                #expect(port.origin == "--ports auto: \(taken) is taken", "\(port)")
                #expect(try await f.succeed("status").out.contains(":\(port.value)"), "\(port)")
                for key in [
                    "limits.cpus", "limits.memory", "limits.pids", "limits.disk", "disk_reserve", "warm_memory",
                ] {
                    #expect(found["instances.\(key)"]?.origin == "default", "\(key): \(json)")
                }
                let token = Value(key: "network.token", value: "•••", origin: "\(f.home)/token")
                #expect(found["network.token"] == token, "\(json)")
            }
        }
    }
}
