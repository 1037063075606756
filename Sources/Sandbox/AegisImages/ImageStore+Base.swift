import AegisCore
import AegisIO
import FoundationEssentials
import LinuxSys

extension ImageStore {
    /// Builds the base image, also when there is one: packages may have become newer.
    ///
    /// Two callers share one build, in this process and among daemons on one store.
    ///
    /// - Parameter progress: called from any thread with the lines of the build.
    /// - Returns: the new image.
    /// - Throws: `base-build-failed`, `disk-full`, `pull-timeout`.
    package func buildBase(progress: @escaping @Sendable (ImageProgress) -> Void = { _ in }) async throws
        -> ResolvedImage
    {
        try await pulls.request(PullJob(reference: .base), progress)
    }

    /// Builds the image, or takes the one that another process has built while this one waited for its turn.
    func buildBase(
        _ unpacker: LayerUnpacker, lease: ImageLease, progress: @escaping @Sendable (ImageProgress) -> Void
    ) async throws -> ImageRecord {
        let asked = Timestamp.now().milliseconds
        let gate = try await BlockingPool.shared.run { [self] in BuildLock(try directory.openLock("base.lock")) }
        // The lock is asked for again and again, so that no thread is blocked and a cancelled build ends at once.
        var told = false
        while try await !BlockingPool.shared.run({ try gate.take() }) {
            if !told { progress(.building("another process is building the base image; waiting for it")) }
            told = true
            try await loop.clock.sleep(for: .milliseconds(200))
        }
        if told, let built = try await builtBase(since: asked, lease) { return built }
        let builder = BaseBuilder(store: directory, unpacker: unpacker, settings: settings, loop: loop)
        return try await builder.build(lease: lease, progress: progress)
    }

    private func builtBase(since time: Int64, _ lease: ImageLease) async throws -> ImageRecord? {
        try await BlockingPool.shared.run { [self] in
            guard let ref = try directory.record(RefRecord.self, .refs, RefRecord.key(.base)), ref.pulled >= time,
                let manifest = Digest(ref.image),
                let record = try directory.record(ImageRecord.self, .images, manifest.hex)
            else { return nil }
            return try resolved(.base, record, lease) == nil ? nil : record
        }
    }
}

/// The lock on building the base image; given back with its last reference.
private final class BuildLock: Sendable {
    private let file: FileDescriptor
    init(_ file: consuming FileDescriptor) { self.file = file }

    func take() throws(AegisError) -> Bool {
        do { return try file.lock() } catch { throw StoreDirectory.failure(error, "locking the base image") }
    }
}

/// Builds the base image with the host's own package tools, and stores it as any other image of one layer.
struct BaseBuilder: Sendable {
    let store: StoreDirectory
    let unpacker: LayerUnpacker
    let settings: ImageSettings
    let loop: EventLoop

    private static let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// Builds and stores it.
    func build(lease: ImageLease, progress: @escaping @Sendable (ImageProgress) -> Void) async throws -> ImageRecord {
        let work = try await BlockingPool.shared.run { try store.beginWork() }
        let result: Result<ImageRecord, any Error>
        do { result = .success(try await build(in: work, lease: lease, progress: progress)) } catch {
            result = .failure(error)
        }
        await removeAlways(work)
        return try result.get()
    }

    private func build(in work: WorkDirectory, lease: ImageLease, progress: @escaping @Sendable (ImageProgress) -> Void)
        async throws -> ImageRecord
    {
        let recipe = try await recipe()
        progress(.building("building the base image from the packages of \(recipe.suite)"))
        let started = Timestamp.now().milliseconds / 1000
        try await BlockingPool.shared.run {
            do throws(Errno) {
                try work.directory.writeAtomically("host.sources", Array(recipe.sources.utf8), mode: 0o644)
                try work.directory.writeAtomically("apt.conf", Array(recipe.aptOptions.utf8), mode: 0o644)
                try work.directory.writeAtomically(
                    "build", Array(BaseRecipe.script(started: started).utf8), mode: 0o755)
                try work.directory.makeDirectory("scratch", mode: 0o711)
            } catch { throw StoreDirectory.failure(error, "preparing the base image") }
        }
        let spec = try spec(recipe, work, started)
        let (record, digest, size) = try await unpacker.unpackOutput(of: spec, in: work, name: "base", of: "base") {
            line in
            progress(.building(line))
        }
        return try await commit(record, digest, size, lease: lease, in: work)
    }

