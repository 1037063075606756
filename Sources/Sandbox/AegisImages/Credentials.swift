import AegisCore
import LinuxSys

/// The node's registry credentials, open: one pull uses one state of the file.
final class Credentials: Sendable {
    private let file: FileDescriptor

    /// Opens the file for a job that may use it; nil when the node has none.
    ///
    /// - Throws: `auth-file-unreadable`.
    convenience init?(for job: PullJob, _ settings: ImageSettings) throws(AegisError) {
        guard job.standing.hasCredentials, case .registry = job.reference else { return nil }
        try self.init(settings)
    }

    private init?(_ settings: ImageSettings) throws(AegisError) {
        for path in settings.authFiles {
            do {
                file = try FileDescriptor.open(path, [.readOnly, .nonblocking])
                return
            } catch {
                guard settings.authFileIsNamed || error != .noSuchFile else { continue }
                throw .failed(
                    "auth-file-unreadable", "the credentials file '\(path)' cannot be read: \(error)",
                    hint: "correct auth_file under registries, or REGISTRY_AUTH_FILE")
            }
        }
        return nil
    }

    /// The same file, to be read from its beginning.
    func reopened() throws(AegisError) -> FileDescriptor {
        do { return try FileDescriptor.open("/proc/self/fd/\(file.raw)", [.readOnly, .nonblocking]) } catch {
            throw .failed("auth-file-unreadable", "the credentials file cannot be read again: \(error)")
        }
    }
}

/// An open credentials file for one process.
final class OpenCredentials: Sendable {
    let descriptor: FileDescriptor
    init(_ credentials: Credentials) throws(AegisError) { descriptor = try credentials.reopened() }
}
