import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// What the daemon fetches over TLS, whom it trusts there, and where names may lead.
@Suite struct WebFetchTests {
    private static let manifest = """
        name: reader
        model: theirs
        memory: { persistent: true }
        capabilities:
          - "tool: *"
          - "memory: self"
          - "network: *.example"
          - "network: *.turn.example:8080"
        """

    /// Runs a test with a daemon that trusts a company's authority, and an agent of its.
    private static func withReader(
        _ body: @escaping @Sendable (AgentDoor, _ id: String) async throws -> Void
    ) async throws {
        let web = try await TrustedWeb.make()
        try await OutsideWorld.with(more: web.more) { f in
            let door = AgentDoor(fixture: f)
            try await f.succeed("down")
            try AgentDoor.configuration(f, web.configuration)
            try await f.up()
            try await body(door, try await door.spawn(manifest))
        }
        withExtendedLifetime(web) {}
    }

    /// Whom the configuration names is trusted beside the system, by everything that the daemon asks; nobody else is.
    @Test func aCompanysAuthorityIsTrusted() async throws {
        try await Self.withReader { door, id in
            let f = door.fixture
            try await Self.pagesAreRead(door, id)
            // Whatever else is asked for: a search, vectors, a model, a tool, a server for an instance, an image.
            let found = try await door.invoke(id, "web_search", ["query": "tides"])
            #expect("\(found)".contains("Twice"), "\(found)")
            let stored = try await door.invoke(id, "memory_store", ["content": "High tide", "category": "fact"])
            #expect(AgentDoor.value(stored) != nil, "\(stored)")
            let run = try await door.result("agent.run", ["agent_id": id, "message": "go"])
            #expect(run["response"] as? String == "over TLS", "\(run)")
            try await f.succeed("mcp", "refresh", "company")
            let added = try await door.invoke(id, "mcp.company.add", [:])
            #expect("\(added)".contains("forty-two"), "\(added)")
            let inspected = try await f.succeed(
                "run", "--allow", "company.example,inspect", "--", "python3", "-c",
                "import urllib.request as u; print(u.urlopen('https://company.example/page', timeout=90).read())")
            #expect(inspected.out.contains("Twice a day."), "\(inspected)")
            try await f.refuse("image", "pull", "company.example/none:1", code: 4, error: "image-not-found")
            try await f.refuse("image", "pull", "system.example/none:1", code: 4, error: "image-not-found")
            try await f.refuse("image", "pull", "stranger.example/none:1", code: 1, error: "registry-tls")

            // Without the configuration the system counts alone.
            try await f.succeed("down")
            try AgentDoor.configuration(f, "")
            try await f.up()
            let other = try await door.spawn(Self.manifest.replacing("theirs", with: "default"))
            let theirs = try await door.invoke(other, "web_fetch", ["url": "https://company.example/page"])
            #expect(AgentDoor.code(theirs) == "certificate-invalid", "\(theirs)")
            let plain = try await door.invoke(other, "web_fetch", ["url": "https://system.example/page"])
            #expect(AgentDoor.value(plain)?["title"] as? String == "Tides", "\(plain)")
            try await f.refuse("image", "pull", "company.example/none:1", code: 1, error: "registry-tls")
        }
    }

    private static func pagesAreRead(_ door: AgentDoor, _ id: String) async throws {
        func fetch(_ url: String) async throws -> [String: Any] { try await door.invoke(id, "web_fetch", ["url": url]) }
        for (url, redirects) in [
            ("https://company.example/page", 0), ("https://system.example/page", 0),
            ("https://company.example/to?/page", 1), ("http://company.example:8081/to?https://company.example/page", 1),
        ] {
            let answer = try await fetch(url)
            let page = AgentDoor.value(answer)
            let text = page?["body"] as? String ?? ""
            #expect(text.contains("Twice a day.") && !text.contains("bad()"), "\(url): \(answer)")
            #expect(page?["redirects"] as? Int == redirects, "\(url): \(answer)")
        }
        for (url, code, words) in [
            ("https://expired.example/", "certificate-invalid", "expired"),
            ("https://wrong.example/", "certificate-invalid", "wrong.example"),
            ("https://stranger.example/", "certificate-invalid", "self-signed"),
            ("https://company.example/to?https://stranger.example/", "certificate-invalid", "self-signed"),
            ("https://company.example/to?http://company.example:8081/", "redirect-unsafe", "from https to http"),
            ("https://company.example/to?https://private.example/", "capability-denied", "public internet"),
            ("https://company.example/to?https://10.9.9.9/", "capability-denied", "10.9.9.9"),
            ("https://company.example/to?https://loop.example/", "capability-denied", "public internet"),
        ] {
            let refused = try await fetch(url)
            #expect(AgentDoor.code(refused) == code && "\(refused)".contains(words), "\(url): \(refused)")
        }
    }

