import AegisCore
import CLinux
import LinuxSys

/// What the daemon itself does to an unpacked layer, by descriptor, because the helper has no right to: overlayfs's marks
/// for names that are hidden in the layers below.
///
/// Paths come from the helper and are hostile: they are resolved beneath the layer's directory without following any
/// link, and nothing that is there is changed but for the mark on a directory.
enum LayerFinish {
    /// What a finished layer's record says of it beyond its digest.
    struct Outcome: Sendable, Equatable {
        var implicit: [[UInt8]] = []
        var warnings: [String] = []
        var hidesAll = false
        var bytes: Int64 = 0
        var entries: Int64 = 0
    }

    /// Applies a helper's records to the tree.
    ///
    /// - Throws: `unpack-failed` when the records do not fit the tree, `disk-full`.
    static func apply(_ records: [HelperRecord], to tree: borrowing FileDescriptor) throws(AegisError) -> Outcome {
        var outcome = Outcome()
        for record in records {
            switch record {
            case .whiteout(let path): try whiteout(path, tree.raw)
            case .opaque(let path):
                // Overlayfs does not look for the mark on the top directory: who mounts leaves the lower layers out.
                if path.isEmpty { outcome.hidesAll = true } else { try opaque(path, tree.raw) }
            case .implicit(let path): outcome.implicit.append(path)
            case .warning(let text): outcome.warnings.append(text)
            case .done(_, let bytes, let entries): (outcome.bytes, outcome.entries) = (bytes, entries)
            case .failure(let code, let message): throw UnpackFailure.error(code, message)
            }
        }
        return outcome
    }

    private static func whiteout(_ path: [UInt8], _ tree: Int32) throws(AegisError) {
        let slash = path.lastIndex(of: 0x2f)
        let parent = slash.map { Array(path[..<$0]) } ?? []
        let name = slash.map { Array(path[($0 + 1)...]) } ?? path
        let directory = try open(parent, tree)
        try keepingTime(directory.raw) { () throws(AegisError) in
            try check(unsafe al_tree_make_whiteout(directory.raw, cString(name)), "hiding '\(shown(path))'")
        }
    }

    private static func opaque(_ path: [UInt8], _ tree: Int32) throws(AegisError) {
        let directory = try open(path, tree)
        let yes: [UInt8] = [0x79]
        let name = cString("trusted.overlay.opaque".utf8)
        try check(unsafe al_tree_set_attribute(directory.raw, name, yes, 1), "hiding what is below '\(shown(path))'")
    }

    private static func open(_ path: [UInt8], _ tree: Int32) throws(AegisError) -> Handle {
        let opened = unsafe al_tree_open_directory(tree, cString(path), AL_TREE_NO_LINKS)
        try check(opened, "opening '\(shown(path))'")
        return Handle(opened)
    }

    /// Does something in a directory that must not show in its time.
    private static func keepingTime(_ directory: Int32, _ body: () throws(AegisError) -> Void) throws(AegisError) {
        var info = al_tree_info()
        try check(unsafe al_tree_stat(directory, cString([0x2e]), &info), "looking at a directory")
        try body()
        try check(al_tree_set_time_fd(directory, info.seconds, info.nanoseconds), "setting a time")
    }

    private static func check(_ result: Int32, _ what: String) throws(AegisError) {
        guard result < 0 else { return }
        let failure = HelperFailure(errno: -result, what)
        throw UnpackFailure.error(failure.code, failure.message)
    }
}

/// The errors of unpacking, with what to do about them.
enum UnpackFailure {
    /// The error for a helper's code.
    static func error(_ code: String, _ message: String) -> AegisError {
        switch code {
        case "disk-full":
            .failed(code, message, hint: "free space, or remove images: aegis image delete REF")
        case "image-too-large":
            AegisError(.tooLarge, code, message, hint: "the limits are fixed: make the image's layers smaller")
        case "corrupt-layer":
            .failed(code, message, hint: "the image is broken where it is stored; push it again")
        case "file-system-unsupported":
            .failed(code, message, hint: "put AEGIS_HOME on ext4, xfs or btrfs")
        case "needs-root":
            AegisError(.unavailable, code, message, hint: "start the daemon as root")
        case "landlock-missing":
            AegisError(.unavailable, code, message, hint: "boot with landlock in the kernel's lsm= list")
        case "pull-failed": .failed(code, message)
        default: .failed("unpack-failed", message)
        }
    }
}
