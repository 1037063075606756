import AegisCore
import AegisIO
import CLinux
import FoundationEssentials
import LinuxSys

/// What a pull tells while it goes on.
package enum ImageProgress: Sendable, Equatable {
    /// The registry is asked what the name stands for.
    case resolving
    /// Bytes that have come, of those that the layers to fetch have.
    case downloading(bytes: Int64, of: Int64)
    /// Layers that are unpacked, of those to unpack.
    case unpacking(layers: Int, of: Int)
    /// A line of the base image's build.
    case building(String)
    /// Something in the image was left out.
    case warning(String)
    /// The image is in the store.
    case ready
}

extension ImageProgress: CustomStringConvertible {
    /// One line for a terminal or a log.
    package var description: String {
        switch self {
        case .resolving: "resolving"
        case .downloading(let bytes, let total): "downloading \(Self.mega(bytes)) of \(Self.mega(total))"
        case .unpacking(let done, let total): "unpacking \(done) of \(total) layers"
        case .building(let line): line
        case .warning(let text): "warning: \(text)"
        case .ready: "ready"
        }
    }

    private static func mega(_ bytes: Int64) -> String {
        let tenths = (max(0, bytes) * 10 + 524_288) / 1_048_576
        return "\(tenths / 10).\(tenths % 10) MiB"
    }
}

/// Brings one image into the store.
struct Puller: Sendable {
    let store: StoreDirectory
    let uses: LayerUses
    let fetcher: Fetcher
    let unpacker: LayerUnpacker
    let settings: ImageSettings
    /// Whether everybody on this node may have what comes. Then nothing is taken from the store that not everybody may have:
    /// who has the digests of an image has not the image.
    let isForEverybody: Bool
    /// The user who alone may have what comes, beside administrators: of the store only what that user may have is taken.
    let owner: UInt32?

    /// One layer of the image to come.
    private struct Layer: Sendable {
        var blob: Descriptor
        var digest: Digest
    }
    /// Everything that is known of an image before its layers are fetched.
    private struct Plan: Sendable {
        var reference: ImageReference
        var resolved: Digest
        var manifest: Digest
        var manifestBytes: [UInt8]
        var configBytes: [UInt8]
        var layers: [Layer]
    }

    /// Pulls an image of a registry.
    ///
    /// - Returns: its record, whose layers are held by `lease` until the caller lets go of it.
    func pull(_ reference: RegistryReference, lease: ImageLease, progress: @escaping @Sendable (ImageProgress) -> Void)
        async throws -> ImageRecord
    {
        let work = try await BlockingPool.shared.run { try store.beginWork() }
        return try await ending(work) {
            progress(.resolving)
            do {
                let (resolved, manifest, bytes) = try await resolve(reference, in: work)
                if let known = try await known(manifest, lease: lease) {
                    try await remember(.registry(reference), resolved: resolved, known)
                    return known
                }
                var image = bytes ?? []
                if bytes == nil { image = try await variant(reference, manifest, in: work) }
                let plan = try await plan(reference, resolved, manifest, image, in: work)
                return try await fetch(plan, nil, lease: lease, in: work, progress: progress) { missing, present in
                    let total = missing.reduce(0) { $0 + $1.blob.size }
                    try await fetcher.download(reference, manifest: manifest, present: present.map(\.blob), in: work) {
                        bytes in
                        progress(.downloading(bytes: min(bytes, total), of: total))
                    }
                }
            } catch let error as AegisError where error.code == "image-not-found" {
                throw await withHint(error, reference, in: work)
            }
        }
    }

