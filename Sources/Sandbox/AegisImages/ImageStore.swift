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
    package let lease: ImageLease
}

/// The images of this machine. `run()` carries out what the other calls ask for, and must run beside them.
package final class ImageStore: Sendable {
    let directory: StoreDirectory
    let uses = LayerUses()
    let settings: ImageSettings
    let helper: HelperProgram
    let loop: EventLoop
    let pulls: PullService

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
        await pulls.run { [self] job, progress in try await bring(job.reference, job.open, progress) }
    }

    /// Makes an image be here, by fetching or building it if the policy says so.
    ///
    /// Callers that want the same image share one pull; cancelling the last of them cancels it.
    ///
    /// - Parameters:
    ///   - reference: the image.
    ///   - policy: whether the registry is asked.
    ///   - openLocal: opens an image of this machine; nil opens it with the daemon's rights.
    ///   - progress: called from any thread while a pull goes on.
    /// - Returns: the image, held in the store by its lease.
    /// - Throws: `image-not-found`, `image-no-variant`, `image-auth-required`, `registry-unreachable`, `registry-tls`,
    ///   `registry-stalled`, `registry-rate-limited`, `digest-mismatch`, `corrupt-layer`, `image-too-large`, `disk-full`,
    ///   `invalid-manifest`, `unsupported-manifest`, `pull-timeout`, `pull-failed`, `unpack-failed`, `base-build-failed`.
    package func ensure(
        _ reference: ImageReference, policy: PullPolicy = .ifNotPresent, openLocal: LocalOpener? = nil,
        progress: @escaping @Sendable (ImageProgress) -> Void = { _ in }
    ) async throws -> ResolvedImage {
        if policy != .always || reference == .base, let here = try await local(reference) { return here }
        guard policy != .never else {
            throw AegisError.notFound(
                "image-not-here", "the image '\(reference)' is not here, and the policy is never to fetch one",
                hint: reference == .base
                    ? "build it: aegis image build base" : "fetch it: aegis image pull \(reference)")
        }
        let open: LocalOpener =
            openLocal ?? { path in
                do { return try FileDescriptor.open(path, [.readOnly]) } catch {
                    throw AegisError.notFound(
                        "image-not-found", "'\(path)' cannot be opened: \(error)", hint: "check the path")
                }
            }
        return try await pulls.request(PullJob(reference: reference, open: open), progress)
    }

    /// The image if it is here, without asking anybody.
    package func local(_ reference: ImageReference) async throws -> ResolvedImage? {
        try await BlockingPool.shared.run { [self] in
            guard let ref = try directory.record(RefRecord.self, .refs, RefRecord.key(reference)) else { return nil }
            guard let manifest = Digest(ref.image),
                let record = try directory.record(ImageRecord.self, .images, manifest.hex)
            else { return nil }
            return try resolved(reference, record, ImageLease(uses))
        }
    }

    /// The image of an id if it is here, whatever its name stands for by now.
    ///
    /// - Parameters:
    ///   - id: `sha256:` and the digest of its configuration.
    ///   - reference: the name by which it was asked for.
    /// - Returns: the image, held in the store by its lease; nil when it is not here any more.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    package func local(id: String, as reference: ImageReference) async throws -> ResolvedImage? {
        try await BlockingPool.shared.run { [self] in
            for key in try directory.keys(.images) {
                guard let record = try directory.record(ImageRecord.self, .images, key), record.id == id else {
                    continue
                }
                if let image = try resolved(reference, record, ImageLease(uses)) { return image }
            }
            return nil
        }
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

    private func bring(
        _ reference: ImageReference, _ open: @escaping LocalOpener,
        _ progress: @escaping @Sendable (ImageProgress) -> Void
    ) async throws -> ResolvedImage {
        let lease = ImageLease(uses)
        let fetcher = Fetcher(helper: helper, settings: settings, loop: loop)
        let unpacker = LayerUnpacker(helper: helper, limits: settings.limits, loop: loop)
        let puller = Puller(store: directory, uses: uses, fetcher: fetcher, unpacker: unpacker, settings: settings)
        let record: ImageRecord
        do {
            record = try await withDeadline(settings.limits.pullTime, clock: loop.clock) { [self] in
                switch reference {
                case .base: try await buildBase(unpacker, lease: lease, progress: progress)
                case .registry(let name): try await puller.pull(name, lease: lease, progress: progress)
                case .local(let name): try await puller.load(name, lease: lease, open: open, progress: progress)
                }
            }
        } catch let error as IOError where error.kind == .timeout {
            throw AegisError(
                .timeout, "pull-timeout", "'\(reference)' was not here after \(settings.limits.pullTime)",
                hint: "try again: the layers that have come are kept")
        }
        let image = try await BlockingPool.shared.run { [self] in try resolved(reference, record, lease) }
        guard let image else {
            throw AegisError.failed("image-store-damaged", "'\(reference)' is gone from the store right after it came")
        }
        progress(.ready)
        return image
    }
}
