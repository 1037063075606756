package import AegisCore
package import AegisIO
import LinuxSys
import Synchronization

/// When a registry is asked what a name stands for.
package enum PullPolicy: String, Sendable, Codable, CaseIterable {
    /// Each time; layers that are here are not fetched again.
    case always
    /// When the image is not here.
    case ifNotPresent = "if-not-present"
    /// Never: an image that is not here is an error.
    case never
}

/// One layer of an image, as a sandbox mounts it.
package struct LayerPath: Sendable, Hashable {
    /// The digest that names it.
    package let digest: String
    /// The directory that holds its files, with the ids of the image.
    package let path: String
}

/// An image that is here, and stays here as long as this value's lease lives.
package struct ResolvedImage: Sendable {
    /// The full name by which it was asked for.
    package let reference: String
    /// The image's id: the digest of its configuration.
    package let digest: String
    /// The digest of its manifest, which pins it in a registry.
    package let manifestDigest: String
    /// Bottom first. Empty for an image without files.
    package let layers: [LayerPath]
    package let config: ImageConfig
    /// Bytes of its files.
    package let size: UInt64
    /// Holds the layers against garbage collection.
    package internal(set) var lease: ImageLease
}

/// The images of this machine. `run()` carries out what the other calls ask for, and must run beside them.
package final class ImageStore: Sendable {
    let directory: StoreDirectory
    let uses = LayerUses()
    let settings: ImageSettings
    let helper: HelperProgram
    let loop: EventLoop
    let pulls: PullService
    private let listeners = Mutex<[@Sendable () -> Void]>([])

    /// Opens the store, making it if it does not exist, and removes what a killed daemon left half done.
    ///
    /// - Parameters:
    ///   - root: the store's directory, `AEGIS_HOME/images`.
    ///   - helper: the program that runs the confined roles.
    ///   - settings: where images come from and what they may cost.
    ///   - loop: the loop that watches the helpers.
    /// - Throws: `image-store-failed`, `disk-full`.
    package init(root: String, helper: HelperProgram, settings: ImageSettings, loop: EventLoop) throws(AegisError) {
        directory = try StoreDirectory(path: root)
        self.settings = settings
        self.helper = helper
        self.loop = loop
        pulls = PullService(limit: settings.limits.pulls, waiting: settings.limits.waiting)
    }

    /// Carries out pulls and builds until the task is cancelled; those that run then are cancelled too.
    package func run() async {
        await pulls.run { [self] job, progress in try await bring(job, progress) }
    }

    /// Makes an image be here, by fetching or building it if the policy says so.
    ///
    /// Callers that want the same image, and may use the same for it, share one pull; cancelling the last of them cancels
    /// it. An image of this machine is opened as each caller before anything that is known of it counts.
    ///
    /// - Parameters:
    ///   - reference: the image.
    ///   - policy: whether the registry is asked.
    ///   - caller: who wants it.
    ///   - progress: called from any thread while a pull goes on.
    /// - Returns: the image, held in the store by its lease.
    /// - Throws: `image-not-found`, `image-no-variant`, `image-auth-required`, `image-private`, `registry-unreachable`,
    ///   `registry-tls`, `registry-stalled`, `registry-rate-limited`, `digest-mismatch`, `corrupt-layer`, `image-too-large`,
    ///   `disk-full`, `path-denied`, `path-not-found`, `invalid-manifest`, `unsupported-manifest`, `pull-timeout`,
    ///   `pull-failed`, `unpack-failed`, `base-build-failed`.
    package func ensure(
        _ reference: ImageReference, policy: PullPolicy = .ifNotPresent, for caller: ImageCaller = .node,
        progress: @escaping @Sendable (ImageProgress) -> Void = { _ in }
    ) async throws -> ResolvedImage {
        var source: LocalSource?
        if case .local(let name) = reference { source = try await LocalSource.open(name, caller.open) }
        if policy != .always || reference == .base, let here = try await local(reference, source, caller) {
            return here
        }
        guard policy != .never else { throw try await absent(reference, caller) }
        let image: ResolvedImage
        do {
            image = try await pulls.request(
                PullJob(
                    reference: reference, standing: caller.standing, source: source, user: caller.user,
                    credentials: caller.credentials), progress)
        } catch let error as AegisError where !caller.standing.hasCredentials && caller.credentials == nil {
            throw try await explained(error, reference)
        }
        try await check(image, source, caller)
        return image
    }

    /// Calls `body`, on any thread, whenever what a name stands for may have changed; for as long as the store lives.
    package func whenChanged(_ body: @escaping @Sendable () -> Void) { listeners.withLock { $0.append(body) } }

    /// Tells those who listen.
    func changed() { for body in listeners.withLock({ $0 }) { body() } }

    /// The image if it is here, without asking anybody.
    package func local(_ reference: ImageReference) async throws -> ResolvedImage? {
        try await local(reference) { _ in true }
    }

    /// The image if it is here and this caller may have it as it is.
    private func local(_ reference: ImageReference, _ source: LocalSource?, _ caller: ImageCaller) async throws
        -> ResolvedImage?
    {
        let here = try await local(reference) { ref in
            if let source { return ref.source == source.identity }
            return ref.isOpen || !caller.standing.isForEverybody || ref.belongs(to: caller.user)
        }
        guard let here else { return nil }
        // Where this fails the image is read again, and the caller told why that cannot be done.
        do { try await check(here, source, caller) } catch is AegisError { return nil }
        return here
    }

    private func local(_ reference: ImageReference, if suits: @escaping @Sendable (RefRecord) -> Bool) async throws
        -> ResolvedImage?
    {
        let image = try await BlockingPool.shared.run { [self] () -> ResolvedImage? in
            guard let ref = try directory.record(RefRecord.self, .refs, RefRecord.key(reference)), suits(ref),
                let manifest = Digest(ref.image),
                let record = try directory.record(ImageRecord.self, .images, manifest.hex)
            else { return nil }
            return try resolved(reference, record, ImageLease(uses))
        }
        return image.map { ImageLease.handingOver($0) }
    }

    /// The image of an id if it is here, whatever its name stands for by now.
    ///
    /// - Parameters:
    ///   - id: `sha256:` and the digest of its configuration.
    ///   - reference: the name by which it was asked for.
    /// - Returns: the image, held in the store by its lease; nil when it is not here any more.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    package func local(id: String, as reference: ImageReference) async throws -> ResolvedImage? {
        let image = try await BlockingPool.shared.run { [self] () -> ResolvedImage? in
            for key in try directory.keys(.images) {
                guard let record = try directory.record(ImageRecord.self, .images, key), record.id == id else {
                    continue
                }
                if let image = try resolved(reference, record, ImageLease(uses)) { return image }
            }
            return nil
        }
        return image.map { ImageLease.handingOver($0) }
    }

    /// What a sandbox needs of an image whose record is known; nil when a layer or its texts are gone.
    func resolved(_ reference: ImageReference, _ record: ImageRecord, _ lease: ImageLease) throws(AegisError)
        -> ResolvedImage?
    {
        let digests = record.layers.compactMap { Digest($0) }
        guard let id = Digest(record.id), let manifest = Digest(record.manifest), digests.count == record.layers.count
        else { return nil }
        lease.hold(digests + [manifest])
        for digest in digests where try directory.layer(digest) == nil { return nil }
        guard let bytes = try directory.read(.configs, id.hex) else { return nil }
        let document = try ImageDocument(json: bytes, of: reference.description)
        return ResolvedImage(
            reference: reference.description, digest: record.id, manifestDigest: record.manifest,
            layers: digests.map { LayerPath(digest: $0.description, path: directory.layerPath($0)) },
            config: document.config,
            size: UInt64(max(0, record.bytes)), lease: lease)
    }

    private func bring(_ job: PullJob, _ progress: @escaping @Sendable (ImageProgress) -> Void) async throws
        -> ResolvedImage
    {
        let reference = job.reference
        let lease = ImageLease(uses)
        let credentials = try await BlockingPool.shared.run { [settings] in try Credentials(for: job, settings) }
        let fetcher = Fetcher(helper: helper, settings: settings, loop: loop, credentials: credentials)
        let unpacker = LayerUnpacker(helper: helper, limits: settings.limits, loop: loop)
        let puller = Puller(
            store: directory, uses: uses, fetcher: fetcher, unpacker: unpacker, settings: settings,
            isForEverybody: job.isForEverybody(with: credentials), owner: job.owner)
        let record: ImageRecord
        do {
            record = try await withDeadline(settings.limits.pullTime, clock: loop.clock) { [self] in
                switch reference {
                case .base: try await buildBase(unpacker, lease: lease, progress: progress)
                case .registry(let name): try await puller.pull(name, lease: lease, progress: progress)
                case .local(let name):
                    try await puller.load(name, lease: lease, source: job.opened(), progress: progress)
                }
            }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(
                .timeout, "pull-timeout", "'\(reference)' was not here after \(settings.limits.pullTime)",
                hint: "try again, or raise images.pull_timeout in the configuration")
        }
        let image = try await BlockingPool.shared.run { [self] in try resolved(reference, record, lease) }
        guard let image else {
            throw AegisError.failed("image-store-damaged", "'\(reference)' is gone from the store right after it came")
        }
        progress(.ready)
        changed()
        return image
    }
}
