internal import AegisCore
internal import AegisImages
internal import LinuxSys

/// The files of a kit in a folder of Aegis's own, where an extraction has let only files and folders in.
struct KitTree {
    /// What a kit may be at most.
    static let mostBytes: UInt64 = 64 << 20
    static let mostEntries = 4096

    /// What there is.
    struct Survey {
        /// Of every path, with whether it may be run, its length and its content.
        var digest: String
        var bytes: UInt64
    }

    private let path: String

    init(_ path: String) { self.path = path }

    /// Takes the one folder of an archive that holds everything away.
    func unwrap() throws(AegisError) {
        guard !Files.exists("\(path)/\(KitManifest.file)") else { return }
        do throws(Errno) {
            let entries = try Files.list(path)
            guard entries.count == 1, entries[0].type == .directory,
                Files.exists("\(path)/\(entries[0].name)/\(KitManifest.file)")
            else { return }
            let (above, _) = Files.split(path)
            try Files.rename("\(path)/\(entries[0].name)", to: "\(above)/inner")
            try Files.removeTree(path)
            try Files.rename("\(above)/inner", to: path)
        } catch { throw failure(error) }
    }

    /// Reads the manifest.
    ///
    /// - Throws: `kit-manifest-missing`, `invalid-config`.
    func manifest() throws(AegisError) -> KitManifest {
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read("\(path)/\(KitManifest.file)", limit: KitManifest.limit) } catch {
            guard error == .noSuchFile || error == .fileTooLarge else { throw failure(error) }
            throw error == .noSuchFile
                ? AegisError(
                    .usage, "kit-manifest-missing", "there is no \(KitManifest.file) at the top",
                    hint: "a kit is a folder or an archive with \(KitManifest.file) at its top")
                : AegisError(
                    .tooLarge, "kit-manifest-too-large", "\(KitManifest.file) has more than \(KitManifest.limit) bytes")
        }
        let path = path
        return try KitManifest(bytes) { name in
            guard let root = try? FileDescriptor.open(path, [.pathOnly, .directory]) else { return false }
            return (try? root.open(name, [.pathOnly, .noFollow], resolve: [.beneath, .noLinks])) != nil
        }
    }

    /// Makes every file readable by all, and looks at what there is. Nothing of the modes but the right to run stays.
    func survey() throws(AegisError) -> Survey {
        var lines: [String] = []
        var bytes: UInt64 = 0
        do throws(Errno) { try walk("", &lines, &bytes) } catch { throw failure(error) }
        return Survey(digest: Digest(of: Array(lines.joined().utf8)).description, bytes: bytes)
    }

    private func walk(_ folder: String, _ lines: inout [String], _ bytes: inout UInt64) throws(Errno) {
        let here = folder.isEmpty ? path : "\(path)/\(folder)"
        try Files.setPermissions(here, 0o755)
        for entry in try Files.list(here).sorted(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) {
            // A name that is no text would be another one here.
            guard let text = String(validating: entry.bytes, as: UTF8.self) else { throw .invalidArgument }
            let name = folder.isEmpty ? text : "\(folder)/\(text)"
            if entry.type == .directory {
                lines.append("d \(name.utf8.count):\(name)\n")
                try walk(name, &lines, &bytes)
                continue
            }
            let file = try FileDescriptor.open("\(path)/\(name)", [.readOnly, .noFollow])
            let status = try file.status()
            let runs = status.permissions & 0o111 != 0
            try file.setPermissions(runs ? 0o755 : 0o644)
            let content = try file.readAll(limit: Int(Self.mostBytes))
            bytes += UInt64(content.count)
            lines.append("\(runs ? "x" : "f") \(name.utf8.count):\(name) \(content.count) \(Digest(of: content))\n")
        }
    }

    private func failure(_ error: Errno) -> AegisError {
        switch error {
        case .noSpace: .failed("disk-full", "no space left for the kit")
        case .invalidArgument: .usage("the kit has a file name that is not UTF-8")
        default: .failed("kits-unusable", "the kit's files cannot be used: \(error)")
        }
    }
}
