import AegisCore
import AegisIO
package import AegisSandboxTypes

/// What a garbage collection removed.
package struct CollectedImages: Sendable, Equatable {
    /// Names that were removed.
    package var references: [String] = []
    /// How many layers were removed.
    package var layers = 0
    /// Bytes of the removed layers' files.
    package var bytes: UInt64 = 0
}

extension ImageStore {
    /// What the list says of an image that its holder has just made be here: the holder is no use of it.
    ///
    /// - Parameters:
    ///   - image: the image.
    ///   - inUse: digests (of images, manifests or layers) that instances use.
    /// - Returns: nil when its name stands for another image by now.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    package func info(_ image: ResolvedImage, inUse: Set<String>) async throws -> ImageInfo? {
        guard var info = try await list().first(where: { $0.reference == image.reference && $0.id == image.digest })
        else { return nil }
        info.inUse = inUse.contains(image.digest) || inUse.contains(image.manifestDigest)
        return info
    }

    /// All images, by name.
    ///
    /// - Parameter inUse: digests (of images, manifests or layers) that instances use, beside those held by leases.
    /// - Returns: one entry for each name; several may stand for the same image.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    package func list(inUse: Set<String> = []) async throws -> [ImageInfo] {
        try await BlockingPool.shared.run { [self] in
            let held = Set(uses.withHeld { $0 }.map(\.description)).union(inUse)
            var images: [ImageInfo] = []
            for key in try directory.keys(.refs) {
                guard let ref = try directory.record(RefRecord.self, .refs, key), let manifest = Digest(ref.image),
                    let record = try directory.record(ImageRecord.self, .images, manifest.hex)
                else { continue }
                images.append(
                    ImageInfo(
                        reference: ref.reference, id: record.id, size: UInt64(max(0, record.bytes)),
                        layers: record.layers.count,
                        createdAt: Timestamp(milliseconds: ref.pulled),
                        inUse: held.contains(record.id) || held.contains(record.manifest)))
            }
            return images.sorted { $0.reference < $1.reference }
        }
    }

    /// Removes a name, and the files that no other name and no instance needs.
    ///
    /// - Parameters:
    ///   - reference: the image.
    ///   - inUse: digests (of images, manifests or layers) that instances use, beside those held by leases.
    /// - Returns: what was removed.
    /// - Throws: `image-not-found` with the nearest name, `image-in-use`.
    package func delete(_ reference: ImageReference, inUse: Set<String> = []) async throws -> CollectedImages {
        try await BlockingPool.shared.run { [self] in
            let key = RefRecord.key(reference)
            guard let ref = try directory.record(RefRecord.self, .refs, key) else {
                let near = nearest(reference.description, in: try directory.references())
                throw AegisError.notFound(
                    "image-not-found", "there is no image '\(reference)' here",
                    hint: near.map { "did you mean '\($0)'?" } ?? "see: aegis image list")
            }
            let record = try Digest(ref.image).flatMap { try directory.record(ImageRecord.self, .images, $0.hex) }
            try uses.withHeld { (held) throws(AegisError) in
                let busy = Set(held.map(\.description)).union(inUse)
                let mine = [ref.image, record?.id].compactMap { $0 }
                guard !mine.contains(where: busy.contains) else {
                    throw .conflict(
                        "image-in-use", "the image '\(reference)' is in use",
                        hint: "stop and delete the instances that use it")
                }
                try directory.remove(.refs, key)
            }
        }
        var collected = try await garbageCollect(inUse: inUse)
        collected.references = [reference.description]
        changed()
        return collected
    }

    /// Removes what no name refers to and nobody uses: layers, manifests and configurations.
    ///
    /// - Parameters:
    ///   - inUse: digests (of images, manifests or layers) that instances use, beside those held by leases.
    ///   - unusedImages: also removes the names of images that nobody uses, `base` excepted.
    /// - Returns: what was removed.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    package func garbageCollect(inUse: Set<String> = [], unusedImages: Bool = false) async throws -> CollectedImages {
        try await BlockingPool.shared.run { [self] in
            let work = try directory.beginWork()
            defer { work.remove() }
            // Nothing can be held anew while it is decided what goes, and what goes is out of the store at once.
            return try uses.withHeld { (held) throws(AegisError) in
                let busy = Set(held.map(\.description)).union(inUse)
                var collected = CollectedImages()
                var kept = Set<String>()
                for key in try directory.keys(.refs) {
                    guard let ref = try directory.record(RefRecord.self, .refs, key) else { continue }
                    let id = try Digest(ref.image).flatMap { (d) throws(AegisError) in
                        try directory.record(ImageRecord.self, .images, d.hex)
                    }?.id
                    let used = busy.contains(ref.image) || id.map(busy.contains) ?? false
                    if unusedImages, !used, ref.reference != ImageReference.base.description {
                        try directory.remove(.refs, key)
                        collected.references.append(ref.reference)
                    } else {
                        kept.insert(ref.image)
                    }
                }
                try collect(&collected, kept: kept, busy: busy, into: work)
                collected.references.sort()
                return collected
            }
        }
    }

    private func collect(
        _ collected: inout CollectedImages, kept: Set<String>, busy: Set<String>, into work: WorkDirectory
    ) throws(AegisError) {
        var layers = busy
        var configs = Set<String>()
        for key in try directory.keys(.images) {
            guard let record = try directory.record(ImageRecord.self, .images, key) else { continue }
            if kept.contains(record.manifest) || busy.contains(record.manifest) || busy.contains(record.id) {
                layers.formUnion(record.layers)
                configs.insert(record.id)
            } else {
                try directory.remove(.images, key)
                try directory.remove(.manifests, key)
            }
        }
        for key in try directory.keys(.configs) where !configs.contains("sha256:\(key)") {
            try directory.remove(.configs, key)
        }
        for digest in try directory.layerDigests() where !layers.contains(digest.description) {
            collected.bytes += UInt64(max(0, (try? directory.layer(digest))?.bytes ?? 0))
            collected.layers += 1
            try directory.discard(digest, into: work)
        }
    }
}

extension StoreDirectory {
    /// The names of all images, sorted.
    func references() throws(AegisError) -> [String] {
        var names: [String] = []
        for key in try keys(.refs) {
            if let ref = try record(RefRecord.self, .refs, key) { names.append(ref.reference) }
        }
        return names.sorted()
    }
}
