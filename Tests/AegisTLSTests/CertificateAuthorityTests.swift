import AegisCore
import AegisTLS
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@Suite struct CertificateAuthorityTests {
    /// One that was put away and taken out again makes certificates that the same clients take.
    @Test func anAuthorityCanBeMadeAgain() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            let first = try CertificateAuthority(name: "Aegis test")
            let again = try CertificateAuthority(certificate: first.certificate, key: first.privateKey)
            #expect(again.certificate == first.certificate && again.privateKey.reveal() == first.privateKey.reveal())
            try Files.writeAtomically(folder.path("root.pem"), Array(first.certificate.utf8))
            try Files.writeAtomically(folder.path("leaf.pem"), Array(again.leaf(for: "a.example").certificate.utf8))
            let checked = try await runTool(
                "openssl",
                ["verify", "-x509_strict", "-CAfile", "root.pem", "-verify_hostname", "a.example", "leaf.pem"],
                in: folder.path, on: loop)
            #expect(checked.code == 0, "\(checked)")
            // Another's key, half a key, no certificate: none of them is an authority.
            let other = try CertificateAuthority(name: "other")
            for (certificate, key) in [
                (first.certificate, other.privateKey),
                (first.certificate, Secret(Array(first.privateKey.reveal().dropLast(40)))),
                ("", first.privateKey), (String(first.certificate.dropFirst(100)), first.privateKey),
                (first.certificate, Secret([])),
            ] {
                #expect(throws: TLSError.self) { _ = try CertificateAuthority(certificate: certificate, key: key) }
            }
        }
    }

    @Test func certificatesAreWhatTheyShouldBe() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            let authority = try CertificateAuthority(name: "Aegis test")
            try Files.writeAtomically(folder.path("root.pem"), Array(authority.certificate.utf8))
            for name in ["api.example.com", "127.0.0.1", "2001:db8::1", String(repeating: "a.", count: 60) + "example"]
            {
                let leaf = try authority.leaf(for: name)
                try Files.writeAtomically(folder.path("leaf.pem"), Array(leaf.certificate.utf8))
                let isAddress = name.contains(":") || name.hasPrefix("127")
                let checked = try await runTool(
                    "openssl",
                    [
                        "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem",
                        isAddress ? "-verify_ip" : "-verify_hostname", name, "leaf.pem",
                    ], in: folder.path, on: loop)
                #expect(checked.code == 0, "\(checked)")
                let text = try await runTool(
                    "openssl", ["x509", "-in", "leaf.pem", "-noout", "-text"], in: folder.path, on: loop)
                #expect(text.out.contains("CA:FALSE") && text.out.contains("TLS Web Server Authentication"))
                #expect(text.out.contains("Digital Signature") && text.out.contains("NIST CURVE: P-256"))
            }
            let root = try await runTool(
                "openssl", ["x509", "-in", "root.pem", "-noout", "-text"], in: folder.path, on: loop)
            #expect(root.out.contains("CA:TRUE, pathlen:0") && root.out.contains("Certificate Sign, CRL Sign"))
        }
    }

    @Test func leavesAreKeptAndMadeAnewInTime() throws {
        let time = Mutex(Timestamp.now().milliseconds)
        let authority = try CertificateAuthority(
            name: "x", limit: 3, now: { Timestamp(milliseconds: time.withLock { $0 }) })
        let first = try authority.leaf(for: "a.example")
        #expect(try authority.leaf(for: "a.example") === first)
        for name in ["b.example", "c.example"] { _ = try authority.leaf(for: name) }
        #expect(try authority.leaf(for: "a.example") === first)
        _ = try authority.leaf(for: "d.example")
        // `b` was used longest ago.
        #expect(authority.cachedLeaves == 3)
        #expect(try authority.leaf(for: "a.example") === first)
        time.withLock { $0 += 4 * 86_400_000 }
        let later = try authority.leaf(for: "a.example")
        #expect(later !== first && later.certificate != first.certificate)
    }

    @Test func authoritiesAndSerialsDiffer() throws {
        let one = try CertificateAuthority(name: "x")
        let other = try CertificateAuthority(name: "x")
        #expect(one.certificate != other.certificate)
        #expect(try one.leaf(for: "a").certificate != other.leaf(for: "a").certificate)
    }

    @Test(arguments: ["", "a b", "a\u{0}b", "é.example", "a.example,DNS:b.example", String(repeating: "x", count: 254)])
    func namesThatAreNoneAreRefused(_ name: String) throws {
        let authority = try CertificateAuthority(name: "x")
        #expect(throws: TLSError.self) { try authority.leaf(for: name) }
    }
}
