import AegisCore
import AegisIO

// What one caller may have, and how it is told what it may not.
extension ImageStore {
    /// Checks that the caller may read all that an image of this machine is made of, whoever brought it here.
    func check(_ image: ResolvedImage, _ source: LocalSource?, _ caller: ImageCaller) async throws {
        guard let source, let manifest = Digest(image.manifestDigest) else { return }
        let bytes = try await BlockingPool.shared.run { [self] in try directory.read(.manifests, manifest.hex) }
        guard let bytes, case .image(let config, let layers) = try Manifest(json: bytes, of: image.reference) else {
            throw AegisError.failed(
                "image-store-damaged", "the manifest of '\(image.reference)' is gone from the store",
                hint: "delete the image, and use it again")
        }
        try await source.check([config.digest] + layers.map(\.digest), caller.open)
    }

    /// The error for an image that is not to be fetched.
    func absent(_ reference: ImageReference, _ caller: ImageCaller) async throws -> AegisError {
        if !caller.standing.hasCredentials, try await isPrivate(reference) { return Self.isPrivate(reference) }
        return AegisError.notFound(
            "image-not-here", "the image '\(reference)' is not here, and the policy is never to fetch one",
            hint: reference == .base ? "build it: aegis image build base" : "fetch it: aegis image pull \(reference)")
    }

    /// The error of a pull without credentials, for somebody who has none of the node's.
    func explained(_ error: AegisError, _ reference: ImageReference) async throws -> AegisError {
        guard ["image-auth-required", "image-not-found"].contains(error.code), case .registry = reference else {
            return error
        }
        if try await isPrivate(reference) { return Self.isPrivate(reference) }
        guard error.code == "image-auth-required" else { return error }
        var error = error
        error.hint =
            "use your own credentials (--authfile), or let an administrator share the image: aegis image pull \(reference)"
        return error
    }

    /// Whether an image of a registry is here, but not for everybody.
    private func isPrivate(_ reference: ImageReference) async throws -> Bool {
        guard case .registry = reference else { return false }
        return try await BlockingPool.shared.run { [self] in
            try directory.record(RefRecord.self, .refs, RefRecord.key(reference)).map { !$0.isOpen } ?? false
        }
    }

    private static func isPrivate(_ reference: ImageReference) -> AegisError {
        AegisError(
            .denied, "image-private",
            "the image '\(reference)' came with registry credentials that are not yours",
            hint: "use your own (--authfile), or let an administrator share it: aegis image pull \(reference)")
    }
}

extension StoreDirectory {
    /// The digests of everything that everybody on this node may have: manifests, configurations and layers.
    ///
    /// - Parameter user: whose own images count, too.
    /// - Returns: the digests.
    /// - Throws: `image-store-failed`, `image-store-damaged`, `newer-version`.
    func openContent(for user: UInt32? = nil) throws(AegisError) -> Set<String> {
        var open = Set<String>()
        for key in try keys(.refs) {
            guard let ref = try record(RefRecord.self, .refs, key), ref.isOpen || ref.belongs(to: user),
                let manifest = Digest(ref.image),
                let image = try record(ImageRecord.self, .images, manifest.hex)
            else { continue }
            open.formUnion([image.manifest, image.id] + image.layers)
        }
        return open
    }
}