    /// Takes an image over from a file or folder of this machine.
    func load(
        _ reference: LocalReference, lease: ImageLease, source: LocalSource,
        progress: @escaping @Sendable (ImageProgress) -> Void
    ) async throws -> ImageRecord {
        let work = try await BlockingPool.shared.run { try store.beginWork() }
        return try await ending(work) {
            progress(.resolving)
            try await fetcher.copy(reference, source: source.descriptor, in: work) {
                progress(.downloading(bytes: $0, of: $0))
            }
            let (digest, bytes) = try Fetcher.copiedManifest(in: work, of: .local(reference))
            guard case .image(let config, let blobs) = try Manifest(json: bytes, of: reference.description) else {
                throw AegisError.failed("pull-failed", "'\(reference)' was not copied as one image")
            }
            if let known = try await known(digest, lease: lease) {
                try await remember(.local(reference), resolved: digest, known, source)
                return known
            }
            let configBytes = try Fetcher.readFile(Fetcher.blobPath(config.digest), ImageDocument.mostBytes, work)
            let plan = try Plan(
                reference: .local(reference), resolved: digest, manifest: digest, manifestBytes: bytes,
                configBytes: configBytes,
                layers: layers(configBytes, config, blobs, of: .local(reference)))
            return try await fetch(plan, source, lease: lease, in: work, progress: progress) { _, _ in }
        }
    }

    /// Removes the work directory whatever happens.
    private func ending<T: Sendable>(_ work: WorkDirectory, _ body: () async throws -> T) async throws -> T {
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        await removeAlways(work)
        return try result.get()
    }

    // MARK: Resolving

    /// What the registry has under this name now.
    ///
    /// - Returns: the digest of its answer, the digest of the manifest for this machine, and that manifest; nil instead of
    ///   its bytes when the same answer led to that manifest before.
    func resolve(
        _ reference: RegistryReference, in work: WorkDirectory
    ) async throws -> (resolved: Digest, manifest: Digest, [UInt8]?) {
        let bytes = try await fetcher.manifest(reference, in: work)
        let resolved = Digest(of: bytes)
        try Self.expect(resolved, reference.digest ?? resolved, "the manifest of '\(reference)'")
        guard case .index(let variants) = try Manifest(json: bytes, of: reference.description) else {
            return (resolved, resolved, bytes)
        }
        let before = try await BlockingPool.shared.run {
            try store.record(RefRecord.self, .refs, RefRecord.key(.registry(reference)))
        }
        if let before, before.resolved == resolved.description, let manifest = Digest(before.image) {
            return (resolved, manifest, nil)
        }
        let chosen = try Manifest.choose(variants, for: settings.platform, of: reference.description)
        return (resolved, chosen.digest, try await variant(reference, chosen.digest, in: work))
    }

    private func variant(_ reference: RegistryReference, _ digest: Digest, in work: WorkDirectory) async throws
        -> [UInt8]
    {
        let bytes = try await fetcher.manifest(reference, digest: digest, in: work)
        try Self.expect(Digest(of: bytes), digest, "the manifest of '\(reference)' for \(settings.platform)")
        return bytes
    }

    private static func expect(_ found: Digest, _ wanted: Digest, _ what: String) throws(AegisError) {
        guard found != wanted else { return }
        throw .failed(
            "digest-mismatch", "\(what) has the digest \(found) instead of \(wanted)",
            hint: "the registry holds a damaged image, or something changed it on the way; push it again")
    }

    private func plan(
        _ reference: RegistryReference, _ resolved: Digest, _ manifest: Digest, _ bytes: [UInt8], in work: WorkDirectory
    ) async throws -> Plan {
        guard case .image(let config, let blobs) = try Manifest(json: bytes, of: reference.description) else {
            throw AegisError.failed("unsupported-manifest", "'\(reference)' is a list of lists")
        }
        let stored = try await BlockingPool.shared.run {
            try usable().has(config.digest) ? try store.read(.configs, config.digest.hex) : nil
        }
        var configBytes = stored ?? []
        if stored == nil { configBytes = try await fetcher.config(reference, manifest: manifest, in: work) }
        return try Plan(
            reference: .registry(reference), resolved: resolved, manifest: manifest, manifestBytes: bytes,
            configBytes: configBytes,
            layers: layers(configBytes, config, blobs, of: .registry(reference)))
    }

