package import AegisIO
internal import LinuxSys

/// A directory for one test; it and all in it are removed when the last reference goes.
package final class TemporaryDirectory: Sendable {
    /// Its absolute path, without a slash at the end.
    package let path: String

    /// Makes a new directory that only this user can enter.
    package init() throws {
        let base = CurrentProcess.environment("TMPDIR") ?? "/tmp"
        path = "\(base)/aegis-test-\(try Random.hex(bytes: 8))"
        try Files.makeDirectories(path)
    }

    deinit { try? Files.removeTree(path) }

    /// The path of a name in it.
    package func path(_ name: String) -> String { "\(path)/\(name)" }
}

/// Runs `body` with a new directory, and removes it and all in it afterwards.
package func withTemporaryDirectory<R>(_ body: (String) async throws -> R) async throws -> R {
    let directory = try TemporaryDirectory()
    let result = try await body(directory.path)
    // Also keeps the directory until here.
    _ = consume directory
    return result
}

/// Runs a test's body as a task on a new event loop, and ends the loop afterwards.
@discardableResult
package func onLoop<R: Sendable>(_ body: @escaping @Sendable (EventLoop) async throws -> R) async throws -> R {
    let loop = try EventLoop.startThread(name: "test-loop")
    defer { loop.stop() }
    return try await loop.run { try await body(loop) }
}
