import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// Images that are made by hand and pushed as anybody would.
extension Registry {
    /// Makes an image of one layer and pushes it.
    ///
    /// - Parameters:
    ///   - image: `NAME:TAG`.
    ///   - config: the members of the configuration's `config` object.
    ///   - credentials: `USER:PASSWORD`.
    ///   - make: shell commands that fill the layer, the current directory.
    /// - Returns: the digest of the layer, in hexadecimal.
    /// - Throws: what the commands said.
    @discardableResult
    func push(_ image: String, config: String = "", credentials: String? = nil, _ make: String) async throws -> String {
        let script = """
            set -e; w=$(mktemp -d '\(directory.path)/push-XXXXXX'); cd "$w"; mkdir root blobs blobs/sha256; cd root
            \(make)
            cd ..; tar --numeric-owner -cf layer.tar -C root .
            diff=$(sha256sum layer.tar | cut -c1-64); gzip -1n layer.tar
            layer=$(sha256sum layer.tar.gz | cut -c1-64); lsize=$(stat -c %s layer.tar.gz); mv layer.tar.gz blobs/sha256/$layer
            printf '{"architecture":"%s","os":"linux","config":{%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
              "$(dpkg --print-architecture)" '\(config)' $diff > c
            conf=$(sha256sum c | cut -c1-64); csize=$(stat -c %s c); mv c blobs/sha256/$conf
            printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%d}]}' \
              $conf $csize $layer $lsize > m
            man=$(sha256sum m | cut -c1-64); msize=$(stat -c %s m); mv m blobs/sha256/$man
            printf '{"imageLayoutVersion":"1.0.0"}' > oci-layout
            printf '{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:%s","size":%d}]}' $man $msize > index.json
            skopeo --insecure-policy copy -q --preserve-digests --dest-tls-verify=false \
              \(credentials.map { "--dest-creds \($0)" } ?? "") "oci:$w" docker://\(name(image)) >&2
            echo $layer; rm -rf "$w"
            """
        let spec = ProcessSpec(
            executable: "/bin/sh", arguments: ["sh", "-c", script], environment: CurrentProcess.environment)
        let (status, out, errors) = try await runProcess(spec, deadline: .seconds(120), on: loop)
        try #require(status.isSuccess, "\(String(decoding: errors, as: UTF8.self))")
        return String(decoding: out, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// A root file system with one static program, for images.
    static let busybox =
        "mkdir bin tmp etc; cp /bin/busybox bin/busybox; for n in sh cat echo env id pwd sleep true; do ln -s busybox bin/$n; done;"
}

/// Runs a test against a daemon and a registry.
func withRegistry(
    users: String? = nil, _ body: @escaping @Sendable (DaemonFixture, Registry) async throws -> Void
) async throws {
    try await DaemonFixture.with { f in
        let registry = try await Registry(users: users, on: f.loop)
        do { try await body(f, registry) } catch {
            await registry.stop()
            throw error
        }
        await registry.stop()
    }
}
