import AegisCore
import AegisIO
import AegisTLS
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct TLSClientTests {
    /// Listens with a certificate and sends back what comes, until a client ends.
    private static let pythonEcho = """
        import socket, ssl, sys
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1] + ".pem", sys.argv[1] + ".key")
        context.set_alpn_protocols(["http/1.1"])
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        while True:
            plain, _ = listener.accept()
            try:
                s = context.wrap_socket(plain, server_side=True)
                while piece := s.recv(65536): s.sendall(piece)
                s.unwrap()
            except (OSError, ssl.SSLError): pass
            plain.close()
        """

    @Test func muchGoesBothWays() async throws {
        try await onLoop { loop in
            let authority = try await ToolAuthority(on: loop)
            try await authority.issue("good", names: "DNS:*.example.com,IP:127.0.0.1")
            let server = try await PythonServer(Self.pythonEcho, ["good"], in: authority.directory.path, on: loop)
            let client = try TLSClient(authorities: authority.certificate, protocols: ["h2", "http/1.1"])
            let data = scrambled(6 << 20)
            for host in ["api.example.com", "127.0.0.1"] {
                let stream = try await client.connect(
                    Connect.tcp(host: "127.0.0.1", port: server.port, on: loop), host: host)
                #expect(stream.applicationProtocol == "http/1.1" && stream.version == "TLSv1.3")
                let back = try await withThrowingTaskGroup(of: [UInt8].self) { group in
                    group.addTask {
                        try await stream.write(data)
                        try await stream.end()
                        return []
                    }
                    let back = try await stream.readAll(limit: 32 << 20)
                    try await group.waitForAll()
                    return back
                }
                #expect(back == data)
                stream.close()
            }
            await server.stop()
        }
    }

    @Test func openSSLsServerIsUnderstood() async throws {
        try await onLoop { loop in
            let authority = try await ToolAuthority(on: loop)
            try await authority.issue("good", names: "DNS:good.example")
            var spec = ProcessSpec(
                executable: "/usr/bin/openssl",
                arguments: [
                    "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", "good.pem", "-key", "good.key", "-rev",
                ])
            spec.workingDirectory = authority.directory.path
            spec.stdout = .pipe
            spec.stdin = .pipe
            spec.parentDeathSignal = 9
            let process = try await ChildProcess.spawnInBackground(spec, on: loop)
            var text = ByteBuffer()
            var port: UInt16?
            while port == nil {
                try #require(try await process.stdout?.read(into: &text) ?? 0 > 0)
                let line = String(decoding: text.readable, as: UTF8.self)
                if let place = line.firstRange(of: "ACCEPT 127.0.0.1:"), line.hasSuffix("\n") {
                    port = UInt16(line[place.upperBound...].prefix { $0.isNumber })
                }
            }
            let client = try TLSClient(authorities: authority.certificate)
            let stream = try await client.connect(
                Connect.tcp(host: "127.0.0.1", port: try #require(port), on: loop), host: "good.example")
            try await stream.write("stressed\n")
            var answer = ByteBuffer()
            _ = try await stream.fill(&answer, to: 9)
            #expect(String(decoding: answer.readable, as: UTF8.self) == "desserts\n")
            stream.close()
            await process.teardown([.signal(9, allow: .seconds(5))])
        }
    }

    @Test func badCertificatesHaveTheirNames() async throws {
        try await onLoop { loop in
            let authority = try await ToolAuthority(on: loop)
            let folder = authority.directory.path
            try await authority.issue("old", names: "DNS:a.example", until: "20210101000000Z")
            try await authority.issue("early", names: "DNS:a.example", from: "20480101000000Z")
            try await authority.issue("other", names: "DNS:b.example,DNS:*.a.example")
            try await authority.openssl(
                [
                    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                    "own.key", "-out", "own.pem", "-subj", "/CN=a.example", "-addext", "subjectAltName=DNS:a.example",
                ])
            let stranger = try await ToolAuthority(on: loop)
            try await stranger.issue("foreign", names: "DNS:a.example")
            for (name, folder, code) in [
                ("old", folder, "certificate-expired"), ("early", folder, "certificate-not-yet-valid"),
                ("other", folder, "certificate-name-mismatch"), ("own", folder, "certificate-unknown-authority"),
                ("foreign", stranger.directory.path, "certificate-unknown-authority"),
            ] {
                let server = try await PythonServer(Self.pythonEcho, [name], in: folder, on: loop)
                let client = try TLSClient(authorities: authority.certificate)
                let below = try await Connect.tcp(host: "127.0.0.1", port: server.port, on: loop)
                do throws(TLSError) {
                    _ = try await client.connect(below, host: "a.example")
                    Issue.record("\(name) was accepted")
                } catch {
                    #expect(error.code.description == code)
                    #expect(error.message.contains("a.example") && error.aegisError.code == code)
                }
                below.close()
                await server.stop()
            }
        }
    }

    @Test func theSystemsStoreTrustsNobodyOfOurs() async throws {
        try await onLoop { loop in
            let authority = try CertificateAuthority(name: "x")
            let server = try TLSServer()
            let client = try TLSClient()
            let (near, far) = BytePipe.pair()
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    do throws(TLSError) {
                        _ = try await server.accept(far) { name throws(TLSError) in try authority.leaf(for: name ?? "")
                        }
                    } catch { #expect(error.code == .refusedCertificate) }
                }
                do throws(TLSError) { _ = try await client.connect(near, host: "a.example") } catch {
                    #expect(error.code == .unknownAuthority)
                }
            }
        }
    }

    @Test func aServerWithoutTLSIsSaid() async throws {
        try await onLoop { loop in
            let client = try TLSClient()
            try await serving(on: loop) { stream in
                try await stream.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                _ = try await stream.readAll(limit: 1 << 20)
            } _: { port in
                let below = try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
                do throws(TLSError) { _ = try await client.connect(below, host: "a.example") } catch {
                    #expect(error.code == .notTLS && error.message == "'a.example' does not speak TLS there")
                }
                below.close()
            }
        }
    }

    @Test func nothingToTrustIsAnError() {
        #expect(throws: TLSError.self) { try TLSClient(authorities: Array("no certificate".utf8)) }
    }

    @Test func certificatesInATextAreCounted() throws {
        let one = try CertificateAuthority(name: "x").certificate
        let key = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n"
        let broken = one.replacing("M", with: "A")
        for (text, count) in [
            ("", 0), ("none", 0), (key, 0), (one, 1), ("words\n\(one)\(key)\(one)", 2), (broken, nil),
            (one + broken, nil),
            (String(one.dropLast(30)), nil),
        ] as [(String, Int?)] { #expect(CertificateText.count(in: Array(text.utf8)) == count, "\(text)") }
    }

    @Test func aHandshakeCanBeCancelled() async throws {
        try await onLoop { loop in
            let client = try TLSClient()
            let (near, far) = BytePipe.pair()
            let task = Task { () -> TLSError? in
                do throws(TLSError) { _ = try await client.connect(near, host: "a.example") } catch { return error }
                return nil
            }
            var hello = ByteBuffer()
            _ = try await far.read(into: &hello)
            task.cancel()
            #expect(await task.value?.code == .cancelled)
        }
    }
}
