import AegisCore
import CLinux
import FoundationEssentials

/// The image store on disk. Everything in it is made beside its place and moved there when it is whole and flushed, so a
/// killed daemon leaves nothing half made; what it left in `tmp/` is removed at the next start.
///
/// ```
/// layers/sha256/HEX/tree      one layer's files, with the image's own ids and overlayfs's marks (0/0 devices,
///                             trusted.overlay.opaque); layers/sha256/HEX/layer.json tells what it is
/// manifests/HEX, configs/HEX  as the registry sent them
/// images/HEX.json             one image: its layers to mount, by the digest of its manifest
/// refs/HEX.json               one name: which image it was when it was last resolved
/// tmp/NAME, tmp/NAME.lock     work in progress; the lock is held by the process that does it
/// ```
///
/// Its methods wait for the disk: call them on a thread that may.
final class StoreDirectory: Sendable {
    /// The parts of the store that hold files.
    enum Area: String, CaseIterable { case manifests, configs, images, refs }

    let path: String
    private let root: FileHolder

    /// Opens the store, makes what is missing of it and removes what dead processes left behind.
    init(path: String) throws(AegisError) {
        self.path = path
        var made = ""
        for part in path.split(separator: "/") {
            made += "/" + part
            let result = unsafe al_tree_make_directory(Self.here, cString(made.utf8), 0o700)
            guard result >= 0 || result == -HelperFailure.exists else { throw Self.failed(result, "making \(made)") }
        }
        let raw = unsafe al_tree_open_directory(Self.here, cString(path.utf8), AL_TREE_IN_ROOT)
        root = FileHolder(try Self.check(Self.openAbsolute(path, instead: raw), "opening \(path)"))
        for part in ["layers", "layers/sha256", "tmp"] + Area.allCases.map(\.rawValue) {
            let result = unsafe al_tree_make_directory(root.raw, cString(part.utf8), 0o700)
            guard result >= 0 || result == -HelperFailure.exists else { throw Self.failed(result, "making \(path)/\(part)") }
        }
        try sweep()
    }
}
