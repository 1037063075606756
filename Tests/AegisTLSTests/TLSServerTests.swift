import AegisIO
import AegisTLS
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct TLSServerTests {
    private struct Outcome: Sendable {
        var protocolName: String?
        var version = ""
        var name: String?
        var error: TLSError?
    }

    /// A server with an authority of ours that echoes, and notes how each handshake went.
    private static func serve<R: Sendable>(
        protocols: [String] = ["h2", "http/1.1"], on loop: EventLoop,
        _ body: @escaping @Sendable (UInt16, TemporaryDirectory, Notes<Outcome>) async throws -> R
    ) async throws -> R {
        let authority = try CertificateAuthority(name: "Aegis test")
        let folder = try TemporaryDirectory()
        try Files.writeAtomically(folder.path("root.pem"), Array(authority.certificate.utf8))
        let server = try TLSServer(protocols: protocols)
        let notes = Notes<Outcome>()
        return try await serving(on: loop) { stream in
            do throws(TLSError) {
                let inside = try await server.accept(stream) { name throws(TLSError) in
                    try authority.leaf(for: name ?? "nobody.example")
                }
                notes.add(
                    Outcome(
                        protocolName: inside.applicationProtocol, version: inside.version, name: inside.serverName))
                try? await echo(inside)
            } catch { notes.add(Outcome(error: error)) }
        } _: {
            try await body($0, folder, notes)
        }
    }

    @Test(arguments: ["-tls1_2", "-tls1_3"])
    func opensslTalksToIt(_ version: String) async throws {
        try await onLoop { loop in
            try await Self.serve(on: loop) { port, folder, notes in
                let result = try await runTool(
                    "openssl",
                    [
                        "s_client", "-connect", "127.0.0.1:\(port)", "-servername", "api.example.com", "-CAfile",
                        "root.pem", "-verify_return_error", "-verify_hostname", "api.example.com", version, "-alpn",
                        "http/1.1,h2", "-brief", "-no_ign_eof",
                    ], input: Array("hello\n".utf8), in: folder.path, on: loop)
                #expect(result.code == 0 && result.error.contains("Verification: OK"), "\(result)")
                let seen = try #require(await notes.wait(for: 1).first)
                // The server's first choice counts.
                #expect(seen.protocolName == "h2" && seen.name == "api.example.com" && seen.error == nil)
                #expect(seen.version == (version == "-tls1_2" ? "TLSv1.2" : "TLSv1.3"))
            }
        }
    }

    @Test func whatAClientOffersIsKnownBeforeItIsAnswered() async throws {
        try await onLoop { loop in
            let authority = try CertificateAuthority(name: "Aegis test")
            let server = try TLSServer(protocols: ["http/1.1"])
            let notes = Notes<[String]>()
            try await serving(on: loop) { stream in
                let hello = try await server.greet(stream)
                notes.add(hello.protocols)
                let inside = try await hello.accept(try authority.leaf(for: "a.example"), speaking: ["x"])
                notes.add([inside.applicationProtocol ?? "-", hello.serverName ?? "-"])
            } _: { port in
                for offer in [["-alpn", "h2,x,http/1.1"], []] {
                    _ = try await runTool(
                        "openssl", ["s_client", "-connect", "127.0.0.1:\(port)", "-servername", "a.example"] + offer,
                        on: loop)
                }
            }
            let all = await notes.wait(for: 4)
            #expect(all == [["h2", "x", "http/1.1"], ["x", "a.example"], [], ["-", "a.example"]])
        }
    }

    @Test func pythonSendsAndGetsMuch() async throws {
        let script = """
            import socket, ssl, sys, threading, hashlib
            context = ssl.create_default_context(cafile="root.pem")
            plain = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
            s = context.wrap_socket(plain, server_hostname="big.example")
            data = bytes(range(256)) * (4096 * 8)
            got = hashlib.sha256()
            def read():
                left = len(data)
                while left:
                    piece = s.recv(65536)
                    if not piece: break
                    got.update(piece); left -= len(piece)
            t = threading.Thread(target=read); t.start()
            s.sendall(data)
            t.join()
            version = s.version()
            s.unwrap()
            print(got.digest() == hashlib.sha256(data).digest(), version)
            """
        try await onLoop { loop in
            try await Self.serve(on: loop) { port, folder, _ in
                let result = try await runTool("python3", ["-c", script, "\(port)"], in: folder.path, on: loop)
                #expect(result.out == "True TLSv1.3\n", "\(result)")
            }
        }
    }

    @Test func clientsThatTrustOthersAreReported() async throws {
        try await onLoop { loop in
            try await Self.serve(on: loop) { port, folder, notes in
                let other = try CertificateAuthority(name: "another")
                try Files.writeAtomically(folder.path("other.pem"), Array(other.certificate.utf8))
                for version in ["1.2", "1.3"] {
                    let result = try await runTool(
                        "curl",
                        [
                            "-s", "--cacert", "other.pem", "--tls-max", version, "--resolve",
                            "api.example.com:\(port):127.0.0.1", "https://api.example.com:\(port)/",
                        ], in: folder.path, on: loop)
                    #expect(result.code == 60, "\(result)")
                }
                for seen in await notes.wait(for: 2) {
                    #expect(seen.error?.code == .refusedCertificate && seen.error?.alert == 48, "\(seen)")
                    #expect(seen.error?.code.description == "client-refused-certificate")
                }
            }
        }
    }

    @Test func whatIsInCommonDecides() async throws {
        try await onLoop { loop in
            try await Self.serve(protocols: ["http/1.1"], on: loop) { port, folder, notes in
                let base = [
                    "s_client", "-connect", "127.0.0.1:\(port)", "-servername", "a.example", "-CAfile", "root.pem",
                ]
                let other = try await runTool("openssl", base + ["-alpn", "h2"], in: folder.path, on: loop)
                #expect(other.code != 0 && other.error.contains("no application protocol"), "\(other)")
                let none = try await runTool("openssl", base + ["-brief"], in: folder.path, on: loop)
                #expect(none.code == 0, "\(none)")
                let old = try await runTool(
                    "openssl", base + ["-tls1_1", "-cipher", "ALL@SECLEVEL=0"], in: folder.path, on: loop)
                #expect(old.code != 0)
                #expect(await notes.wait(for: 3).map(\.error?.code) == [.nothingInCommon, nil, .nothingInCommon])
                #expect(notes.all[1].protocolName == nil)
            }
        }
    }

    @Test func whatIsNotTLSIsSaid() async throws {
        try await onLoop { loop in
            try await Self.serve(on: loop) { port, _, notes in
                let result = try await runTool("curl", ["-s", "http://127.0.0.1:\(port)/"], on: loop)
                #expect(result.code != 0)
                #expect(await notes.wait(for: 1).map(\.error?.code) == [.notTLS])
            }
        }
    }

    @Test func aRefusedNameEndsTheHandshake() async throws {
        try await onLoop { loop in
            let (near, far) = BytePipe.pair()
            let server = try TLSServer()
            let client = try TLSClient(authorities: Array(CertificateAuthority(name: "x").certificate.utf8))
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do throws(TLSError) {
                        _ = try await server.accept(far) { name throws(TLSError) in
                            throw TLSError(.noName, "not '\(name ?? "")'")
                        }
                        Issue.record("it was accepted")
                    } catch { #expect(error == TLSError(.noName, "not 'a.example'")) }
                    far.close()
                }
                do throws(TLSError) {
                    _ = try await client.connect(near, host: "a.example")
                    Issue.record("it was accepted")
                } catch { #expect(error.code == .cut) }
            }
        }
    }
}
