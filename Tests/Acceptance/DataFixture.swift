import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// A uid that has nothing to do with this machine's users.
let stranger: UInt32 = 1234

extension DaemonFixture {
    /// Runs a command line of the shell with the fixture's environment; `AEGIS` is the CLI.
    @discardableResult
    func shell(_ script: String, deadline: Duration = .seconds(120)) async throws -> CommandResult {
        try await run("/bin/sh", ["-c", "AEGIS='\(Self.cli)'; cd '\(path("."))'; \(script)"], deadline: deadline)
    }

    /// Runs the CLI as another user, who may use the daemon's socket.
    @discardableResult
    func aegis(as user: UInt32, _ arguments: String...) async throws -> CommandResult {
        try Files.setPermissions(path("."), 0o711)
        try Files.setPermissions(home, 0o711)
        try Files.setPermissions("\(home)/aegisd.sock", 0o666)
        return try await run(
            "/usr/bin/setpriv",
            ["--reuid", "\(user)", "--regid", "\(user)", "--clear-groups", Self.cli] + arguments, directory: "/")
    }

    /// A folder of the test's own, with an owner and a mode.
    func folder(_ name: String, owner: UInt32 = 0, mode: UInt32 = 0o755) throws -> String {
        let path = path(name)
        try Files.makeDirectories(path)
        try Files.setOwner(path, user: owner, group: owner)
        try Files.setPermissions(path, mode)
        return path
    }

    /// A file of the test's own.
    func file(_ path: String, _ content: String, owner: UInt32 = 0, mode: UInt32 = 0o644) throws {
        try Files.writeAtomically(path, Array(content.utf8))
        try Files.setOwner(path, user: owner, group: owner)
        try Files.setPermissions(path, mode)
    }

    /// A file's content as text; nil when it is not there.
    func text(_ path: String) -> String? {
        FileManager.default.contents(atPath: path).map { String(decoding: $0, as: UTF8.self) }
    }
}

/// Commands for the base image.
enum Inside {
    /// Prints `MODE:UID:GID` of each file; `stat` itself does not work on every gVisor.
    static func stat(_ files: String...) -> String {
        "python3 -c \"import os,sys; [print('%o:%d:%d' % (s.st_mode & 0o7777, s.st_uid, s.st_gid))"
            + " for s in map(os.stat, sys.argv[1:])]\" \(files.joined(separator: " "))"
    }
}
