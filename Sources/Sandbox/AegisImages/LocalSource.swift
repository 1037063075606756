import AegisCore
import AegisIO
import LinuxSys

/// An image in a file or folder of this machine, opened with the rights of whoever named it.
///
/// What is known of such an image counts only for the very thing that the caller could open, and only while that stays as
/// it was.
final class LocalSource: Sendable {
    /// The file or folder.
    let descriptor: FileDescriptor
    /// Device, inode, size and times of what was opened; for a folder those of its index, which names all the rest by
    /// digest. The time of the inode's last change is in it because nobody can set that one back.
    let identity: String
    private let path: String
    private let isFolder: Bool

    private init(_ path: String, _ descriptor: consuming FileDescriptor, index: consuming FileDescriptor?) throws {
        let status = try descriptor.status()
        let described = try index?.status() ?? status
        guard described.type == .regular else { throw Errno.invalidArgument }
        isFolder = status.type == .directory
        identity = [
            status.device, status.inode, described.device, described.inode, described.size,
            UInt64(bitPattern: described.modified), UInt64(bitPattern: described.changed),
        ].map(String.init).joined(separator: ":")
        self.path = path
        self.descriptor = descriptor
    }

    /// Opens an image as its caller.
    ///
    /// - Throws: what `open` throws, and `image-not-found` for what has not the form that its name says.
    static func open(_ reference: LocalReference, _ open: LocalOpener) async throws -> LocalSource {
        let opened: FileDescriptor
        do { opened = try await open(reference.path) } catch let error as AegisError where error.code == missing {
            // As for an image of any other place: it is the image that is not there.
            throw AegisError.notFound("image-not-found", "there is no image '\(reference)'", hint: error.hint)
        }
        func formless() -> AegisError {
            .notFound(
                "image-not-found", "'\(reference.path)' holds no image of the form '\(reference.transport.rawValue)'",
                hint: "name a folder after oci:, a file after oci-archive: and docker-archive:")
        }
        do {
            guard reference.transport == .layout else { return try LocalSource(reference.path, opened, index: nil) }
            return try LocalSource(reference.path, opened, index: try await open("\(reference.path)/index.json"))
        } catch is Errno {
            throw formless()
        } catch let error as AegisError where error.code == missing { throw formless() }
    }

    /// The code with which an opener says that there is nothing at a path.
    private static let missing = "path-not-found"

    /// Checks that the caller may read these parts of a folder: who may read the folder may not read all in it.
    ///
    /// - Throws: what `open` throws, and `image-not-found` when a part is not the one in the folder that was opened.
    func check(_ blobs: [Digest], _ open: LocalOpener) async throws {
        guard isFolder else { return }
        for blob in Set(blobs) {
            let name = "blobs/sha256/\(blob.hex)"
            let theirs: FileDescriptor
            do { theirs = try await open("\(path)/\(name)") } catch let error as AegisError
                where error.code == Self.missing
            {
                throw AegisError.notFound("image-not-found", "'\(path)' is not whole: \(error.message)")
            }
            let status = try theirs.status()
            // The folder may have another name by now, and another one its name.
            let ours = try? descriptor.open(name, [.pathOnly], resolve: .beneath).status()
            guard let ours, (ours.device, ours.inode) == (status.device, status.inode) else {
                throw AegisError.notFound(
                    "image-not-found", "'\(path)' was changed while it was read", hint: "try again")
            }
        }
    }
}