    private func layers(
        _ configBytes: [UInt8], _ config: Descriptor, _ blobs: [Descriptor], of reference: ImageReference
    ) throws -> [Layer] {
        try Self.expect(Digest(of: configBytes), config.digest, "the configuration of '\(reference)'")
        let document = try ImageDocument(json: configBytes, of: reference.description)
        guard settings.platform.accepts(document.platform) else {
            throw Manifest.noVariant(
                settings.platform, of: reference.description, existing: [document.platform.description])
        }
        guard document.layers.count == blobs.count else {
            throw AegisError.failed(
                "invalid-manifest",
                "'\(reference)' has \(blobs.count) layers, its configuration speaks of \(document.layers.count)")
        }
        return zip(blobs, document.layers).map { Layer(blob: $0, digest: $1) }
    }

    /// An image that is in the store with all its layers, now held.
    private func known(_ manifest: Digest, lease: ImageLease) async throws -> ImageRecord? {
        try await BlockingPool.shared.run {
            guard try usable().has(manifest), let record = try store.record(ImageRecord.self, .images, manifest.hex)
            else { return nil }
            let layers = record.layers.compactMap { Digest($0) }
            lease.hold(layers + [manifest])
            for layer in layers where try store.layer(layer) == nil { return nil }
            return record
        }
    }

    /// What of the store may be taken for this pull.
    private func usable() throws(AegisError) -> UsableContent {
        UsableContent(open: isForEverybody || owner != nil ? try store.openContent(for: owner) : nil)
    }

    private func remember(
        _ reference: ImageReference, resolved: Digest, _ record: ImageRecord, _ source: LocalSource? = nil
    ) async throws {
        try await BlockingPool.shared.run {
            let key = RefRecord.key(reference)
            var ref = RefRecord(
                reference: reference.description, resolved: resolved.description, image: record.manifest,
                pulled: Timestamp.now().milliseconds)
            if let source {
                ref.source = source.identity
            } else {
                // Once it is everybody's, it stays so while it is the same image.
                let before = try? store.record(RefRecord.self, .refs, key)
                let isSame = before?.image == ref.image
                ref.open = isForEverybody || (isSame && before?.isOpen == true)
                // So it does for everybody who has brought it with credentials of their own.
                let users = Set((isSame ? before?.users : nil) ?? []).union(owner.map { [$0] } ?? [])
                ref.users = users.isEmpty ? nil : users.sorted()
            }
            try store.write(.refs, key, try StoreCoding.encode(ref))
        }
    }

    // MARK: Layers

    private func fetch(
        _ plan: Plan, _ source: LocalSource?, lease: ImageLease, in work: WorkDirectory,
        progress: @escaping @Sendable (ImageProgress) -> Void,
        download: (_ missing: [Layer], _ present: [Layer]) async throws -> Void
    ) async throws -> ImageRecord {
        // Held first, looked for then: what is there now stays.
        lease.hold(plan.layers.map(\.digest) + [plan.manifest])
        var seen = Set<Digest>()
        let distinct = plan.layers.filter { seen.insert($0.digest).inserted }
        let present = try await BlockingPool.shared.run {
            let usable = try usable()
            return Set(try distinct.map(\.digest).filter { try usable.has($0) && store.layer($0) != nil })
        }
        let missing = distinct.filter { !present.contains($0.digest) }
        let need = missing.reduce(0 as UInt64) { $0 + UInt64($1.blob.size) }
        let free = try await BlockingPool.shared.run { try store.freeBytes() }
        guard need * 2 < free else {
            throw AegisError.failed(
                "disk-full", "'\(plan.reference)' needs more than \(need * 2) bytes, \(free) are free",
                hint: "free space, or remove images: aegis image delete REF")
        }
        let wanted = Set(missing.map(\.blob.digest))
        if !missing.isEmpty { try await download(missing, distinct.filter { !wanted.contains($0.blob.digest) }) }
        try await unpack(missing, plan, in: work, progress: progress)
        return try await commit(plan, missing, source, lease: lease, in: work)
    }

