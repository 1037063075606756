import AegisCore
import CLinux
import FoundationEssentials
import LinuxSys

/// The image store on disk. Everything in it is made beside its place and moved there when it is whole and flushed, so a
/// killed daemon leaves nothing half made; what it left in `tmp/` is removed at the next start.
///
/// ```
/// layers/sha256/HEX/tree      one layer's files, with the image's own ids and overlayfs's marks (0/0 devices,
///                             trusted.overlay.opaque); layers/sha256/HEX/layer.json tells what it is
/// manifests/HEX, configs/HEX  as the registry sent them
/// images/HEX.json             one image: the layers to mount, by the digest of its manifest
/// refs/HEX.json               one name: which image it was when it was last resolved
/// tmp/NAME, tmp/NAME.lock     work in progress; the lock is held by the process that does it
/// ```
///
/// Its methods wait for the disk: call them on a thread that may.
final class StoreDirectory: Sendable {
    /// The parts of the store that hold files.
    enum Area: String, CaseIterable { case manifests, configs, images, refs }

    /// The store's absolute path.
    let path: String
    private let root: FileDescriptor
    private let layers: FileDescriptor
    private let work: FileDescriptor

    /// Opens the store, makes what is missing of it and removes what dead processes left behind.
    init(path: String) throws(AegisError) {
        self.path = path
        do {
            try Files.makeDirectories(path)
            root = try FileDescriptor.open(path, [.readOnly, .directory])
            for part in ["layers/sha256", "tmp"] + Area.allCases.map(\.rawValue) { try root.makeDirectories(part) }
            layers = try root.open("layers/sha256", [.readOnly, .directory], resolve: [.beneath, .noLinks])
            work = try root.open("tmp", [.readOnly, .directory], resolve: [.beneath, .noLinks])
            try sweep()
        } catch { throw Self.failure(error, "opening the image store '\(path)'") }
    }

    /// The error of a failed call on the store.
    static func failure(_ error: Errno, _ what: String) -> AegisError {
        switch error {
        case .noSpace, Errno(HelperFailure.overQuota):
            .failed(
                "disk-full", "no space left while \(what)", hint: "free space, or remove images: aegis image delete REF"
            )
        default: .failed("image-store-failed", "\(what): \(error)")
        }
    }

    /// Removes work whose process is gone, and anything in the store that has no known form.
    private func sweep() throws(Errno) {
        let names = try work.entries().map(\.name)
        let locked = Set(names.filter { $0.hasSuffix(".lock") })
        for name in names where !name.hasSuffix(".lock") && !locked.contains(name + ".lock") {
            try work.removeTree(name)
        }
        for lock in locked {
            guard let file = try? work.open(lock, [.readWrite, .noFollow]), try file.lock() else { continue }
            try work.removeTree(String(lock.dropLast(5)))
            try work.removeTree(lock)
        }
        for area in Area.allCases {
            let directory = try root.open(area.rawValue, [.readOnly, .directory])
            for entry in try directory.entries() where Self.key(entry.name, area) == nil {
                try directory.removeTree(entry.name)
            }
        }
        for entry in try layers.entries() where Digest(hex: entry.name) == nil { try layers.removeTree(entry.name) }
    }

    /// The digest that a file's name holds; nil when the name is not one of ours.
    private static func key(_ name: String, _ area: Area) -> String? {
        let hex = name.hasSuffix(".json") ? String(name.dropLast(5)) : name
        guard Digest(hex: hex) != nil, name.hasSuffix(".json") == (area == .images || area == .refs) else { return nil }
        return hex
    }
    private static func name(_ key: String, _ area: Area) -> String {
        area == .images || area == .refs ? key + ".json" : key
    }

    // MARK: Files

    /// A file's bytes; nil when it is not there.
    func read(_ area: Area, _ key: String) throws(AegisError) -> [UInt8]? {
        let path = "\(area.rawValue)/\(Self.name(key, area))"
        do {
            return try root.open(path, [.readOnly, .noFollow], resolve: .beneath).readAll(
                limit: ImageDocument.mostBytes)
        } catch .noSuchFile { return nil } catch { throw Self.failure(error, "reading \(path)") }
    }

    /// Writes a file as a whole; it survives a power loss when this returns.
    func write(_ area: Area, _ key: String, _ bytes: [UInt8]) throws(AegisError) {
        do {
            let directory = try root.open(area.rawValue, [.readOnly, .directory])
            try directory.writeAtomically(Self.name(key, area), bytes, synced: true)
        } catch { throw Self.failure(error, "writing \(area.rawValue)/\(key)") }
    }

    /// Removes a file if it is there.
    func remove(_ area: Area, _ key: String) throws(AegisError) {
        do { try root.removeTree("\(area.rawValue)/\(Self.name(key, area))") } catch {
            throw Self.failure(error, "removing \(area.rawValue)/\(key)")
        }
    }

    /// The keys of an area's files, sorted.
    func keys(_ area: Area) throws(AegisError) -> [String] {
        do {
            let directory = try root.open(area.rawValue, [.readOnly, .directory])
            return try directory.entries().compactMap { Self.key($0.name, area) }.sorted()
        } catch { throw Self.failure(error, "reading \(area.rawValue)") }
    }

