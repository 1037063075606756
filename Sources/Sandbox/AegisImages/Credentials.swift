import AegisCore
import AegisSandboxTypes
import FoundationEssentials
import LinuxSys

/// Registry credentials, open: one pull uses one state of the file.
final class Credentials: Sendable {
    private let file: FileDescriptor

    /// Opens the node's file for a job that may use it, or makes one in memory of those that came with the job; nil when there
    /// are none.
    ///
    /// - Throws: `auth-file-unreadable`.
    convenience init?(for job: PullJob, _ settings: ImageSettings) throws(AegisError) {
        if let own = job.credentials {
            try self.init(own)
            return
        }
        guard job.standing.hasCredentials, case .registry = job.reference else { return nil }
        try self.init(settings)
    }

    /// A file that only this process and the confined program see.
    private init(_ own: RegistryCredentials) throws(AegisError) {
        struct Entry: Encodable { var auth: String?, identitytoken: String? }
        let content = ["auths": [own.registry: Entry(auth: own.auth, identitytoken: own.identityToken)]]
        guard let bytes = try? JSONEncoder().encode(content) else {
            throw .failed("pull-failed", "the credentials for '\(own.registry)' cannot be handed on")
        }
        do throws(Errno) {
            file = try FileDescriptor.inMemory(name: "aegis-credentials")
            try file.writeAll(Array(bytes)[...])
        } catch { throw .failed("pull-failed", "the credentials for '\(own.registry)' cannot be handed on: \(error)") }
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