    /// The build, in process and mount namespaces of its own, so that all of it ends with its first process.
    private func spec(_ recipe: BaseRecipe, _ work: WorkDirectory, _ started: Int64) throws(AegisError) -> ProcessSpec {
        let options = recipe.aptOptions.isEmpty ? [] : ["--aptopt=\(work.path)/apt.conf"]
        let build = [
            "\(work.path)/build", "\(work.path)/tree", try find("mmdebstrap", package: "mmdebstrap"), "--mode=root",
            "--variant=minbase", "--format=directory", "--include=\(BaseRecipe.packages.joined(separator: ","))",
            "--aptopt=Apt::Install-Recommends \"false\"",
        ]
        let unshare = try find("unshare", package: "util-linux")
        var spec = ProcessSpec(
            executable: unshare,
            arguments: ["unshare", "--fork", "--kill-child", "--pid", "--mount", "--mount-proc", "--ipc", "--"]
                + build + options + [recipe.suite],
            environment: [
                "PATH=\(Self.path)", "HOME=/root", "TMPDIR=\(work.path)/scratch", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", "SOURCE_DATE_EPOCH=\(started)", "PYTHONHASHSEED=0",
                "AEGIS_SOURCES=\(work.path)/host.sources",
            ] + proxies)
        spec.newSession = true
        spec.parentDeathSignal = 9
        spec.fileMask = 0o022
        spec.stderr = .pipe
        return spec
    }

    private var proxies: [String] {
        ["http_proxy", "https_proxy", "no_proxy"].compactMap { name in
            settings.environment[name].map { "\(name)=\($0)" }
        }
    }

    private func find(_ name: String, package: String) throws(AegisError) -> String {
        guard let found = Files.findExecutable(name, path: Self.path) else {
            throw AegisError(
                .unavailable, "base-build-failed", "'\(name)' is not installed", hint: "install the package \(package)")
        }
        return found
    }

    /// Reads how the host gets its packages.
    private func recipe() async throws -> BaseRecipe {
        let program = try find("apt-config", package: "apt")
        var spec = ProcessSpec(
            executable: program, arguments: ["apt-config", "dump"], environment: ["PATH=\(Self.path)", "LC_ALL=C"])
        spec.stdout = .pipe
        let child = try await ChildProcess.spawnInBackground(spec, on: loop)
        let config: [UInt8]
        do {
            config = try await readAll(child.stdout, limit: 1 << 20)
            _ = try await child.wait()
        } catch {
            _ = await child.teardown([.signal(9, allow: .seconds(5))])
            throw error
        }
        return try await BlockingPool.shared.run {
            func text(_ path: String) -> String {
                (try? Files.read(path, limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) } ?? ""
            }
            var files = [(name: "sources.list", text: text("/etc/apt/sources.list"))]
            for entry in (try? Files.list("/etc/apt/sources.list.d")) ?? []
            where entry.name.hasSuffix(".list") || entry.name.hasSuffix(".sources") {
                files.append((entry.name, text("/etc/apt/sources.list.d/\(entry.name)")))
            }
            return try BaseRecipe(
                release: text("/etc/os-release"), sources: files, aptConfig: String(decoding: config, as: UTF8.self))
        }
    }

    private func commit(
        _ layer: LayerRecord, _ digest: Digest, _ size: Int64, lease: ImageLease, in work: WorkDirectory
    ) async throws -> ImageRecord {
        let platform = settings.platform
        let config = """
            {"architecture":"\(platform.architecture)","config":{"Env":["PATH=\(Self.path)"]},"os":"\(platform.operatingSystem)",\
            "rootfs":{"diff_ids":["\(digest)"],"type":"layers"}}
            """
        let id = Digest(of: config.utf8)
        let manifest = """
            {"config":{"digest":"\(id)","mediaType":"application/vnd.oci.image.config.v1+json","size":\(config.utf8.count)},\
            "layers":[{"digest":"\(digest)","mediaType":"application/vnd.oci.image.layer.v1.tar","size":\(size)}],\
            "mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}
            """
        let key = Digest(of: manifest.utf8)
        let now = Timestamp.now().milliseconds
        let record = ImageRecord(
            manifest: key.description, id: id.description, layers: [digest.description], bytes: layer.bytes,
            created: now)
        let ref = RefRecord(reference: "base", resolved: key.description, image: key.description, pulled: now)
        lease.hold([digest, key])
        try await BlockingPool.shared.run {
            try store.flush()
            try store.commit("base", of: work, as: digest)
            try store.write(.configs, id.hex, Array(config.utf8))
            try store.write(.manifests, key.hex, Array(manifest.utf8))
            try store.write(.images, key.hex, try StoreCoding.encode(record))
            try store.write(.refs, RefRecord.key(.base), try StoreCoding.encode(ref))
        }
        return record
    }
}
