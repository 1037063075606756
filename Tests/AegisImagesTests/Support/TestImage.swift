import AegisImages
import LinuxSys

/// An image made by hand: blobs, configuration and manifest.
struct TestImage {
    struct Layer {
        var tar: [UInt8]
        var compression: Compression = .gzip
        /// What is stored instead of the compressed bytes, for broken images.
        var stored: [UInt8]?
        /// What the configuration says of the uncompressed stream; nil is the truth.
        var diff: Digest?
    }
    private(set) var blobs: [(digest: Digest, bytes: [UInt8])] = []
    private(set) var manifest: [UInt8] = []
    private(set) var id: Digest
    private(set) var layers: [Digest] = []

    /// The digest of the manifest.
    var digest: Digest { Digest(of: manifest) }

    /// Makes an image of these layers, bottom first.
    init(
        _ layers: [Layer], config: String = #""Cmd":["/bin/run"]"#, architecture: String = Platform.host.architecture,
        docker: Bool = false
    ) throws {
        var descriptors: [String] = []
        for layer in layers {
            let bytes = try layer.compression.apply(layer.tar)
            let digest = Digest(of: bytes)
            let type = docker ? "application/vnd.docker.image.rootfs.diff.tar.gzip" : layer.compression.mediaType
            descriptors.append(#"{"mediaType":"\#(type)","digest":"\#(digest)","size":\#(bytes.count)}"#)
            blobs.append((digest, layer.stored ?? bytes))
            self.layers.append(layer.diff ?? Digest(of: layer.tar))
        }
        let diffs = self.layers.map { "\"\($0)\"" }.joined(separator: ",")
        let document =
            #"{"architecture":"\#(architecture)","os":"linux","config":{\#(config)},"rootfs":{"type":"layers","diff_ids":[\#(diffs)]}}"#
        id = Digest(of: document.utf8)
        blobs.append((id, Array(document.utf8)))
        let types =
            docker
            ? ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json")
            : ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json")
        manifest = Array(
            #"{"schemaVersion":2,"mediaType":"\#(types.0)","config":{"mediaType":"\#(types.1)","digest":"\#(id)","size":\#(document.utf8.count)},"layers":[\#(descriptors.joined(separator: ","))]}"#
                .utf8)
    }

    /// An image of one layer with one file.
    static func small(_ content: String, compression: Compression = .gzip) throws -> TestImage {
        try TestImage([Layer(tar: TarBuilder.make { $0.add("file", .file, content) }, compression: compression)])
    }

    /// A list of images by platform.
    static func index(_ images: [(TestImage, String)]) -> [UInt8] {
        let entries = images.map { image, architecture in
            #"{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"\#(image.digest)","size":\#(image.manifest.count),"platform":{"os":"linux","architecture":"\#(architecture)"}}"#
        }
        return Array(
            #"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[\#(entries.joined(separator: ","))]}"#
                .utf8)
    }

    /// Writes the image as an OCI layout folder.
    func writeLayout(_ path: String) throws {
        try Files.makeDirectories("\(path)/blobs/sha256")
        for blob in blobs + [(digest, manifest)] {
            try Files.writeAtomically("\(path)/blobs/sha256/\(blob.digest.hex)", blob.bytes)
        }
        try Files.writeAtomically("\(path)/oci-layout", Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
        let index =
            #"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"\#(digest)","size":\#(manifest.count)}]}"#
        try Files.writeAtomically("\(path)/index.json", Array(index.utf8))
    }
}
