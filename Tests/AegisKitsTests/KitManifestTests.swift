import AegisCore
import AegisSandboxTypes
import Testing

@testable import AegisKits

@Suite struct KitManifestTests {
    private static let head = """
        apiVersion: aegis/v1
        kind: Kit
        metadata: { name: web, version: 1.2.3, description: a server }
        spec:

        """

    private func read(_ spec: String, head: String = Self.head) throws -> KitManifest {
        try KitManifest(Array((head + spec).utf8)) { ["kit.yaml", "serve.py", "site", "conf/a.ini"].contains($0) }
    }

    @Test func everythingThatAKitCanSayIsRead() throws {
        let manifest = try read(
            """
              image: base
              command: [sh, -c, 'echo ${HOME} env:PATH']
              env: { A: "1", B: "${A}" }
              workdir: /srv
              user: nobody
              expose: ["80:http,ui", "5432:tcp,wake=never"]
              workspace:
                - { from: site }
                - { from: conf/a.ini, to: etc/a.ini }
              files:
                - { from: serve.py, to: /opt/serve.py }
              secrets:
                - { name: API_KEY, description: a key }
                - { name: MORE, optional: true }
              idle: { pause: 1s, stop: 2m, cpu: 5, reclaim: any, standby: true }
              hooks:
                before: [{ run: [init, now], user: root, timeout: 5s }]
                after: [{ run: [warm] }]
              health: { exec: [check], interval: 1s, timeout: 9s }
              routing: { path: /notes, headers: { request: { X-A: "b c" }, response: { X-Frame-Options: DENY } } }
              network: { group: shop, allow: ["example.org:443", "10.0.0.0/8"] }
              limits: { cpus: 0.5, memory: 64Mi, disk: 1Gi, pids: 64, timeout: 1h }
              min_isolation: namespaces
              grants: ["spawn: *"]
              tools:
                - { name: search, description: finds, command: [mcp, --stdio], env: { X: y }, secrets: [API_KEY],
                    timeout: 90s }

            """)
        #expect(manifest.name == "web" && manifest.version.description == "1.2.3" && manifest.description == "a server")
        let spec = manifest.spec
        // Texts of a kit are as they are written: nothing of the host's environment comes in.
        #expect(spec.command == ["sh", "-c", "echo ${HOME} env:PATH"] && spec.env == ["A": "1", "B": "${A}"])
        #expect(spec.image == "base" && spec.workdir == "/srv" && spec.user == "nobody")
        #expect(spec.expose == ["80:http,ui", "5432:tcp,wake=never"])
        #expect(spec.workspace == [KitFile(from: "site", to: "."), KitFile(from: "conf/a.ini", to: "etc/a.ini")])
        #expect(spec.files == [KitFile(from: "serve.py", to: "/opt/serve.py")])
        #expect(
            spec.secrets == [
                KitSecret(name: "API_KEY", description: "a key"), KitSecret(name: "MORE", optional: true),
            ])
        #expect(
            spec.idle == IdlePolicy(pause: .seconds(1), stop: .seconds(120), cpu: 5, reclaim: .any, standby: true))
        #expect(
            spec.hooks
                == KitHooks(
                    before: [KitCommand(command: ["init", "now"], user: "root", timeout: .seconds(5))],
                    after: [KitCommand(command: ["warm"], timeout: .seconds(60))]))
        #expect(spec.health == KitHealth(exec: ["check"], interval: .seconds(1), timeout: .seconds(9)))
        #expect(
            spec.routing
                == KitRouting(
                    path: "/notes",
                    headers: KitHeaders(request: ["X-A": "b c"], response: ["X-Frame-Options": "DENY"])))
        #expect(spec.network == KitNetwork(group: "shop", allow: ["example.org:443", "10.0.0.0/8"]))
        #expect(spec.limits?.pids == 64 && spec.limits?.timeout == .seconds(3600))
        #expect(spec.minIsolation == "namespaces" && spec.grants == ["spawn: *"])
        #expect(
            spec.tools == [
                KitTool(
                    name: "search", description: "finds", command: ["mcp", "--stdio"], env: ["X": "y"],
                    secrets: ["API_KEY"], timeout: .seconds(90))
            ])
    }

    /// What is wrong, the line and column that it is told at, and a part of what is told.
    @Test(arguments: [
        ("  imagee: base\n", "kit.yaml:5:3", "did you mean 'image'?"),
        ("  host: /bin/sh\n", "kit.yaml:5:3", "unknown key 'host'"),
        ("  isolation: runc\n", "kit.yaml:5:3", "did you mean 'min_isolation'?"),
        ("  command: sh\n", "kit.yaml:5:12", "expected a list"),
        ("  command: [[sh]]\n", "kit.yaml:5:13", "expected a text"),
        ("  image: a b\n", "kit.yaml:5:10", "not an image reference"),
        ("  user: a b\n", "kit.yaml:5:9", "not a user"),
        ("  hooks: { after: [{ run: [x], user: 'a:b:c' }] }\n", "kit.yaml:5:38", "not a user"),
        ("  health: { path: /up }\n", "kit.yaml:5:3", "no http port"),
        ("  routing: { health: /up }\n  expose: ['80:tcp']\n", "kit.yaml:5:3", "no http port"),
        ("  routing: { headers: { request: { X_Forwarded_For: b } } }\n", "kit.yaml:5:53", "the router's own"),
        ("  limits: { memory: lots }\n", "kit.yaml:5:21", "expected a size"),
        ("  limits: { memory: 1Mi }\n", "kit.yaml:5:11", "too small"),
        ("  expose: [\"80/tcp\"]\n", "kit.yaml:5:12", "write 80:tcp"),
        ("  expose: [\"80\", \"80:tcp\"]\n", "kit.yaml:5:3", "exposed twice"),
        ("  files: [{ from: ../x, to: /x }]\n", "kit.yaml:5:19", "without '..'"),
        ("  files: [{ from: /etc, to: /x }]\n", "kit.yaml:5:19", "within the kit"),
        ("  files: [{ from: none, to: /x }]\n", "kit.yaml:5:19", "names nothing in the kit"),
        ("  files: [{ from: site, to: /proc/x }]\n", "kit.yaml:5:29", "belongs to the sandbox"),
        ("  files: [{ from: site, to: /workspace/x }]\n", "kit.yaml:5:29", "under 'workspace'"),
        ("  files: [{ from: site }]\n", "kit.yaml:5:11", "to is missing"),
        ("  workspace: [{ from: site, to: ../x }]\n", "kit.yaml:5:33", "without '..'"),
        ("  secrets: [{ name: a-b }]\n", "kit.yaml:5:21", "environment variable"),
        ("  idle: { pause: 1ms }\n", "kit.yaml:5:9", "out of range"),
        ("  idle: { reclaim: all }\n", "kit.yaml:5:20", "way to reclaim"),
        ("  idle: { standby: maybe }\n", "kit.yaml:5:20", "standby"),
        ("  hooks: { before: [{ run: [] }] }\n", "kit.yaml:5:21", "the program, then its arguments"),
        ("  hooks: { start: [] }\n", "kit.yaml:5:12", "unknown key 'start'"),
        ("  health: { path: /, exec: [x] }\n", "kit.yaml:5:11", "either"),
        ("  routing: { path: notes }\n", "kit.yaml:5:20", "does not begin with /"),
        ("  routing: { path: /a/b }\n", "kit.yaml:5:20", "not a valid path name"),
        ("  routing: { default_port: 80 }\n", "kit.yaml:5:14", "unknown key 'default_port'"),
        ("  routing: { headers: { X-A: b } }\n", "kit.yaml:5:25", "unknown key 'X-A'"),
        ("  routing: { headers: { request: { Host: b } } }\n", "kit.yaml:5:42", "the router's own"),
        ("  routing: { headers: { request: { X-Forwarded-For: b } } }\n", "kit.yaml:5:53", "the router's own"),
        ("  routing: { headers: { request: { X_Real_IP: b } } }\n", "kit.yaml:5:47", "the router's own"),
        ("  routing: { headers: { response: { 'a b': c } } }\n", "kit.yaml:5:44", "not a name of a header field"),
        ("  routing: { headers: { response: { a: \"b\\r\\nc: d\" } } }\n", "kit.yaml:5:40", "ASCII text"),
        ("  routing: { headers: { request: { a: b, A: c } } }\n", "kit.yaml:5:23", "two entries of one name"),
        ("  routing: { health: /up }\n  health: { path: / }\n", "kit.yaml:5:3", "both given"),
        ("  network: { allow: ['*'] }\n", "kit.yaml:5:22", "opens everything"),
        ("  network: { allow: ['no host'] }\n", "kit.yaml:5:22", "is wrong"),
        ("  network: { mode: allow }\n", "kit.yaml:5:14", "unknown key 'mode'"),
        ("  min_isolation: none\n", "kit.yaml:5:18", "is wrong"),
        ("  grants: ['fly: away']\n", "kit.yaml:5:12", "is wrong"),
        ("  grants: ['tool: web_fetch']\n", "kit.yaml:5:12", "not granted to instances"),
        ("  tools: [{ name: x, command: [y], secrets: [NONE] }]\n", "kit.yaml:5:46", "no secret of this kit"),
        ("  tools: [{ name: a.b, command: [y] }]\n", "kit.yaml:5:19", "a-z, 0-9 and '-'"),
        ("  tools: [{ name: x, command: [y], timeout: 1ms }]\n", "kit.yaml:5:45", "must be 1s to 1h"),
        ("  tools: [{ name: x, command: [y], host: true }]\n", "kit.yaml:5:36", "unknown key 'host'"),
    ])
    func whatIsWrongIsToldWhereItStands(_ spec: String, _ place: String, _ text: String) {
        let error = #expect(throws: AegisError.self) { try read(spec) }
        #expect(error?.code == "invalid-config")
        let told = error?.description ?? ""
        #expect(told.contains(place) && told.contains(text), "\(told)")
    }

    @Test(arguments: [
        ("apiVersion: aegis/v2\nkind: Kit\nmetadata: { name: a, version: 1.0.0 }\n", "kit.yaml:1:13"),
        ("apiVersion: aegis/v1\nkind: Agent\nmetadata: { name: a, version: 1.0.0 }\n", "kit.yaml:2:7"),
        ("apiVersion: aegis/v1\nkind: Kit\nmetadata: { name: A, version: 1.0.0 }\n", "kit.yaml:3:19"),
        ("apiVersion: aegis/v1\nkind: Kit\nmetadata: { name: a, version: 1.0 }\n", "kit.yaml:3:31"),
        ("apiVersion: aegis/v1\nkind: Kit\nmetadata: { name: a }\n", "kit.yaml:3:11"),
        ("kind: Kit\nmetadata: { name: a, version: 1.0.0 }\n", "kit.yaml:1:1"),
    ])
    func theEnvelopeIsChecked(_ text: String, _ place: String) {
        let error = #expect(throws: AegisError.self) { try read("", head: text) }
        #expect(error?.description.contains(place) == true, "\(error?.description ?? "")")
    }
}