    private func unpack(
        _ missing: [Layer], _ plan: Plan, in work: WorkDirectory, progress: @escaping @Sendable (ImageProgress) -> Void
    ) async throws {
        guard !missing.isEmpty else { return }
        progress(.unpacking(layers: 0, of: missing.count))
        var done = 0
        try await withThrowingTaskGroup(of: [String].self) { group in
            var rest = missing[...]
            func next() {
                guard let layer = rest.popFirst() else { return }
                group.addTask {
                    try await unpacker.unpack(
                        Fetcher.blobPath(layer.blob.digest), layer.blob, as: layer.digest, in: work,
                        name: layer.digest.hex,
                        of: plan.reference.description
                    ).warnings
                }
            }
            for _ in 0..<max(1, settings.limits.unpacks) { next() }
            while let warnings = try await group.next() {
                done += 1
                for warning in warnings { progress(.warning(warning)) }
                progress(.unpacking(layers: done, of: missing.count))
                next()
            }
        }
    }

    /// Moves finished layers and texts to their places: first the layers, then the image, then its name.
    private func commit(
        _ plan: Plan, _ missing: [Layer], _ source: LocalSource?, lease: ImageLease, in work: WorkDirectory
    ) async throws -> ImageRecord {
        let record = try await BlockingPool.shared.run { () throws -> ImageRecord in
            if !missing.isEmpty { try store.flush() }
            for layer in missing { try store.commit(layer.digest.hex, of: work, as: layer.digest) }
            let stack = try LayerStack(plan.layers.map(\.digest), store)
            let top = try stack.describeDirectories(in: work, store, lease)
            let config = Digest(of: plan.configBytes)
            let record = ImageRecord(
                manifest: plan.manifest.description, id: config.description,
                layers: (stack.layers.map(\.digest) + top).map(\.description),
                bytes: stack.layers.reduce(0) { $0 + $1.bytes },
                created: Timestamp.now().milliseconds)
            try store.write(.configs, config.hex, plan.configBytes)
            try store.write(.manifests, plan.manifest.hex, plan.manifestBytes)
            try store.write(.images, plan.manifest.hex, try StoreCoding.encode(record))
            return record
        }
        try await remember(plan.reference, resolved: plan.resolved, record, source)
        return record
    }

    /// Adds the nearest known name to the error of an unknown one.
    private func withHint(_ error: AegisError, _ reference: RegistryReference, in work: WorkDirectory) async
        -> AegisError
    {
        var error = error
        if let tag = reference.tag, case let tags = await fetcher.tags(reference, in: work), !tags.isEmpty {
            if tags.contains(tag) {
                return .failed(
                    "image-incomplete", "the registry has the name '\(reference)', but not all that belongs to it",
                    hint: "a part of the image was lost or damaged there; push it again")
            }
            let near = nearest(tag, in: tags)
            error.hint =
                near.map { "did you mean '\(reference.name):\($0)'?" }
                ?? "it has the tags \(tags.prefix(8).joined(separator: ", "))"
            return error
        }
        let here = (try? await BlockingPool.shared.run { try store.references() }) ?? []
        let near = nearest(reference.description, in: here.filter { $0 != reference.description })
        error.hint = near.map { "did you mean '\($0)', which is here?" } ?? "check the spelling: [REGISTRY/]NAME[:TAG]"
        return error
    }
}

/// What of the store a pull may take over.
private struct UsableContent: Sendable {
    /// The digests of it; nil is all.
    var open: Set<String>?
    func has(_ digest: Digest) -> Bool { open?.contains(digest.description) ?? true }
}

/// Removes a work directory, in a cancelled task too: on a thread of its own, because the pool takes no calls of cancelled
/// tasks and a loop must not wait for a large tree to go.
func removeAlways(_ work: WorkDirectory) async {
    await withCheckedContinuation { done in
        do {
            try SystemThread.start(name: "aegis-removal") {
                work.remove()
                done.resume()
            }
        } catch {
            // No thread to be had: what is left goes at the next start.
            done.resume()
        }
    }
}
