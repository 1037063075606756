import AegisCapabilities
import AegisCore
import AegisFiles
import AegisRegex
import AegisTestSupport
import LinuxSys

/// An agent with a workspace below AEGIS_HOME, and a folder of the host beside it.
struct AgentWorld {
    let fixture: FilesFixture
    let book: GrantBook
    let files: AgentFiles
    let holder = HolderID("agent")

    init(_ grants: String..., owner: FileIdentity? = nil, identity: FileIdentity? = nil) throws {
        fixture = try FilesFixture()
        try fixture.folder("home/workspaces/w")
        try fixture.folder("host")
        let workspace = try OpenedPath(ownFolder: fixture.directory.path("home/workspaces/w"))
        let closed = [fixture.home, fixture.run].compactMap { CanonicalPath($0) }
        book = GrantBook(protected: ProtectedPaths(closed: closed))
        let host = fixture.directory.path("host")
        let specs = try grants.map { try GrantSpec(parsing: $0.replacing("HOST", with: host)) }
        try book.issue(specs, to: holder)
        let scope = FileScope(
            workspace: workspace, owner: owner, identity: identity, home: fixture.home, runDirectory: fixture.run)
        files = AgentFiles(scope, grants: book, holder: holder)
    }

    /// Where a file of the workspace really is.
    func inside(_ name: String) -> String { fixture.directory.path("home/workspaces/w/\(name)") }
    /// A path below the host's folder.
    func host(_ name: String) -> String { fixture.directory.path("host/\(name)") }

    func put(_ path: String, _ text: String) throws {
        try Files.makeDirectories(Files.split(path).directory, mode: 0o755)
        try Files.writeAtomically(path, Array(text.utf8), mode: 0o644)
    }
    func text(_ path: String) throws -> String {
        String(decoding: try Files.read(path, limit: 1 << 24), as: UTF8.self)
    }
    func read(_ path: String) throws -> String {
        String(decoding: try files.read(path, limit: 1 << 20).bytes, as: UTF8.self)
    }
    @discardableResult func write(_ path: String, _ text: String, append: Bool = false) throws -> FileWritten {
        try files.write(path, Array(text.utf8), append: append)
    }
}

/// What something was refused with: a denial's reason or an error's code; nil when it was not.
func refused(_ body: () throws -> Void) -> String? {
    do { try body() } catch let denial as Denial {
        return denial.reason.rawValue
    } catch let error as AegisError {
        return error.code
    } catch { return "\(error)" }
    return nil
}
