import AegisCore
import Testing

@testable import AegisConfig

@Suite struct ConfigurationTests {
    @Test func withoutAFileEverythingHasItsDefault() throws {
        let config = try Configuration(file: nil, environment: [:])
        #expect(config.section(Network.self).port == 8080)
        #expect(config.section(Runtime.self).isolation == .auto)
        #expect(config.list(Provider.self).isEmpty)
        try config.finish()
    }

    @Test(arguments: ["", "# only a comment\n", "---\n", "spec:\n", "spec: {}\n", "spec:\n  network:\n"])
    func anEmptyFileIsFine(_ text: String) throws { #expect(try Everything(text).network.port == 8080) }

    @Test func everyTypeIsRead() throws {
        let all = try Everything(
            """
            apiVersion: 100monkeys.ai/v1
            kind: NodeConfig
            metadata: { name: my-box, version: 1.0, labels: { environment: test } }
            spec:
              network: { bind: "::1", port: 0, token: abc, hosts: [a.example, "b.example"], tls: { cert_path: /c.pem } }
              runtime: { default_isolation: runsc, docker_socket_path: /run/d.sock }
              instances: { idle_pause: 1h30m, disk_reserve: 5Gi, warm: { base: 2 }, enabled: false, share: 2.5e-1 }
              llm_providers:
                - name: main
                  models: [ { alias: default }, { alias: small } ]
                  fallback: { default: [main/a, main/b] }
                  limits: { minute: { max: 5 }, hour: {} }
                - name: other
            """)
        #expect(all.name == "my-box")
        #expect(all.network.bind == "::1" && all.network.port == 0 && all.network.token == "abc")
        #expect(all.network.origins == ["a.example", "b.example"] && all.network.certificate == "/c.pem")
        #expect(all.runtime.isolation == .runsc && all.runtime.socket == "/run/d.sock")
        #expect(all.instances.idle == .seconds(5400) && all.instances.disk.bytes == 5 << 30)
        #expect(all.instances.warm == ["base": 2] && all.instances.enabled == false && all.instances.share == 0.25)
        #expect(all.providers.map(\.name) == ["main", "other"] && all.providers[0].models == ["default", "small"])
        #expect(
            all.providers[0].fallback == ["default": ["main/a", "main/b"]]
                && all.providers[0].limits == ["minute": 5, "hour": 1])
    }

    @Test func theSeedsExcerptsAreAccepted() throws {
        let all = try Everything("spec:\n  runtime:\n    runtime_registry_path: \"runtime-registry.yaml\"\n")
        #expect(all.runtime.registry == "runtime-registry.yaml")
    }