@Suite struct KitRequestTests {
    private func merge(
        _ change: (inout KitSpec) -> Void, _ ask: (inout CreateInstance) -> Void, secrets: [String] = []
    ) throws -> CreateInstance {
        var spec = KitSpec()
        change(&spec)
        var request = CreateInstance()
        ask(&request)
        return try KitRequest(kit: spec, reference: "web@1.0.0").merged(into: request, secrets: secrets)
    }

    @Test func whatTheUserSaysWinsAndListsAreAdded() throws {
        let all = try merge {
            $0.image = "base"
            $0.command = ["serve"]
            $0.env = ["A": "kit", "B": "kit"]
            $0.user = "nobody"
            $0.workdir = "/srv"
            $0.expose = ["80:http,ui", "5432:tcp"]
            $0.limits = Limits(cpus: 1, memory: ByteSize(64 << 20), timeout: .seconds(9), grace: .seconds(7))
            $0.idle = IdlePolicy(pause: .seconds(1), stop: .seconds(2), standby: true)
        } _: {
            $0.command = ["other"]
            $0.env = ["A": "user", "C": "user"]
            $0.user = "root"
            $0.expose = ["9000:80", "81"]
            $0.limits = Limits(cpus: 2, timeout: .seconds(5))
            $0.idle = IdlePolicy(stop: .seconds(0))
        }
        #expect(all.kit == "web@1.0.0" && all.image == "base" && all.command == ["other"])
        #expect(all.env == ["A": "user", "B": "kit", "C": "user"] && all.user == "root" && all.workdir == "/srv")
        #expect(all.expose == ["5432:tcp", "9000:80", "81"])
        #expect(
            all.limits
                == Limits(cpus: 2, memory: ByteSize(64 << 20), timeout: .seconds(5), grace: .seconds(7)))
        #expect(all.idle == IdlePolicy(pause: .seconds(1), stop: .seconds(0), standby: true))
    }

    @Test func healthMakesTheFirstWebPortReadyLater() throws {
        let health = KitHealth(path: "/up", interval: .seconds(1), timeout: .seconds(1))
        let all = try merge {
            $0.expose = ["5432:tcp", "80:http,ui", "81"]
            $0.health = health
        } _: { _ in
        }
        #expect(all.expose == ["5432:tcp", "80,ui,ready=/up", "81"])
        // The same server at another place; another protocol, or what the user says of it, counts.
        for (given, expected) in [
            ("8000:80", "8000:80,ready=/up"), ("80:http,ready=tcp", "80:http,ready=tcp"),
            ("80,ready=/x", "80,ready=/x"), ("80:tcp", "80:tcp"), ("82", "82"),
        ] {
            let all = try merge {
                $0.expose = ["80:http,ui"]
                $0.health = health
            } _: {
                $0.expose = [given]
            }
            #expect(all.expose == (given == "82" ? ["80,ui,ready=/up", "82"] : [expected]))
        }
    }

    /// Of whichever port: it is the same server at another place.
    @Test(arguments: [
        ("9000:81", "9000:81,ready=/slow"), ("81,ui,cooldown=10m", "81,ui,cooldown=10m,ready=/slow"),
        ("81,ready=tcp", "81,ready=tcp"), ("81,ready=/x", "81,ready=/x"), ("81:ws", "81:ws"), ("81:tcp", "81:tcp"),
        ("9000:80", "9000:80,ready=/up"),
    ])
    func aPortOfTheKitStaysReadyLaterAtAnotherPlace(_ given: String, _ expected: String) throws {
        let all = try merge {
            $0.expose = ["80", "81,ready=/slow"]
            $0.health = KitHealth(path: "/up", interval: .seconds(1), timeout: .seconds(1))
        } _: {
            $0.expose = [given]
        }
        #expect(all.expose == [given.hasPrefix("9000:80") ? "81,ready=/slow" : "80,ready=/up", expected])
    }

    @Test func isolationIsOnlyRaised() throws {
        func grade(_ kit: String?, _ user: String?) throws -> String? {
            try merge {
                $0.minIsolation = kit
            } _: {
                $0.minIsolation = user
            }.minIsolation
        }
        #expect(try grade("user-kernel", "namespaces") == "user-kernel")
        #expect(try grade("namespaces", "user-kernel") == "user-kernel")
        #expect(try grade("user-kernel", nil) == "user-kernel")
        #expect(try grade(nil, "namespaces") == "namespaces")
    }

    @Test func secretsThatAreMissingAreNamed() throws {
        let needs: (inout KitSpec) -> Void = {
            $0.secrets = [
                KitSecret(name: "A", description: "the first"), KitSecret(name: "B", optional: true),
                KitSecret(name: "C"),
            ]
        }
        let error = #expect(throws: AegisError.self) { try merge(needs, { _ in }, secrets: ["C"]) }
        #expect(error?.code == "kit-secret-missing")
        #expect(error?.message == "kit web@1.0.0 needs the secret 'A' (the first)")
        #expect(try merge(needs, { $0.secrets = ["X"] }, secrets: ["A", "C", "X"]).secrets == ["X", "A", "C"])
        #expect(
            try merge(needs, { $0.secrets = ["A@example.org"] }, secrets: ["A", "C"]).secrets == ["A@example.org", "C"])
        #expect(try merge(needs, { $0.secrets = ["*"] }, secrets: ["A"]).secrets == ["*"])
    }

    @Test func placesAreAddedAndNoneCloses() throws {
        let opens: (inout KitSpec) -> Void = { $0.network = KitNetwork(group: "shop", allow: ["a.example"]) }
        #expect(try merge(opens, { _ in }).network == NetworkRequest(group: "shop", allow: ["a.example"]))
        #expect(
            try merge(opens, { $0.network = NetworkRequest(allow: ["b.example", "a.example"]) }).network
                == NetworkRequest(group: "shop", allow: ["a.example", "b.example"]))
        #expect(try merge(opens, { $0.network = NetworkRequest() }).network == NetworkRequest())
        #expect(
            try merge(opens, { $0.network = NetworkRequest(mode: "allow", group: "mine") }).network
                == NetworkRequest(mode: "allow", group: "mine", allow: ["a.example"]))
    }
}
