internal import AegisCore
internal import LinuxSys

/// Finds the numeric ids of an image's user on the host's side, for the mapping of host folders (decision D17).
///
/// The harness looks the same user up inside, where it counts; here a wrong or hostile answer only maps the owner's
/// own folder to another id of the sandbox.
struct UserLookup {
    /// Layers, top to bottom.
    let layers: [String]
    /// The most that is read of `passwd` or `group`.
    static let limit = 1 << 20

    /// The ids of `uid`, `name`, `uid:gid` or `name:group`; empty is root.
    func resolve(_ user: String) -> (uid: UInt32, gid: UInt32) {
        guard !user.isEmpty else { return (0, 0) }
        let parts = user.split(separator: ":", maxSplits: 1).map(String.init)
        let passwd = entries("etc/passwd")
        let line = passwd.first { $0.count > 3 && ($0[0] == parts[0] || $0[2] == parts[0]) }
        guard let uid = UInt32(parts[0]) ?? line.flatMap({ UInt32($0[2]) }) else { return (0, 0) }
        var gid = line.flatMap { UInt32($0[3]) } ?? 0
        if parts.count == 2 {
            gid =
                UInt32(parts[1]) ?? entries("etc/group").first { $0.count > 2 && $0[0] == parts[1] }.flatMap {
                    UInt32($0[2])
                } ?? gid
        }
        return (uid, gid)
    }

    /// A file of the image, from the topmost layer that has it.
    ///
    /// - Parameters:
    ///   - path: without the first slash.
    ///   - limit: the most that is read, in bytes.
    /// - Returns: nil when there is none that can be read.
    func file(_ path: String, limit: Int) -> [UInt8]? {
        for layer in layers { if let bytes = read(path, of: layer, limit: limit) { return bytes } }
        return nil
    }

    private func read(_ path: String, of layer: String, limit: Int = Self.limit) -> [UInt8]? {
        guard let root = try? FileDescriptor.open(layer, [.pathOnly, .directory]),
            let file = try? root.open(path, [.readOnly, .nonblocking], resolve: [.inRoot, .noMagicLinks])
        else { return nil }
        return try? file.readAll(limit: limit)
    }

    /// The lines of a file of the image, split at colons; the topmost layer that has the file counts.
    private func entries(_ path: String) -> [[String]] {
        for layer in layers {
            guard let bytes = read(path, of: layer) else { continue }
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map {
                $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            }
        }
        return []
    }
}
