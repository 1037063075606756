package import AegisCapabilities
internal import AegisCore
internal import LinuxSys

/// The files of one agent, behind its grants: the one way in which file tools touch a file.
///
/// A path is opened as a path only, the kernel's name of what was opened is decided on, and all work is done on that
/// descriptor. Nothing is created, read or waited for before the decision; nobody can lead it elsewhere after it. All
/// functions block on the disk.
package struct AgentFiles: Sendable {
    /// Which files there are.
    package let scope: FileScope
    /// Whose grants count.
    package let holder: HolderID
    let grants: GrantBook

    /// The files of an agent.
    package init(_ scope: FileScope, grants: GrantBook, holder: HolderID) {
        self.scope = scope
        self.grants = grants
        self.holder = holder
    }

    /// What is to be done with a file.
    enum Access {
        case read, write

        func action(_ path: CanonicalPath) -> Action {
            switch self {
            case .read: .fileRead(path)
            case .write: .fileWrite(path)
            }
        }
    }

    /// Runs what works with files under the rights that count for a path.
    func withRights<T>(_ path: AgentPath, _ body: () throws -> T) throws -> T {
        guard let identity = path.isInWorkspace ? scope.workspaceIdentity : scope.identity else { return try body() }
        let result: Result<T, any Error>
        do throws(Errno) { result = try identity.perform { Result { try body() } } } catch {
            throw AegisError(.denied, "path-denied", "'\(path.name)' cannot be used as uid \(identity.user): \(error)")
        }
        return try result.get()
    }

    /// Asks for one access, and counts it.
    ///
    /// - Parameters:
    ///   - access: what is to be done.
    ///   - path: the kernel's name of the file.
    ///   - given: the path as the agent wrote it: a refusal of that name is all that it may learn when both are refused.
    ///   - bytes: how many are moved.
    /// - Returns: the leave.
    /// - Throws: `Denial`.
    func admit(_ access: Access, _ path: CanonicalPath, given: AgentPath, bytes: UInt64 = 0) throws -> Admission {
        do throws(Denial) {
            return try grants.admit(Request(access.action(path), needs: Amounts(bytes: bytes)), by: holder)
        } catch { throw plainer(error, access, path, given) }
    }

    /// What a refusal would be, without counting anything.
    func check(_ access: Access, _ path: CanonicalPath, given: AgentPath, in set: GrantSet) throws {
        if case .deny(let denial) = evaluate(Request(access.action(path)), with: set, at: .now()) {
            throw plainer(denial, access, path, given)
        }
    }

    /// A link must not tell where it leads to somebody who may not see the link either.
    private func plainer(_ denial: Denial, _ access: Access, _ path: CanonicalPath, _ given: AgentPath) -> Denial {
        guard path != given.name, denial.reason != .notRecorded else { return denial }
        let decision = evaluate(Request(access.action(given.name)), with: grants.grants(of: holder), at: .now())
        if case .deny(let named) = decision { return named }
        return denial
    }

    /// Refuses what lies in Aegis's own folders or in the kernel's file systems, whatever it is called.
    func checkGuarded(_ file: borrowing FoundFile, _ path: AgentPath) throws(Denial) {
        let why = scope.guarded.refusal(of: file.descriptor, file.status, isInWorkspace: path.isInWorkspace)
        if let why { throw Denial(.outOfReach, message: "no grant reaches '\(path.name)': \(why)") }
    }

    /// What a failed call means.
    static func refusal(_ errno: Errno, _ path: AgentPath) -> AegisError {
        let name = "'\(path.name)'"
        switch errno {
        case .noSuchFile: return .notFound("path-not-found", "\(name) does not exist")
        case .notDirectory: return AegisError(.usage, "not-a-directory", "\(name) leads through a file")
        case .isDirectory: return AegisError(.usage, "not-a-file", "\(name) is a directory")
        case .crossDevice, .tooManyLinks:
            return AegisError(
                .denied, "unsafe-path", "\(name) leads out of where it seems to be",
                hint: "links are followed only inside the workspace")
        case .accessDenied, .notPermitted, .readOnlyFileSystem:
            return AegisError(.denied, "path-denied", "\(name): \(errno)")
        case .noSpace: return .failed("disk-full", "\(name): \(errno)")
        case .fileTooLarge: return AegisError(.tooLarge, "file-too-large", "\(name) is too large")
        case .nameTooLong: return AegisError(.usage, "path-invalid", "\(name) is too long")
        default: return .failed("io-error", "\(name): \(errno)")
        }
    }

    /// Runs calls of the kernel for a path.
    func calls<T: ~Copyable>(_ path: AgentPath, _ body: () throws(Errno) -> T) throws(AegisError) -> T {
        do throws(Errno) { return try body() } catch { throw Self.refusal(error, path) }
    }

    /// What kind of thing is there instead of a file.
    static func notAFile(_ status: FileStatus, _ path: AgentPath) -> AegisError {
        let kind =
            switch status.type {
            case .directory: "a directory"
            case .fifo: "a pipe"
            case .socket: "a socket"
            case .characterDevice, .blockDevice: "a device"
            case .symbolicLink: "a link"
            case .regular, .unknown: "no file"
            }
        return AegisError(.usage, "not-a-file", "'\(path.name)' is \(kind), not a file")
    }
}
