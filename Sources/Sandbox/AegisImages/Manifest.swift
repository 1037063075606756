import AegisCore
import AegisSandboxTypes
import FoundationEssentials

/// A blob that a manifest points to.
struct Descriptor: Sendable, Equatable {
    var mediaType: String
    var digest: Digest
    var size: Int64
}

/// Where an image runs.
package struct Platform: Sendable, Hashable, CustomStringConvertible {
    package var operatingSystem: String
    package var architecture: String
    package var variant: String?

    /// Makes a platform; architectures are named as registries do (`amd64`, `arm64`).
    package init(_ operatingSystem: String, _ architecture: String, variant: String? = nil) {
        self.operatingSystem = operatingSystem
        self.architecture = architecture
        self.variant = variant
    }

    /// The platform of this machine.
    package static var host: Platform {
        #if arch(arm64)
        Platform("linux", "arm64")
        #elseif arch(x86_64)
        Platform("linux", "amd64")
        #else
        #error("name this architecture as registries do")
        #endif
    }

    /// Whether an image for `other` runs here.
    func accepts(_ other: Platform) -> Bool {
        guard operatingSystem == other.operatingSystem, architecture == other.architecture else { return false }
        guard let wanted = variant else {
            return architecture != "arm64" || other.variant == nil || other.variant == "v8"
        }
        return other.variant == nil || other.variant == wanted
    }

    package var description: String { "\(operatingSystem)/\(architecture)" + (variant.map { "/\($0)" } ?? "") }
}

/// What a registry answers for a name: one image, or a list of them by platform.
enum Manifest: Sendable, Equatable {
    case image(config: Descriptor, layers: [Descriptor])
    case index([Variant])

    /// One entry of a list.
    struct Variant: Sendable, Equatable {
        var descriptor: Descriptor
        var platform: Platform?
    }

    /// The largest manifest that is read, in bytes.
    static let mostBytes = 4 << 20

    /// Reads a manifest or a list of them, docker's or the OCI's.
    ///
    /// - Throws: `invalid-manifest` or `unsupported-manifest`.
    init(json: [UInt8], of reference: String) throws(AegisError) {
        func bad(_ what: String) -> AegisError {
            .failed(
                "invalid-manifest", "the manifest of '\(reference)' is not valid: \(what)",
                hint: "the registry holds a broken image; push it again")
        }
        let wire: WireManifest
        do {
            wire = try JSONDecoder().decode(WireManifest.self, from: Data(json))
        } catch {
            throw bad("\(Self.explain(error))")
        }
        guard wire.schemaVersion == 2 else {
            throw .failed(
                "unsupported-manifest", "'\(reference)' has a manifest of schema version \(wire.schemaVersion)",
                hint: "push it again with a current tool; version 1 was withdrawn")
        }
        if let entries = wire.manifests {
            var variants: [Variant] = []
            for entry in entries {
                guard let descriptor = entry.descriptor else { throw bad("a digest or size in its list") }
                variants.append(Variant(descriptor: descriptor, platform: entry.platform?.platform))
            }
            self = .index(variants)
            return
        }
        guard let config = wire.config?.descriptor, let layers = wire.layers else {
            throw bad("it has no config or no layers")
        }
        let descriptors = layers.compactMap(\.descriptor)
        guard descriptors.count == layers.count else { throw bad("the digest or size of a layer") }
        guard layers.count <= SandboxBounds.imageLayers else {
            throw .failed(
                "unsupported-manifest",
                "'\(reference)' has \(layers.count) layers; \(SandboxBounds.imageLayers) is the most that can be mounted",
                hint: "build it with fewer layers, or squash it")
        }
        for layer in descriptors
        where layer.mediaType.contains("foreign") || layer.mediaType.contains("nondistributable") {
            throw .failed(
                "unsupported-manifest", "'\(reference)' has a layer that registries do not hold (\(layer.mediaType))")
        }
        self = .image(config: config, layers: descriptors)
    }

    /// Picks the image for a platform from a list.
    ///
    /// - Throws: `image-no-variant`, naming those that exist.
    static func choose(_ variants: [Variant], for platform: Platform, of reference: String) throws(AegisError)
        -> Descriptor
    {
        if let found = variants.first(where: { $0.platform.map(platform.accepts) ?? false }) { return found.descriptor }
        if variants.count == 1, let only = variants.first, only.platform == nil { return only.descriptor }
        // Lists also hold attestations, whose platform is "unknown".
        let names = Set(variants.compactMap(\.platform).filter { $0.operatingSystem != "unknown" }.map(\.description))
            .sorted()
        throw noVariant(platform, of: reference, existing: names)
    }

    /// The error for an image that does not run here.
    static func noVariant(_ platform: Platform, of reference: String, existing names: [String]) -> AegisError {
        .notFound(
            "image-no-variant",
            "'\(reference)' has no variant for \(platform); it has \(names.isEmpty ? "none" : names.joined(separator: ", "))",
            hint: "choose an image that is built for \(platform)")
    }

    static func explain(_ error: any Error) -> String {
        switch error {
        case DecodingError.dataCorrupted(let context), DecodingError.keyNotFound(_, let context),
            DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context):
            let path = context.codingPath.map(\.stringValue).joined(separator: ".")
            return path.isEmpty ? "it is not JSON of the expected form" : "at \(path)"
        default: return "it is not JSON"
        }
    }
}

/// An image's configuration blob: how to run it, and the identity of each layer's content.
struct ImageDocument: Sendable, Equatable {
    var config: ImageConfig
    var layers: [Digest]

    /// The largest configuration that is read, in bytes.
    static let mostBytes = 8 << 20

    /// Reads the blob.
    ///
    /// - Throws: `invalid-manifest`.
    init(json: [UInt8], of reference: String) throws(AegisError) {
        let wire: WireConfig
        do {
            wire = try JSONDecoder().decode(WireConfig.self, from: Data(json))
        } catch {
            throw .failed(
                "invalid-manifest", "the configuration of '\(reference)' is not valid: \(Manifest.explain(error))")
        }
        let digests = (wire.root?.digests ?? []).map { Digest($0) }
        guard wire.root != nil, digests.allSatisfy({ $0 != nil }) else {
            throw .failed("invalid-manifest", "the configuration of '\(reference)' does not list its layers' digests")
        }
        layers = digests.compactMap { $0 }
        config = ImageConfig(architecture: wire.architecture ?? "", operatingSystem: wire.operatingSystem ?? "")
        config.variant = wire.variant
        guard let run = wire.config else { return }
        config.entrypoint = run.entrypoint ?? []
        config.command = run.command ?? []
        config.environment = run.environment ?? []
        config.user = run.user ?? ""
        config.workingDirectory = run.workingDirectory ?? ""
        config.exposedPorts = (run.exposedPorts ?? [:]).keys.sorted()
        config.stopSignal = run.stopSignal.flatMap { $0.isEmpty ? nil : $0 }
        config.volumes = (run.volumes ?? [:]).keys.sorted()
        config.labels = run.labels ?? [:]
    }

    /// The platform that the image says it is for.
    var platform: Platform { Platform(config.operatingSystem, config.architecture, variant: config.variant) }
}
