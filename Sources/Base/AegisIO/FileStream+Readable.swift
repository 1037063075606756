extension FileStream {
    /// Waits until the descriptor becomes readable without reading: a pidfd does when its process has ended.
    ///
    /// - Throws: `.cancelled`, `.closed`.
    package func waitUntilReadable() async throws(IOError) { try await wait(.read, for: "waiting") }
}
