import AegisCore
import FoundationEssentials

/// A file of ours in the store: it carries a version, and a later one is refused (D54).
protocol StoreRecord: Codable, Sendable {
    var version: Int { get }
    static var currentVersion: Int { get }
}

/// What is known of one stored layer.
struct LayerRecord: StoreRecord, Equatable {
    static let currentVersion = 1
    var version = currentVersion
    /// The digest of the layer's uncompressed stream.
    var digest: String
    /// Bytes of its files.
    var bytes: Int64
    var entries: Int64
    /// Paths of directories that the layer does not describe, though something lies in them.
    var implicit: [Data]
    /// Whether it hides all layers below.
    var hidesAll: Bool
}

/// One image: what to mount, and where its texts are.
struct ImageRecord: StoreRecord, Equatable {
    static let currentVersion = 1
    var version = currentVersion
    /// The digest of the manifest for one platform.
    var manifest: String
    /// The digest of the configuration, which is the image's id.
    var id: String
    /// The layers to mount, bottom first.
    var layers: [String]
    /// Bytes of all files.
    var bytes: Int64
    /// When it came into the store, in milliseconds since 1970.
    var created: Int64
}

/// What a name stood for when it was last resolved.
struct RefRecord: StoreRecord, Equatable {
    static let currentVersion = 1
    var version = currentVersion
    var reference: String
    /// The digest that the registry answered with: of a manifest, or of a list of them.
    var resolved: String
    /// The digest of the manifest for this machine.
    var image: String
    /// When it was resolved, in milliseconds since 1970.
    var pulled: Int64
    /// Whether it is an image of a registry that everybody on this node may have: it came without the node's credentials, or
    /// an administrator pulled it for everybody. Absent means no.
    var open: Bool?
    /// Users who brought it with credentials of their own: they may have it, too. Absent means none.
    var users: [UInt32]?
    /// For an image of this machine: the file that it was read from, as it was then (`LocalSource.identity`).
    var source: String?

    /// Whether everybody on this node may have it.
    var isOpen: Bool { open == true || reference == ImageReference.base.description }

    /// Whether a user has brought it with credentials of their own.
    func belongs(to user: UInt32?) -> Bool { user.map { users?.contains($0) ?? false } ?? false }

    /// The key of a name in the store.
    static func key(_ reference: ImageReference) -> String { Digest(of: reference.description.utf8).hex }
}

/// JSON of the store's records.
enum StoreCoding {
    private struct Version: Decodable { var version: Int }

    static func encode(_ record: some StoreRecord) throws(AegisError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        do { return Array(try encoder.encode(record)) } catch { throw .failed("image-store-failed", "\(error)") }
    }

    static func decode<T: StoreRecord>(_ type: T.Type, _ bytes: [UInt8], _ name: String) throws(AegisError) -> T {
        let decoder = JSONDecoder()
        if let found = try? decoder.decode(Version.self, from: Data(bytes)), found.version > T.currentVersion {
            throw .failed(
                "newer-version",
                "'\(name)' of the image store has version \(found.version); this Aegis reads up to \(T.currentVersion)",
                hint: "use the newer Aegis that wrote it, or delete the image")
        }
        do { return try decoder.decode(type, from: Data(bytes)) } catch {
            throw .failed(
                "image-store-damaged", "'\(name)' of the image store cannot be read",
                hint: "delete the image and pull it again")
        }
    }
}
