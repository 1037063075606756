internal import AegisCore
package import LinuxSys

package struct OpenedPath: Sendable {
    package var descriptor: FileDescriptorBox
    package var uid: UInt32
    package var gid: UInt32
    package var isDirectory: Bool
}
package final class FileDescriptorBox: Sendable {
    let fd: FileDescriptor
    init(_ fd: consuming FileDescriptor) { self.fd = fd }
    package func duplicate() throws(Errno) -> FileDescriptor { try fd.duplicate() }
}
package struct PathOpener: Sendable {
    package enum Kind: Sendable { case directory, any }
    package init() {}
    package func open(_ path: String, uid: UInt32, gid: UInt32, kind: Kind, what: String) async throws -> OpenedPath {
        let s: FileStatus
        do { s = try Files.status(path) } catch {
            throw AegisError.notFound("path-not-found", "\(what) '\(path)' does not exist", hint: "create it first")
        }
        let fd = try FileDescriptor.open(path, [.pathOnly])
        let isDir = s.type == .directory
        if kind == .directory, !isDir { throw AegisError.usage("\(what) '\(path)' is a file", hint: "give a folder") }
        return OpenedPath(descriptor: FileDescriptorBox(fd), uid: s.user, gid: s.group, isDirectory: isDir)
    }
}
package struct WorkspaceStore: Sendable {
    let root: String
    package init(root: String) throws { self.root = root; try Files.makeDirectories(root) }
    package func ensure(_ name: String, automatic: Bool) throws { try Files.makeDirectories("\(root)/\(name)", mode: 0o755) }
    package func open(_ name: String) throws -> FileDescriptor { try FileDescriptor.open("\(root)/\(name)", [.pathOnly, .directory]) }
    package func delete(_ name: String) throws { try Files.removeTree("\(root)/\(name)") }
}
package enum OpenHelper { package static func main(arguments: [String]) -> Int32 { 2 } }
