package import AegisCore
package import AegisIO
import LinuxSys
import Synchronization

/// How much room of the host's disk sandboxes must leave.
package struct DiskReserve: Sendable, Equatable {
    /// Of the whole file system, 0 to 1.
    package var share: Double
    /// The most that the share may amount to, in bytes.
    package var most: UInt64

    /// 5 %, at most 2 GiB, unless said otherwise.
    package init(share: Double = 0.05, most: UInt64 = 2 << 30) {
        self.share = share
        self.most = most
    }

    /// The reserve on a file system of this size, in bytes.
    package func bytes(of total: UInt64) -> UInt64 { min(UInt64(Double(total) * share), most) }
}

/// The writable layers of sandboxes (decision D38).
///
/// Without a limit a layer is a plain folder that the caller names. With one it is a subvolume of a single btrfs in a sparse
/// file, mounted through a loop device; it is made when the first limit asks for it, and found again by a later daemon.
package final class DiskPool: Sendable {
    private let file: String
    private let mountPoint: String
    private let reserve: DiskReserve
    private let known: @Sendable () throws -> Set<String>?
    private let loop: EventLoop
    private let logger: Logger
    /// The attempt to mount that runs or succeeded; a failed one makes room for the next.
    private let opening = Mutex<Settlement<Result<Void, AegisError>>?>(nil)

    /// Describes a pool; nothing is made yet.
    ///
    /// - Parameters:
    ///   - file: the sparse file with the btrfs, in the daemon's home.
    ///   - mountPoint: where it is mounted, in the node's run directory.
    ///   - reserve: room that the host's file system keeps.
    ///   - known: the instances that there are, whose layers stay when the pool is mounted; nil = all others' stay, too.
    ///   - loop: on which commands are awaited.
    ///   - logger: where oddities go.
    package init(
        file: String, mountPoint: String, reserve: DiskReserve = DiskReserve(),
        known: @escaping @Sendable () throws -> Set<String>? = { nil }, loop: EventLoop, logger: Logger = .none
    ) {
        self.file = file
        self.mountPoint = mountPoint
        self.reserve = reserve
        self.known = known
        self.loop = loop
        self.logger = logger
    }

    /// The folder that holds a sandbox's writable layer, made if need be, for a sandbox that is about to write to it.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - folder: the layer's place when it has no limit.
    ///   - limit: the most that it may hold, in bytes.
    /// - Returns: the folder's absolute path.
    /// - Throws: `disk-reserve` when the host's disk is too full for another sandbox, `disk-unsupported` when this machine cannot
    ///   limit space, `disk-limit` when the instance has a layer without limit already.
    package func layer(for id: String, folder: String, limit: ByteSize?) async throws -> String {
        try await BlockingPool.shared.run { [self] in try checkReserve(near: folder) }
        return try await place(of: id, folder: folder, limit: limit)
    }

    private func place(of id: String, folder: String, limit: ByteSize?) async throws -> String {
        let mounted = await isMounted
        let subvolume = "\(mountPoint)/\(id)"
        if limit == nil, !(mounted && Files.exists(subvolume)) {
            try await BlockingPool.shared.run { [self] in
                try make(folder)
            }
            return folder
        }
        try await open()
        try await BlockingPool.shared.run { [self] in
            if !Files.exists(subvolume) {
                guard !Files.exists(folder + "/upper") else {
                    throw AegisError.conflict(
                        "disk-limit", "instance \(id) has a writable layer without a limit",
                        hint: "a disk limit is given when an instance is made")
                }
                try checkReserve(near: file)
                try reporting("making the layer of \(id)") { () throws(Errno) in
                    try Btrfs.makeSubvolume(id, in: FileDescriptor.open(mountPoint, [.readOnly, .directory]))
                }
            }
            try setLimit(id, limit)
            try make(subvolume)
        }
        return subvolume
    }

    /// The folder of the instance's own workspace beside its limited layer: the limit is for both together.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - folder: as for `layer`.
    ///   - limit: the most that layer and workspace may hold, in bytes.
    /// - Returns: the folder's absolute path; it is made if need be, and goes with the layer.
    /// - Throws: as `layer`, but for `disk-reserve`: what lies there can be read however full the disk is.
    package func workspace(for id: String, folder: String, limit: ByteSize?) async throws -> String {
        let layer = try await place(of: id, folder: folder, limit: limit)
        return try await BlockingPool.shared.run { [self] in
            try reporting("making the workspace of \(id)") { () throws(Errno) in
                let directory = try FileDescriptor.open(layer, [.readOnly, .directory])
                do throws(Errno) {
                    try directory.makeDirectory("workspace", mode: 0o755)
                    try directory.open("workspace", [.readOnly, .directory, .noFollow]).setPermissions(0o755)
                } catch { if error != .fileExists { throw error } }
            }
            return layer + "/workspace"
        }
    }

    /// Whether the instance's layer can be limited as it lies.
    package func isLimited(_ id: String) -> Bool { Files.exists("\(mountPoint)/\(id)/upper") }

    /// Changes the limit of a layer in the pool; it holds at once.
    ///
    /// - Throws: `disk-unsupported` when the layer is not in the pool.
    package func change(_ id: String, limit: ByteSize?) async throws {
        guard isLimited(id) else {
            throw AegisError(
                .conflict, "disk-unsupported", "instance \(id) was made without a disk limit",
                hint: "make a new instance with --disk")
        }
        try await BlockingPool.shared.run { [self] in try setLimit(id, limit) }
    }

    /// Removes the layer of a deleted instance, if it is in the pool. The space comes back a little later.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - wasLimited: whether it had a limit: then the pool is mounted for it, as nobody may have needed it since the daemon
    ///     or the host was started anew.
    package func remove(_ id: String, wasLimited: Bool) async {
        if wasLimited, Files.exists(file), await !isMounted {
            do { try await open() } catch {
                // Whoever mounts it next removes what no instance has.
                return logger.warning("cannot remove a writable layer", ("instance", id), ("error", "\(error)"))
            }
        }
        guard await isMounted else { return }
        try? await BlockingPool.shared.run { [self] in removeLayer(id) }
    }

    private func removeLayer(_ id: String) {
        do throws(Errno) {
            let pool = try FileDescriptor.open(mountPoint, [.readOnly, .directory])
            let layer: FileDescriptor
            do throws(Errno) { layer = try pool.open(id, [.readOnly, .directory, .noFollow]) } catch {
                if error == .noSuchFile { return }
                throw error
            }
            let number = try Btrfs.subvolumeID(of: layer)
            try Btrfs.removeSubvolume(id, in: pool)
            // Refused while the files are still being removed: then the counter stays, which costs 100 bytes.
            try? Btrfs.forget(number, on: pool)
        } catch { logger.warning("cannot remove a writable layer", ("instance", id), ("error", "\(error)")) }
    }

    /// Removes the layers of instances that are gone. Before anything is made in the pool: what is there is an earlier daemon's.
    private func sweep() {
        do {
            guard let known = try known() else { return }
            for id in layers().subtracting(known) {
                logger.info("a writable layer is nobody's", ("instance", id))
                removeLayer(id)
            }
        } catch { logger.warning("cannot look for layers that are nobody's", ("error", "\(error)")) }
    }

    /// The instances that have a layer in the pool.
    package func layers() -> Set<String> {
        Set(((try? Files.list(mountPoint)) ?? []).filter { $0.type == .directory }.map(\.name))
    }

    /// Unmounts the pool, at `down`: the loop device frees itself with the last sandbox that uses it.
    package func close() async {
        guard await isMounted else { return }
        try? await BlockingPool.shared.run { [self] in
            do throws(Errno) { try Mounts.unmount(mountPoint) } catch { try? Mounts.unmount(mountPoint, detach: true) }
            try? Files.removeTree(mountPoint)
        }
        opening.withLock { $0 = nil }
    }

    // MARK: - The file system

    private var isMounted: Bool {
        get async {
            if case .success? = opening.withLock({ $0?.now }) { return true }
            guard Files.exists(file) else { return false }
            return (try? await BlockingPool.shared.run { [self] in isInMountTable }) ?? false
        }
    }

    private var isInMountTable: Bool {
        guard let table = try? Files.read("/proc/self/mountinfo", limit: 16 << 20) else { return false }
        return MountTable(parsing: String(decoding: table, as: UTF8.self)).mount(at: mountPoint)?.type == "btrfs"
    }

    /// Mounts the pool once; everybody who asks meanwhile waits for the same attempt.
    private func open() async throws {
        let (attempt, isMine) = opening.withLock { current -> (Settlement<Result<Void, AegisError>>, Bool) in
            if let current {
                guard case .failure? = current.now else { return (current, false) }
            }
            let fresh = Settlement<Result<Void, AegisError>>()
            current = fresh
            return (fresh, true)
        }
        if isMine {
            do {
                try await mount()
                attempt.settle(.success(()))
            } catch let error as AegisError {
                attempt.settle(.failure(error))
            } catch {
                attempt.settle(.failure(.failed("disk-unsupported", "cannot mount the disk pool: \(error)")))
            }
        }
        guard let result = await attempt.value() else { throw CancellationError() }
        try result.get()
    }

    private func mount() async throws {
        try await BlockingPool.shared.run { [self] in
            try reporting("making \(mountPoint)") { () throws(Errno) in
                try Files.makeDirectories(mountPoint, mode: 0o711)
            }
        }
        let isMounted = try await BlockingPool.shared.run { [self] in isInMountTable }
        if !isMounted, !Files.exists(file) { try await format() }
        try await BlockingPool.shared.run { [self] in
            do throws(Errno) {
                if !isMounted {
                    // MS_NOATIME | MS_NODEV | MS_NOSUID; holes are punched as files go, so that the host gets its room back.
                    try Mounts.mountFile(file, on: mountPoint, type: "btrfs", flags: 0x406, data: "discard=async")
                }
                // Of one that is mounted, too: whoever did that may have been killed before it came to this.
                try Btrfs.enableQuota(on: FileDescriptor.open(mountPoint, [.readOnly, .directory]))
            } catch {
                if !isMounted { try? Mounts.unmount(mountPoint, detach: true) }
                throw AegisError(
                    .unavailable, "disk-unsupported", "cannot mount the disk pool \(file): \(error)",
                    hint: "disk limits need btrfs in the kernel and a free loop device; leave out --disk to run without"
                )
            }
            sweep()
        }
    }

    private func format() async throws {
        let program = Files.findExecutable("mkfs.btrfs", path: OCIRuntime.searchPath)
        guard let program else {
            throw AegisError(
                .unavailable, "disk-unsupported", "disk limits need mkfs.btrfs, which is not installed",
                hint: "apt install btrfs-progs")
        }
        let fresh = file + ".new"
        let size = try await BlockingPool.shared.run { [self] in
            try reporting("making \(fresh)") { () throws(Errno) -> UInt64 in
                let image = try FileDescriptor.open(fresh, [.readWrite, .create, .truncate], mode: 0o600)
                // As large as the disk could ever hold: only what is written takes room.
                let size = max((try image.freeSpace().totalBytes >> 20) << 20, 256 << 20)
                try image.truncate(to: size)
                return size
            }
        }
        let spec = ProcessSpec(
            executable: program, arguments: ["mkfs.btrfs", "--quiet", "--metadata", "single", fresh],
            environment: ["PATH=\(OCIRuntime.searchPath)"])
        let result = try await runProcess(spec, input: [], outputLimit: 65_536, deadline: .seconds(60), on: loop)
        guard result.status.isSuccess else {
            try? Files.removeFile(fresh)
            throw AegisError.failed(
                "disk-unsupported", "mkfs.btrfs failed: \(String(decoding: result.stderr.suffix(400), as: UTF8.self))")
        }
        try reporting("naming \(file)") { () throws(Errno) in try Files.rename(fresh, to: file) }
        logger.info("made the disk pool", ("file", file), ("bytes", "\(size)"))
    }

    private func setLimit(_ id: String, _ limit: ByteSize?) throws(AegisError) {
        try reporting("limiting the layer of \(id)") { () throws(Errno) in
            let layer = try FileDescriptor.open("\(mountPoint)/\(id)", [.readOnly, .directory])
            try Btrfs.limit(try Btrfs.subvolumeID(of: layer), to: limit?.bytes ?? .max, on: layer)
        }
    }

    /// Makes the two folders of an overlay's writable layer.
    private func make(_ folder: String) throws(AegisError) {
        try reporting("making \(folder)") { () throws(Errno) in
            try Files.makeDirectories(folder, mode: 0o700)
            let directory = try FileDescriptor.open(folder, [.readOnly, .directory])
            // The upper folder's permissions become those of `/` inside.
            for name in ["upper", "work"] {
                do throws(Errno) {
                    try directory.makeDirectory(name, mode: 0o755)
                    try directory.open(name, [.readOnly, .directory, .noFollow]).setPermissions(0o755)
                } catch { if error != .fileExists { throw error } }
            }
        }
    }

    /// Refuses to let another sandbox write to a disk that is nearly full.
    private func checkReserve(near path: String) throws(AegisError) {
        let space = try reporting("asking for the room at \(path)") { () throws(Errno) -> FreeSpace in
            var place = path
            while !Files.exists(place), place != "/" { place = Files.split(place).directory }
            return try FileDescriptor.open(place, [.readOnly]).freeSpace()
        }
        let least = reserve.bytes(of: space.totalBytes)
        guard space.freeBytes < least else { return }
        throw AegisError(
            .unavailable, "disk-reserve",
            "only \(space.freeBytes >> 20) MiB are free at \(path), \(least >> 20) MiB are kept in reserve",
            hint: "delete instances or images, or lower instances.disk_reserve")
    }

    private func reporting<T>(_ what: String, _ body: () throws(Errno) -> T) throws(AegisError) -> T {
        do throws(Errno) { return try body() } catch {
            throw .failed(error == .noSpace ? "disk-full" : "disk-failed", "\(what): \(error)")
        }
    }
}
