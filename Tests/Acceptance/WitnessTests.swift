import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// `audit.witness` as a server: heads of the ledger where the node's root cannot take them back.
@Suite struct WitnessTests {
    private struct Post: Decodable {
        struct Body: Decodable {
            var time: String
            var node: String
            var head: String
        }
        var path: String
        var key: String?
        var type: String
        var body: Body
    }

    /// Keeps each POST as a line, in the manner that a file names: `away` (it does not even listen), `redirect` or `take`.
    private static func program(_ tls: String) -> String {
        """
        import ssl, time
        place = sys.argv[1]
        def manner():
            try: return open(place + ".manner").read().strip()
            except FileNotFoundError: return "away"
        class Sink(Base):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                post = {"path": self.path, "key": self.headers.get("X-Key"), "type": self.headers["Content-Type"], "body": body}
                with open(place + ".posts", "a") as f: f.write(json.dumps(post) + "\\n")
                if manner() != "redirect": return self.answer(204, "text/plain", b"")
                self.send_response(302); self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0"); self.end_headers()
            do_GET = do_POST
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink, bind_and_activate=False)
        server.server_bind()
        \(tls)
        with open(place + "~", "w") as f: f.write(str(server.server_address[1]))
        os.rename(place + "~", place)
        while manner() == "away": time.sleep(0.02)
        server.server_activate()
        server.serve_forever()
        """
    }

