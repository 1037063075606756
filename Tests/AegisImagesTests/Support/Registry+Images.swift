import AegisImages
import AegisTestSupport
import LinuxSys

/// Images that tests put together by hand, stored without a client.
extension Registry {
    /// A reference to an image in it.
    func reference(_ text: String) throws -> ImageReference { try ImageReference(parsing: name(text)) }

    /// Stores a blob in a repository.
    func store(_ digest: Digest, _ bytes: [UInt8], in repository: String) throws {
        try write(blobName(digest), bytes)
        try write("repositories/\(repository)/_layers/sha256/\(digest.hex)/link", Array("\(digest)".utf8))
    }

    /// Stores a manifest, and gives it a tag.
    func store(manifest: [UInt8], in repository: String, tag: String?) throws {
        let digest = Digest(of: manifest)
        try write(blobName(digest), manifest)
        try write("repositories/\(repository)/_manifests/revisions/sha256/\(digest.hex)/link", Array("\(digest)".utf8))
        guard let tag else { return }
        try write("repositories/\(repository)/_manifests/tags/\(tag)/current/link", Array("\(digest)".utf8))
        try write(
            "repositories/\(repository)/_manifests/tags/\(tag)/index/sha256/\(digest.hex)/link", Array("\(digest)".utf8)
        )
    }

    /// Stores an image under `REPOSITORY:TAG`.
    func push(_ image: TestImage, _ name: String) throws {
        let parts = name.split(separator: ":").map(String.init)
        for blob in image.blobs { try store(blob.digest, blob.bytes, in: parts[0]) }
        try store(manifest: image.manifest, in: parts[0], tag: parts.count > 1 ? parts[1] : nil)
    }

    /// Changes what the registry holds under a digest.
    func damage(_ digest: Digest, _ bytes: [UInt8]) throws {
        try write(blobName(digest), bytes)
    }

    /// Removes a blob, so that a pull that would fetch it again fails.
    func forget(_ digest: Digest) throws { try Files.removeTree(Files.split(blob(digest.hex)).directory) }

    private func blobName(_ digest: Digest) -> String { "blobs/sha256/\(digest.hex.prefix(2))/\(digest.hex)/data" }
}

/// `#require` for initialisers that are not in a test's body.
func unwrap<T>(_ value: T?, _ what: String) throws -> T {
    guard let value else { throw Missing(what: what) }
    return value
}
struct Missing: Error { var what: String }
