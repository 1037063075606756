import AegisConfig
import AegisCore
import Testing

@testable import AegisMCP

/// `mcp_servers` of the configuration.
@Suite struct MCPConfigTests {
    private static func read(_ entries: String) throws -> [MCPServerSection] {
        let text =
            "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: t }\nspec:\n  mcp_servers:\n"
            + entries.split(separator: "\n").map { "    \($0)\n" }.joined()
        let configuration = try Configuration(
            file: ConfigFile(name: "c.yaml", bytes: Array(text.utf8)), environment: [:], flags: [])
        let servers = configuration.list(MCPServerSection.self)
        try configuration.finish()
        return servers
    }

    @Test func entriesAreRead() throws {
        let servers = try Self.read(
            """
            - name: files
              command: [python3, -m, server]
              image: base
              network: { allow: ["example.org:443"] }
              mounts: ["/srv/data:/data"]
              env: { MODE: fast }
              secrets: [API_KEY]
              limits: { memory: 128Mi }
              timeout: 5s
              allow: ["read_*", list]
              deny: [read_all]
              approval: first
              users: [alice, "4242"]
              tools: { list: { approval: always, timeout: 1s } }
            - name: web
              url: https://example.org/mcp
              headers: { Authorization: "Bearer secret:TOKEN", X-Plain: yes }
              protocol: "2025-11-25"
            """)
        let files = try #require(servers.first)
        #expect(files.command == ["python3", "-m", "server"] && files.sandbox.networkMode == "none")
        #expect(["read_it", "list"].allSatisfy(files.admits) && !files.admits("read_all") && !files.admits("listing"))
        #expect(files.approval(of: "list") == .always && files.approval(of: "read_it") == .first)
        #expect(files.timeout(of: "list") == .seconds(1) && files.timeout(of: "x") == .seconds(5))
        #expect(files.fullName("list") == "mcp.files.list")
        #expect(files.users == ["alice", "4242"] && !files.serves(user: 7))
        var limited = files
        limited.userIDs = [4242]
        #expect(limited.serves(user: 4242) && limited.serves(user: 0) && !limited.serves(user: 7))
        let web = try #require(servers.last)
        #expect(web.serves(user: 7) && web.revision == .session && web.headers.map(\.secret) == ["TOKEN", nil])
        #expect(try web.headers[0].value { _ in "t" } == "Bearer t")
    }

    @Test(arguments: [
        ("- { name: a }", "needs a command or a url"), ("- { name: A, command: [x] }", "a-z"),
        ("- { name: a, command: [x], url: \"http://h/\" }", "leave one of them out"),
        ("- { name: a, url: \"http://h/\", image: base }", "'image' is for servers with a command"),
        ("- { name: a, url: \"ftp://h/\" }", "must be an address"),
        ("- { name: a, command: [x], netwrk: {} }", "network"),
        ("- { name: a, command: [x], host: true }", "needs 'user'"),
        ("- { name: a, command: [x], host: true, user: root }", "cannot be root"),
        ("- { name: a, command: [x], host: true, user: nobody, image: base }", "runs at the host"),
        (
            "- { name: a, command: [x], host: true, user: nobody, network: { mode: allow } }",
            "no network, or the host's"
        ),
        (
            "- { name: a, command: [x], host: true, user: nobody, network: { allow: [a.org] } }",
            "no network, or the host's"
        ),
        ("- { name: a, command: [x], network: { mode: host } }", "is for servers at the host"),
        ("- { name: a, command: [x], mounts: [\"data:/data\"] }", "absolute source"),
        ("- { name: a, command: [x], allow: [\"a*b\"] }", "'*' at its end"),
        ("- { name: a, command: [x], approval: never }", "always"),
        ("- { name: a, url: \"http://h/\", headers: { Mcp-Session-Id: x } }", "cannot be set"),
        ("- { name: a, command: [x], headers: { A: x } }", "'headers' is for servers with a url"),
        ("- { name: a, command: [x], tools: { t: { aproval: always } } }", "approval"),
    ])
    func mistakesAreTold(_ entry: String, _ said: String) throws {
        do {
            _ = try Self.read(entry)
            Issue.record("'\(entry)' was taken")
        } catch let error as AegisError {
            #expect("\(error.message) \(error.hint ?? "")".contains(said), "\(error.message)")
        }
    }
}
