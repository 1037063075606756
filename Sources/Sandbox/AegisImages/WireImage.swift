import FoundationEssentials

// The JSON of manifests and configurations as it is written; the spellings are those of the specification.

struct WireManifest: Decodable {
    var schemaVersion: Int
    var config: WireDescriptor?
    var layers: [WireDescriptor]?
    var manifests: [WireDescriptor]?
}

struct WireDescriptor: Decodable {
    struct Where: Decodable {
        var os: String
        var architecture: String
        var variant: String?
        var platform: Platform { Platform(os, architecture, variant: variant.flatMap { $0.isEmpty ? nil : $0 }) }
    }
    var mediaType: String?
    var digest: String
    var size: Int64
    var platform: Where?

    /// The descriptor, or nil when its digest or size is not valid.
    var descriptor: Descriptor? {
        guard let address = Digest(digest), size >= 0 else { return nil }
        return Descriptor(mediaType: mediaType ?? "", digest: address, size: size)
    }
}

struct WireConfig: Decodable {
    struct Root: Decodable {
        var digests: [String]
        enum CodingKeys: String, CodingKey { case digests = "diff_ids" }
    }
    struct Empty: Decodable {}
    struct Run: Decodable {
        var entrypoint: [String]?
        var command: [String]?
        var environment: [String]?
        var user: String?
        var workingDirectory: String?
        var exposedPorts: [String: Empty]?
        var stopSignal: String?
        var volumes: [String: Empty]?
        var labels: [String: String]?

        enum CodingKeys: String, CodingKey {
            case entrypoint = "Entrypoint"
            case command = "Cmd"
            case environment = "Env"
            case user = "User"
            case workingDirectory = "WorkingDir"
            case exposedPorts = "ExposedPorts"
            case stopSignal = "StopSignal"
            case volumes = "Volumes"
            case labels = "Labels"
        }
    }
    var architecture: String?
    var operatingSystem: String?
    var variant: String?
    var config: Run?
    var root: Root?

    enum CodingKeys: String, CodingKey {
        case architecture, variant, config
        case operatingSystem = "os"
        case root = "rootfs"
    }
}

/// The answer to a question for a repository's tags.
struct TagList: Decodable {
    var tags: [String]
    enum CodingKeys: String, CodingKey { case tags = "Tags" }

    /// The tags in the answer; empty when it has another form.
    static func read(_ bytes: [UInt8]) -> [String] {
        (try? JSONDecoder().decode(TagList.self, from: Data(bytes)))?.tags ?? []
    }
}