    @Test func allProblemsComeAtOnceInTheOrderOfTheFile() {
        let text = """
            kind: Node
            spec:
              network:
                prot: 80
                port: eighty
                bind: [1, 2]
                tls: {}
              runtime: { default_isolation: runcs, docker_socket_path: /a, container_socket_path: /b }
              instances:
                idle_pause: 5 minutes
                enabled: yes
                share: much
                disk_reserve: { size: 5 }
                warm: { base: two, other: 1 }
              llm_providers:
                - models: [ { alais: x } ]
                - 5
              netwrok: {}
            extra: 1
            """
        #expect(
            problems(text) == """
                aegis-config.yaml:1:7: kind must be NodeConfig, found 'Node'
                aegis-config.yaml:4:5: unknown key 'prot' in spec.network; did you mean 'port'?
                aegis-config.yaml:5:11: expected a whole number for spec.network.port, found 'eighty'
                aegis-config.yaml:6:11: expected a text for spec.network.bind, found a list
                aegis-config.yaml:7:10: spec.network.tls.cert_path is missing: expected a text
                aegis-config.yaml:8:33: expected one of auto, runc, runsc, qemu for spec.runtime.default_isolation, \
                found 'runcs'; did you mean 'runc'?
                aegis-config.yaml:8:64: 'docker_socket_path' and 'container_socket_path' in spec.runtime mean the same; \
                keep 'container_socket_path'
                aegis-config.yaml:10:17: expected a length of time such as 60s or 1h30m for spec.instances.idle_pause, \
                found '5 minutes'
                aegis-config.yaml:11:14: expected true or false for spec.instances.enabled, found 'yes'
                aegis-config.yaml:12:12: expected a number for spec.instances.share, found 'much'
                aegis-config.yaml:13:19: expected a size such as 512Mi for spec.instances.disk_reserve, found a map
                aegis-config.yaml:14:19: expected a whole number for spec.instances.warm.base, found 'two'
                aegis-config.yaml:16:7: spec.llm_providers[0].name is missing: expected a text
                aegis-config.yaml:16:17: spec.llm_providers[0].models[0].alias is missing: expected a text
                aegis-config.yaml:16:19: unknown key 'alais' in spec.llm_providers[0].models[0]; did you mean 'alias'?
                aegis-config.yaml:17:7: expected a map for spec.llm_providers[1], found '5'
                aegis-config.yaml:17:7: spec.llm_providers[1].name is missing: expected a text
                aegis-config.yaml:18:3: unknown key 'netwrok' in spec; did you mean 'network'?
                aegis-config.yaml:19:1: unknown key 'extra' in the file; known keys: apiVersion, kind, metadata, spec
                """)
    }

    @Test(arguments: [
        (
            "spec: { network: { port: } }",
            "aegis-config.yaml:1:26: expected a whole number for spec.network.port, found nothing"
        ),
        (
            "spec: { network: { port: 65536 } }",
            "aegis-config.yaml:1:26: spec.network.port must be 0 to 65535, found '65536'"
        ),
        (
            "spec: { network: { token: [a] } }",
            "aegis-config.yaml:1:27: expected a text for spec.network.token, found a list"
        ),
        ("spec: { network: 5 }", "aegis-config.yaml:1:18: expected a map for spec.network, found '5'"),
        (
            "spec: { network: { hosts: a } }",
            "aegis-config.yaml:1:27: expected a list for spec.network.hosts (each item a text), found 'a'"
        ),
        (
            "spec: { network: { hosts: [a, {}] } }",
            "aegis-config.yaml:1:31: expected a text for spec.network.hosts[1], found a map"
        ),
        ("spec: { llm_providers: {} }", "aegis-config.yaml:1:24: expected a list for spec.llm_providers, found a map"),
        ("- a", "aegis-config.yaml:1:1: expected a map for the file, found a list"),
        (
            "spec: { instances: { share: nan } }",
            "aegis-config.yaml:1:29: expected a number for spec.instances.share, found 'nan'"
        ),
        (
            "spec: { \"ne\\u0007\": 1 }",
            "aegis-config.yaml:1:9: unknown key 'ne?' in spec; known keys: instances, llm_providers, network, runtime"
        ),
    ])
    func wrongTypesSayWhatWasFound(_ text: String, _ expected: String) { #expect(problems(text) == expected) }

    // MARK: Overrides

    @Test func flagBeatsVariableBeatsFileBeatsDefault() throws {
        let text = "spec: { network: { port: 1, bind: file } }"
        let flags = [ConfigFlag(name: "--port", path: "network.port", value: "3")]
        let environment = [
            "AEGIS_NETWORK_PORT": "2", "AEGIS_NETWORK_BIND": "variable", "AEGIS_RUNTIME_DEFAULT_ISOLATION": "",
        ]
        #expect(try Everything(text).network.port == 1)
        #expect(try Everything(text, environment: environment).network.port == 2)
        let all = try Everything(text, environment: environment, flags: flags)
        #expect(all.network.port == 3 && all.network.bind == "variable" && all.runtime.isolation == .auto)
        let shown = all.entries.filter {
            ["network.port", "network.bind", "runtime.default_isolation"].contains($0.path)
        }
        #expect(
            shown.map { "\($0.path) = \($0.value) (\($0.origin))" } == [
                "network.bind = variable (AEGIS_NETWORK_BIND)", "network.port = 3 (--port)",
                "runtime.default_isolation = auto (default)",
            ])
        #expect(
            try Everything(text).entries.first { $0.path == "network.port" }?.origin.description
                == "aegis-config.yaml:1:26")
    }

    @Test func furtherVariablesWork() throws {
        #expect(try Everything("", environment: ["DOCKER_HOST": "/d"]).runtime.socket == "/d")
        let both = ["DOCKER_HOST": "/d", "CONTAINER_HOST": "/c", "AEGIS_RUNTIME_CONTAINER_SOCKET_PATH": "/a"]
        #expect(try Everything("", environment: both).runtime.socket == "/a")
    }

    @Test(arguments: ["a,b", "[a, b]", "a , b"])
    func aVariableCanGiveAList(_ text: String) throws {
        #expect(try Everything("", environment: ["AEGIS_NETWORK_HOSTS": text]).network.origins == ["a", "b"])
    }

    @Test func aVariableOrFlagCanGiveAMap() throws {
        let variable = ["AEGIS_INSTANCES_WARM": "base=2, python:3.12@runc=1"]
        #expect(try Everything("", environment: variable).instances.warm == ["base": 2, "python:3.12@runc": 1])
        let flag = [ConfigFlag(name: "--warm", path: "instances.warm", value: "x=3")]
        let text = "spec: { instances: { warm: { base: 1 } } }"
        #expect(try Everything(text).instances.warm == ["base": 1])
        #expect(try Everything(text, environment: variable, flags: flag).instances.warm == ["x": 3])
        #expect(
            problems("", environment: ["AEGIS_INSTANCES_WARM": "3"])
                == "AEGIS_INSTANCES_WARM: expected NAME=VALUE for spec.instances.warm, found '3'")
    }

    @Test func wrongOverridesNameFlagOrVariable() {
        let flags = [
            ConfigFlag(name: "--bind", path: "network.bond", value: "x"),
            ConfigFlag(name: "--port", path: "network.port", value: "x"),
        ]
        let environment = [
            "AEGIS_INSTANCES_SHARE": "x", "AEGIS_NETWORK_HOSTS": "[a", "AEGIS_NETWORK_ROUTER_PORT": "env:NOT_THERE",
        ]
        #expect(
            problems("spec: { zone: 1 }", environment: environment, flags: flags) == """
                --port: expected a whole number for spec.network.port, found 'x'
                AEGIS_NETWORK_ROUTER_PORT: environment variable NOT_THERE is not set (for spec.network.router_port)
                AEGIS_NETWORK_HOSTS: expected a list for spec.network.hosts: not valid YAML: did not find expected ',' or ']' \
                while parsing a flow sequence
                AEGIS_INSTANCES_SHARE: expected a number for spec.instances.share, found 'x'
                --bind: it sets network.bond, which no section reads
                aegis-config.yaml:1:9: unknown key 'zone' in spec; known keys: instances, llm_providers, network, runtime
                """)
    }

    @Test func variablesOfASectionThatSetNothingAreRefused() {
        let environment = [
            "AEGIS_NETWORK_PROT": "1", "AEGIS_INSTANCES_MAXX": "1", "AEGIS_NETWORK_": "1", "AEGIS_NETWORK_EMPTY": "",
            "AEGIS_HOME": "/h", "AEGIS_INSTANCE_ID": "i", "AEGIS_TEST_CACHE": "/c", "AEGIS_NETWORKS_X": "1",
            "AEGIS_NETWORK_PORT": "80", "AEGIS_LLM_PROVIDERS_NAME": "x",
        ]
        let found = problems("", environment: environment)
        #expect(
            found.contains("AEGIS_NETWORK_PROT: it sets no key of spec.network; did you mean 'AEGIS_NETWORK_PORT'?"))
        #expect(found.contains("AEGIS_INSTANCES_MAXX: it sets no key of spec.instances; "))
        #expect(found.contains("AEGIS_NETWORK_: it sets no key of spec.network; known: AEGIS_NETWORK_"))
        #expect(found.contains("AEGIS_LLM_PROVIDERS_NAME: it sets no key of spec.llm_providers; its keys"))
        #expect(found.split(separator: "\n").count == 4, "\(found)")
    }

    // MARK: Secrets

    @Test func secretsAreReadAndNeverShown() throws {
        let text = """
            spec:
              network: { token: "secret:API_TOKEN", bind: "env:BIND" }
              llm_providers: [ { name: a, api_key: "env:MODEL_KEY" }, { name: b, api_key: plain-canary } ]
            """
        let all = try Everything(
            text, environment: ["BIND": "host-canary", "MODEL_KEY": "model-canary"],
            secrets: ["API_TOKEN": "token-canary"])
        #expect(all.network.token == "token-canary" && all.network.bind == "host-canary")
        #expect(all.providers.map(\.key) == ["model-canary", "plain-canary"])
        let shown = all.entries.map { "\($0.path)=\($0.value)" }
        #expect(!shown.joined().contains("canary"))
        #expect(
            shown.contains("network.token=secret:API_TOKEN") && shown.contains("llm_providers[0].api_key=env:MODEL_KEY")
        )
        #expect(shown.contains("llm_providers[1].api_key=•••"))
    }

    @Test func messagesDoNotShowWhatIsSecret() {
        let text = """
            spec:
              network: { token: "env:NOWHERE", port: "env:PORT", bind: "secret:BIND" }
              runtime: { default_isolation: "secret:MODE" }
            """
        #expect(
            problems(text, environment: ["PORT": "canary"], secrets: ["MODE": "canary"]) == """
                aegis-config.yaml:2:21: environment variable NOWHERE is not set (for spec.network.token)
                aegis-config.yaml:2:42: expected a whole number for spec.network.port, found the value of env:PORT
                aegis-config.yaml:2:60: secret:BIND cannot be read: there is no secret 'BIND' (secret-not-found) (for spec.network.bind)
                aegis-config.yaml:3:33: expected one of auto, runc, runsc, qemu for spec.runtime.default_isolation, \
                found the value of secret:MODE
                """)
        #expect(
            problems("spec: { network: { token: \"secret:X\" } }")
                == "aegis-config.yaml:1:27: secret:X cannot be used here: this value is needed before the secret store is open "
                + "(for spec.network.token)")
    }

    // MARK: Other documents

    @Test func aDocumentOfAnotherKindUsesTheSameReaders() throws {
        let file = ConfigFile(name: "kit.yaml", bytes: Array("name: web\nport: 80".utf8))
        let kit = try ConfigDocument.read(file) { ($0.require("name", placeholder: ""), $0.read("port", default: 1)) }
        #expect(kit == ("web", 80))
    }

    @Test func aDocumentReadForSomeoneElseQuotesNoValue() {
        let file = ConfigFile(name: "shadow", bytes: Array("name: canary\nport: canary\n".utf8))
        let error = #expect(throws: AegisError.self) {
            try ConfigDocument.read(file, quotesValues: false) { reader in
                (reader.read("name", default: 1), reader.read("port", default: 1) { _ in nil })
            }
        }
        #expect(error?.message.contains("canary") == false && error?.message.contains("shadow:2:7") == true)
    }
}