    /// Reads a record of ours.
    ///
    /// - Throws: `newer-version` when a later Aegis wrote it, `image-store-damaged` when it is not readable.
    func record<T: StoreRecord>(_ type: T.Type, _ area: Area, _ key: String) throws(AegisError) -> T? {
        guard let bytes = try read(area, key) else { return nil }
        return try StoreCoding.decode(type, bytes, "\(area.rawValue)/\(key)")
    }

    // MARK: Layers

    /// Where a layer's files are.
    func layerPath(_ digest: Digest) -> String { "\(path)/layers/sha256/\(digest.hex)/tree" }

    /// What is known of a layer; nil when it is not in the store.
    func layer(_ digest: Digest) throws(AegisError) -> LayerRecord? {
        do {
            let file = try layers.open(
                "\(digest.hex)/layer.json", [.readOnly, .noFollow], resolve: [.beneath, .noLinks])
            return try StoreCoding.decode(LayerRecord.self, try file.readAll(limit: 64 << 20), "layer \(digest)")
        } catch let error as Errno where error == .noSuchFile { return nil } catch let error as Errno {
            throw Self.failure(error, "reading layer \(digest)")
        } catch let error as AegisError { throw error } catch { throw .failed("image-store-failed", "\(error)") }
    }

    /// The digests of all layers, sorted.
    func layerDigests() throws(AegisError) -> [Digest] {
        do { return try layers.entries().compactMap { Digest(hex: $0.name) }.sorted { $0.hex < $1.hex } } catch {
            throw Self.failure(error, "reading the layers")
        }
    }

    /// The top directory of a layer's files.
    func openLayer(_ digest: Digest) throws(AegisError) -> FileDescriptor {
        do {
            return try layers.open(
                "\(digest.hex)/tree", [.readOnly, .directory, .noFollow], resolve: [.beneath, .noLinks])
        } catch { throw Self.failure(error, "opening layer \(digest)") }
    }

    /// Moves a finished layer to its place. Another one that came first stays.
    func commit(_ name: String, of work: WorkDirectory, as digest: Digest) throws(AegisError) {
        do { try work.directory.rename(name, to: layers, as: digest.hex, .noReplace) } catch {
            guard error == .fileExists else { throw Self.failure(error, "storing layer \(digest)") }
        }
        do { try layers.sync() } catch { throw Self.failure(error, "storing layer \(digest)") }
    }

    /// Takes a layer out of the store at once; its files go with the work directory.
    func discard(_ digest: Digest, into work: WorkDirectory) throws(AegisError) {
        do { try layers.rename(digest.hex, to: work.directory, as: digest.hex) } catch {
            guard error != .noSuchFile else { return }
            throw Self.failure(error, "removing layer \(digest)")
        }
    }

    // MARK: Work

    /// A new place for work in progress, locked by this process.
    func beginWork() throws(AegisError) -> WorkDirectory {
        do {
            while true {
                let name = try Random.hex(bytes: 8)
                let lock = try work.open("\(name).lock", [.readWrite, .create, .exclusive, .noFollow])
                // Another process that starts now may take the name for a leftover, before it is locked.
                guard try lock.lock(), try lock.status().links > 0 else { continue }
                try work.makeDirectory(name)
                let directory = try work.open(name, [.readOnly, .directory, .noFollow])
                return WorkDirectory(
                    name: name, path: "\(path)/tmp/\(name)", parent: try work.duplicate(), directory: directory,
                    lock: lock)
            }
        } catch { throw Self.failure(error, "making a work directory") }
    }

    /// A file that one process at a time holds, for work that several daemons would do at once.
    func openLock(_ name: String) throws(AegisError) -> FileDescriptor {
        do { return try root.open(name, [.readWrite, .create, .noFollow]) } catch {
            throw Self.failure(error, "opening \(name)")
        }
    }

    /// Bytes that may still be written.
    func freeBytes() throws(AegisError) -> UInt64 {
        do { return try root.freeSpace().freeBytes } catch { throw Self.failure(error, "asking for free space") }
    }

    /// Puts everything written to the store's file system on the disk.
    func flush() throws(AegisError) {
        let result = al_tree_sync_filesystem(root.raw)
        guard result >= 0 else { throw Self.failure(Errno(-result), "flushing the image store") }
    }
}

/// A place for work in progress. Removed by `remove`, or by the next start after the process has died.
final class WorkDirectory: Sendable {
    let name: String
    /// The absolute path.
    let path: String
    let directory: FileDescriptor
    private let parent: FileDescriptor
    private let lock: FileDescriptor

    init(
        name: String, path: String, parent: consuming FileDescriptor, directory: consuming FileDescriptor,
        lock: consuming FileDescriptor
    ) {
        self.name = name
        self.path = path
        self.parent = parent
        self.directory = directory
        self.lock = lock
    }

    /// Removes the directory with all in it. What cannot be removed now goes at the next start.
    func remove() {
        guard (try? parent.removeTree(name)) != nil else { return }
        try? parent.removeFile("\(name).lock")
    }

    /// Bytes on disk of the files directly in these folders of the directory.
    func occupied(_ folders: [String]) -> Int64 {
        var total: Int64 = 0
        for folder in folders {
            guard let opened = try? directory.open(folder, [.readOnly, .directory], resolve: .beneath),
                let entries = try? opened.entries(limit: 10_000)
            else { continue }
            for entry in entries { total += (try? opened.status(of: entry.name)).map { Int64($0.allocated) } ?? 0 }
        }
        return total
    }
}
