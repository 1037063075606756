import AegisCore
package import AegisSandboxTypes
package import LinuxSys

/// Opens an image of this machine for reading, with the rights of whoever asked for it.
package typealias LocalOpener = @Sendable (_ path: String) async throws -> FileDescriptor

/// Who wants an image: what is used to bring it, and who may have it then.
///
/// What came with the node's registry credentials is for administrators, until one of them pulls it for everybody. What
/// everybody may have was fetched whole without trusting the store to have it already: a manifest names its parts by digest,
/// and anybody can write one that names parts of somebody else's image. What came with a user's own credentials is that user's and
/// the administrators'.
package struct ImageCaller: Sendable {
    /// What a caller may use of the node's.
    enum Standing: String, Sendable {
        /// No credentials, and only what everybody may have.
        case user
        /// The node's credentials, and all that is here.
        case administrator
        /// The node's credentials; what comes is for everybody.
        case publisher

        /// Whether the node's registry credentials are used.
        var hasCredentials: Bool { self != .user }
        /// Whether only what everybody may have is taken from the store.
        var isForEverybody: Bool { self != .administrator }
    }

    let standing: Standing
    let open: LocalOpener
    /// Who it is, if it is a user.
    var user: UInt32?
    /// The caller's own, in place of the node's.
    var credentials: RegistryCredentials?

    /// Somebody who is no administrator of the node.
    package static func user(_ user: UInt32, open: @escaping LocalOpener) -> ImageCaller {
        ImageCaller(standing: .user, open: open, user: user)
    }
    /// A program inside an instance, whoever that belongs to: only what everybody on this node may have.
    package static func guest(open: @escaping LocalOpener) -> ImageCaller { ImageCaller(standing: .user, open: open) }
    /// The same caller with credentials of their own, or none.
    package func with(_ credentials: RegistryCredentials?) -> ImageCaller {
        var caller = self
        caller.credentials = credentials
        return caller
    }
    /// An administrator, for an instance of their own.
    package static func administrator(open: @escaping LocalOpener) -> ImageCaller {
        ImageCaller(standing: .administrator, open: open)
    }
    /// The daemon itself.
    package static let node = ImageCaller(standing: .administrator, open: openHere)
    /// An administrator who pulls an image for everybody on this node.
    package static let publisher = ImageCaller(standing: .publisher, open: openHere)

    /// Opens with the daemon's rights.
    private static let openHere: LocalOpener = { path in
        do throws(Errno) { return try FileDescriptor.open(path, [.readOnly, .nonblocking]) } catch {
            throw error == .noSuchFile || error == .notDirectory
                ? AegisError.notFound("path-not-found", "'\(path)' does not exist", hint: "check the path")
                : AegisError.failed("io-error", "'\(path)' cannot be opened: \(error)")
        }
    }
}
