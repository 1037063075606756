import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Images that a registry holds in a broken form: each error says which image, and which part of it.
@Suite struct BrokenImageTests {
    /// Pushes `app:KIND` by hand, as no honest tool would; prints the digests of layer, configuration and manifest.
    private static let push = """
        import gzip, hashlib, http.client, io, json, sys, tarfile
        port, kind = int(sys.argv[1]), sys.argv[2]
        def sha(b): return "sha256:" + hashlib.sha256(b).hexdigest()
        def call(method, path, body=b"", type="application/octet-stream"):
            c = http.client.HTTPConnection("127.0.0.1", port)
            c.request(method, path, body, {"Content-Type": type})
            r = c.getresponse(); r.read()
            assert r.status < 300, (method, path, r.status)
            return r.getheader("Location")
        def blob(data):
            at = call("POST", "/v2/app/blobs/uploads/").split(f":{port}", 1)[-1]
            call("PUT", at + ("&" if "?" in at else "?") + "digest=" + sha(data), data)
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as t:
            t.add("/bin/busybox", "bin/busybox")
            t.addfile(tarfile.TarInfo(kind))
        plain = file.getvalue()
        if kind == "tar": plain = plain[:-10240] + b"no header" * 2000
        layer, diff = gzip.compress(plain, 1), sha(plain)
        if kind == "cut": layer = layer[:len(layer) // 2]
        if kind == "raw": layer = b"neither gzip nor tar" * 100
        if kind == "other": diff = sha(b"something else")
        arch = {"x86_64": "amd64", "aarch64": "arm64"}[__import__("platform").machine()]
        config = json.dumps({"architecture": arch, "os": "linux", "config": {"Cmd": ["/bin/busybox", "true"]},
            "rootfs": {"type": "layers", "diff_ids": [diff]}}).encode()
        oci = "application/vnd.oci.image."
        manifest = json.dumps({"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
            "config": {"mediaType": oci + "config.v1+json", "digest": sha(config), "size": len(config)},
            "layers": [{"mediaType": oci + "layer.v1.tar+gzip", "digest": sha(layer), "size": len(layer)}]}).encode()
        blob(layer); blob(config)
        call("PUT", f"/v2/app/manifests/{kind}", manifest, oci + "manifest.v1+json")
        print(sha(layer)[7:], sha(config)[7:], sha(manifest)[7:])
        """

    /// The digests of layer, configuration and manifest, in hexadecimal.
    private func push(_ kind: String, to registry: Registry) async throws -> [String] {
        let pushed = try await runTool("python3", ["-c", Self.push, "\(registry.port)", kind], on: registry.loop)
        try #require(pushed.code == 0, "\(pushed)")
        return pushed.out.split { $0 == " " || $0 == "\n" }.map(String.init)
    }

    @Test func theErrorNamesThePartThatIsBroken() async throws {
        try await withSharedRegistry { f, registry in
            func fails(_ image: String, _ code: String, naming part: String, run: Bool = false) async throws {
                let words = run ? ["run", "--isolation", "runc", "--image", image] : ["image", "pull", image]
                let result = try await f.run(DaemonFixture.cli, words)
                #expect(
                    result.code == (run ? 125 : 1) && result.out.isEmpty && result.err.contains("(\(code))")
                        && result.err.contains(image) && result.err.contains(part), "\(words) \(result)")
            }
            // What was pushed so: the blobs are what the manifest says, and not what they should be.
            for (kind, code) in [
                ("cut", "corrupt-layer"), ("raw", "corrupt-layer"), ("tar", "corrupt-layer"),
                ("other", "digest-mismatch"),
            ] {
                let digests = try await push(kind, to: registry)
                try await fails(registry.name("app:\(kind)"), code, naming: digests[0], run: kind == "cut")
            }
            // What came to harm in the registry's storage.
            let good = try await push("good", to: registry)
            let image = registry.name("app:good")
            func harm(_ digest: String, _ change: (inout Data) -> Void, _ check: () async throws -> Void) async throws {
                let file = URL(fileURLWithPath: registry.blob(digest))
                let whole = try Data(contentsOf: file)
                var data = whole
                change(&data)
                try data.isEmpty ? FileManager.default.removeItem(at: file) : data.write(to: file)
                try await check()
                try whole.write(to: file)
            }
            try await harm(good[0], { $0[$0.count / 2] ^= 1 }) {
                try await fails(image, "digest-mismatch", naming: good[0])
            }
            try await harm(good[0], { $0 = $0.prefix(5000) }) {
                try await fails(image, "digest-mismatch", naming: good[0], run: true)
            }
            try await harm(good[1], { $0 = Data($0.map { $0 == 0x6c ? 0x6d : $0 }) }) {
                try await fails(image, "digest-mismatch", naming: good[1])
            }
            for part in good.prefix(2) {
                try await harm(part, { $0 = Data() }) { try await fails(image, "image-incomplete", naming: "push it") }
            }
            let exact = registry.name("app@sha256:\(good[2])")
            try await harm(good[2], { $0 += Data(" ".utf8) }) {
                try await fails(exact, "digest-mismatch", naming: "has the digest sha256:")
            }
            // Nothing of all that stayed, and what is whole again works.
            #expect(try await f.aegis("image", "list", "--quiet").out.contains(registry.name("app")) == false)
            for name in [image, exact] {
                let run = try await f.aegis("run", "--isolation", "runc", "--image", name)
                #expect(run.code == 0 && run.err.isEmpty, "\(run)")
            }
        }
    }
}

/// Runs a test against the shared daemon and a registry.
func withSharedRegistry(_ body: @escaping @Sendable (DaemonFixture, Registry) async throws -> Void) async throws {
    try await DaemonFixture.shared { f in
        let registry = try await Registry(on: f.loop)
        do { try await body(f, registry) } catch {
            await registry.stop()
            throw error
        }
        await registry.stop()
    }
}