    private func posts(_ server: LocalServer) -> [Post] {
        let text = (try? String(contentsOfFile: "\(server.file).posts", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { try? JSONDecoder().decode(Post.self, from: Data($0.utf8)) }
    }

    private func set(_ manner: String, _ server: LocalServer) throws {
        try Files.writeAtomically("\(server.file).manner", Array(manner.utf8))
    }

    private func restart(_ f: DaemonFixture, _ spec: String, _ variables: String = "") async throws {
        try await f.succeed("down")
        try "apiVersion: 100monkeys.ai/v1\nkind: NodeConfig\nmetadata: { name: x }\nspec:\n\(spec)\n".write(
            toFile: "\(f.home)/aegis-config.yaml", atomically: true, encoding: .utf8)
        let up = try await f.shell("\(variables) $AEGIS up --ports auto")
        try #require(up.code == 0, "\(up)")
    }

    /// The head of what a ledger ends with, from its files.
    private func last(_ f: DaemonFixture) async throws -> String {
        let line = try await f.shell("tail -qn 1 '\(f.home)'/audit/*.jsonl | tail -n 1")
        let record = try #require(try JSONSerialization.jsonObject(with: Data(line.stdout)) as? [String: Any])
        return "\(try #require(record["seq"])):\(try #require(record["hash"]))"
    }

    @Test func headsGoToAServerOverTLS() async throws {
        try await DaemonFixture.with { f in
            let authority = try await ToolAuthority(on: f.loop)
            try await authority.issue("localhost", names: "DNS:localhost")
            let folder = authority.directory.path
            let tls = """
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain("\(folder)/localhost.pem", "\(folder)/localhost.key")
                server.socket = context.wrap_socket(server.socket, server_side=True)
                """
            try await LocalServer.with(f, Self.program(tls)) { server in
                try set("take", server)
                try await f.succeed("secret", "set", "WITNESS", "-", input: Array("secret-word".utf8))
                let witness = """
                      audit:
                        witness: https://localhost:\(server.port)/heads
                        witness_key: secret:WITNESS
                        witness_header: X-Key
                    """
                // Nobody whom the machine trusts has signed that certificate.
                try await restart(f, witness)
                try await f.eventually("doctor tells") {
                    try await f.aegis("doctor").out.contains("https://localhost:\(server.port) takes no heads")
                }
                #expect(posts(server).isEmpty)
                try await restart(f, "  tls: { ca_file: \(folder)/root.pem }\n" + witness)
                try await f.eventually("a head arrives") { !posts(server).isEmpty }
                let first = try #require(posts(server).first)
                #expect(first.path == "/heads" && first.key == "secret-word" && first.type == "application/json")
                #expect(first.body.node == (try f.node) && first.body.time.hasSuffix("Z"), "\(first)")
                try await f.succeed("run", "--", "true")
                try await f.succeed("audit", "verify", "--head", first.body.head)
                let shown = try await f.succeed("config", "show")
                #expect(shown.out.contains("audit.witness_key: secret:WITNESS"), "\(shown)")
                #expect(!shown.out.contains("secret-word"))
                #expect(try await f.succeed("doctor").out.contains("heads taken"))
                try await f.succeed("down")
                try await checkEnd(f, server)
            }
        }
    }

    /// The daemon has ended: what the server has got last shows that nothing, and whether something, is missing.
    private func checkEnd(_ f: DaemonFixture, _ server: LocalServer) async throws {
        let head = try #require(posts(server).last?.body.head)
        #expect(try await last(f) == head)
        let copy = f.path("copy")
        try #require(try await f.shell("cp -r '\(f.home)/audit' '\(copy)'").code == 0)
        let whole = try await f.aegis("audit", "verify", "--path", copy, "--head", head)
        #expect(whole.out.contains("intact") || whole.code != 1, "\(whole)")
        try #require(try await f.shell("cd '\(copy)' && sed -i '$d' \"$(ls | grep jsonl | tail -n 1)\"").code == 0)
        let cut = try await f.aegis("audit", "verify", "--path", copy, "--head", head)
        #expect(cut.code == 1 && cut.out.contains("truncated"), "\(cut)")
    }

    @Test func aServerThatIsAwayHoldsNothingUp() async throws {
        try await DaemonFixture.with { f in
            try await LocalServer.with(f, Self.program("")) { server in
                try await restart(f, "  audit: { witness: \"http://127.0.0.1:\(server.port)/heads\" }")
                try await f.succeed("run", "--", "true")
                try await f.eventually("it was asked again") {
                    let doctor = try await f.aegis("doctor").out
                    return doctor.contains("takes no heads of the ledger") && !doctor.contains("0 attempts failed")
                        && !doctor.contains(" 1 attempts failed")
                }
                // Somebody else's word is not its.
                try set("redirect", server)
                try await f.eventually("doctor tells") {
                    try await f.aegis("doctor").out.contains("it answers 302; redirects are not followed")
                }
                try set("take", server)
                try await f.eventually("heads are taken") { try await f.aegis("doctor").out.contains(" 0 waiting") }
                #expect(posts(server).allSatisfy { $0.path == "/heads" && $0.key == nil })
                let log = try String(contentsOfFile: "\(f.home)/aegisd.log", encoding: .utf8)
                for words in ["the witness takes no heads", "the witness takes heads of the ledger again"] {
                    #expect(log.components(separatedBy: words).count == 2, "\(words): \(log)")
                }
                try await f.succeed("down")
                try await checkEnd(f, server)
            }
        }
    }

    @Test func whatIsNoWitnessIsRefused() async throws {
        try await onLoop { loop in
            let f = try DaemonFixture(loop: loop)
            for (variables, words) in [
                ("AEGIS_AUDIT_WITNESS=http://example.org/heads", "must be https"),
                ("AEGIS_AUDIT_WITNESS='https://example.org/heads?key=secret-word'", "must have neither '@' nor '?'"),
                ("AEGIS_AUDIT_WITNESS=https://user:secret-word@example.org/", "must have neither '@' nor '?'"),
                ("AEGIS_AUDIT_WITNESS=heads", "must be the absolute path of a file, or an address"),
                (
                    "AEGIS_AUDIT_WITNESS=/heads AEGIS_AUDIT_WITNESS_KEY=x",
                    "witness_key is for a witness that is a server"
                ),
                ("AEGIS_AUDIT_WITNESS_HEADER='a b'", "must be the name of a header"),
            ] {
                let shown = try await f.shell("\(variables) $AEGIS config show")
                #expect(shown.code == 2 && shown.err.contains(words), "\(variables): \(shown)")
                #expect(!shown.err.contains("secret-word"), "\(shown)")
            }
        }
    }
}
