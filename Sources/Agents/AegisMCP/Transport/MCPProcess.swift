/// What came from a server's process.
package enum MCPProcessOutput: Sendable, Hashable {
    case stdout(ArraySlice<UInt8>)
    case stderr(ArraySlice<UInt8>)
    /// It has ended: how.
    case ended(String)
}

/// A server's process, as a pair of streams. One task reads, one writes.
package protocol MCPProcess: Sendable {
    /// Waits for output; nothing comes after `ended`.
    ///
    /// - Throws: `CancellationError`, or why nothing can be read any more.
    func read() async throws -> MCPProcessOutput
    /// Writes to its standard input; waits while it does not take it.
    func write(_ bytes: [UInt8]) async throws
    /// Ends it and removes everything that it ran in. Waits for that. Idempotent.
    func stop() async
}

/// Starts servers' processes: what runs them is known to the composition root only.
package protocol MCPProcessHost: Sendable {
    /// Starts the process of a server.
    ///
    /// - Throws: why it does not run.
    func start(_ server: MCPServerSection) async throws -> any MCPProcess
}