    /// What a name led to when it was decided about is what is connected to, whatever its name server says next.
    @Test func aNameThatTurnsLeadsNowhereElse() async throws {
        try await Self.withReader { door, id in
            let f = door.fixture
            func fetch(_ url: String) async throws -> [String: Any] {
                try await door.invoke(id, "web_fetch", ["url": url, "raw": true])
            }
            func seen() async throws -> (asked: [String: Int], reached: [String]) {
                let body = AgentDoor.value(try await fetch("https://company.example/seen"))?["body"] as? String ?? ""
                let parsed = try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any]
                return (parsed?["asked"] as? [String: Int] ?? [:], parsed?["reached"] as? [String] ?? [])
            }
            // One answer of the name server is both decided about and used.
            let first = try await fetch("http://a.turn.example:8080/page")
            #expect(AgentDoor.value(first)?["status"] as? Int == 200, "\(first)")
            #expect(try await seen().asked["a.turn.example"] == 1)
            // The second answer is private. Somebody else has taken the first one of this name.
            let script = "import socket; print(socket.gethostbyname('b.turn.example'))"
            let before = try await f.run(
                f.launcher[0], Array(f.launcher.dropFirst()) + ["/usr/bin/python3", "-c", script])
            #expect(before.out == "93.184.216.37\n", "\(before)")
            for url in ["http://b.turn.example:8080/page", "https://company.example/to?https://b.turn.example:8080/"] {
                let refused = try await fetch(url)
                #expect("\(refused)".contains("not on the public internet"), "\(refused)")
            }
            // Of two addresses at once the public one is used.
            let both = try await fetch("http://both.turn.example:8080/page")
            #expect(AgentDoor.value(both)?["status"] as? Int == 200, "\(both)")
            #expect(try await seen().reached == ["93.184.216.37"])
        }
    }

    /// The host's neighbours are its LAN for agents as for sandboxes, whatever addresses they have; so is the host.
    @Test(.enabled(if: FileManager.default.fileExists(atPath: "/proc/net/if_inet6"), "needs IPv6"))
    func neighboursAreNotTheInternet() async throws {
        var more = OutsideWorld.More()
        more.neighbours = true
        more.programs = [["/usr/bin/python3", "-c", NetworkTests.both]]
        try await OutsideWorld.with(more: more) { f in
            try await f.succeed("down")
            try AgentDoor.configuration(f, "")
            try await f.up()
            let door = AgentDoor(fixture: f)
            let near = ["near.example", "near6.example", "93.184.200.2", "[2600:1::3]"]
            let never = ["gate.example", "self.example", "93.184.216.1", "[2600:1::1]"]
            let far = ["web.example", "far6.example", "wide.example"]
            func check(_ name: String, _ grants: [String], isNear: Bool) async throws {
                let agent = try await door.spawn(name, ["tool: web_fetch"] + grants)
                for host in near + never + far {
                    let answer = try await door.invoke(agent, "web_fetch", ["url": "http://\(host):8080/"])
                    if far.contains(host) || isNear && near.contains(host) {
                        #expect(AgentDoor.value(answer)?["status"] as? Int == 200, "\(name) \(host): \(answer)")
                    } else {
                        #expect(AgentDoor.code(answer) == "capability-denied", "\(name) \(host): \(answer)")
                    }
                }
                let led = try await door.invoke(
                    agent, "web_fetch", ["url": "http://web.example/to?http://near.example:8080/"])
                let isThere = AgentDoor.value(led)?["status"] as? Int == 200
                #expect(isThere == isNear, "\(name): \(led)")
            }
            try await check("open", ["network: *"], isNear: false)
            try await check("large", ["network: *", "network: 93.184.0.0/16", "network: 2600::/16"], isNear: false)
            try await check(
                "exact", ["network: *", "network: 93.184.200.0/24:8080", "network: 2600:1::3"], isNear: true)
        }
    }

    /// A file that gives nobody to trust keeps the daemon from starting.
    @Test func anAuthorityThatIsNotThereIsSaidAtTheStart() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            let file = "\(f.home)/aegis-config.yaml"
            let authority = try await ToolAuthority(on: loop)
            let good = String(decoding: authority.certificate, as: UTF8.self)
            let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n"
            for (content, words) in [
                (nil, "cannot be read"), ("", "holds no certificate"), (key, "holds no certificate"),
                (good + good.replacing("M", with: "A"), "holds a certificate that cannot be read"),
                (good + key + good, nil),
            ] as [(String?, String?)] {
                if let content { try content.write(toFile: f.path("ca.pem"), atomically: true, encoding: .utf8) }
                try """
                apiVersion: 100monkeys.ai/v1
                kind: NodeConfig
                metadata: { name: x }
                spec:
                  tls: { ca_file: \(f.path("ca.pem")) }

                """.write(toFile: file, atomically: true, encoding: .utf8)
                let shown = try await f.aegis("config", "show")
                #expect(shown.code == (words == nil ? 0 : 2), "\(content ?? "nothing"): \(shown)")
                if let words {
                    #expect(shown.err.contains("\(file):5:19: spec.tls.ca_file \(words)"), "\(words): \(shown)")
                    let started = try await f.aegis("up", "--ports", "auto")
                    #expect(started.code == 2 && started.err.contains(words), "\(started)")
                }
            }
            try "".write(toFile: file, atomically: true, encoding: .utf8)
            let relative = try await f.shell("AEGIS_TLS_CA_FILE=ca.pem $AEGIS config show")
            #expect(relative.code == 2 && relative.err.contains("must be the absolute path"), "\(relative)")
        }
    }
}
