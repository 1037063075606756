package import LinuxSys

/// A stream of bytes in both directions, with back-pressure and half-close.
///
/// One task may read while another writes; two readers or two writers at once are an error (`EBUSY`).
package protocol ByteStream: AnyObject, Sendable {
    /// Waits for bytes and appends them to `buffer`.
    ///
    /// - Returns: how many came, at most `atMost` and at least 1; 0 at the end of the stream.
    /// - Throws: `.cancelled` without having taken anything, `.closed` after `close()`.
    func read(into buffer: inout ByteBuffer, atMost: Int) async throws(IOError) -> Int

    /// Writes all of it; waits while the peer is slow.
    ///
    /// - Throws: `.cancelled`, `.closed`; then a part may have been written.
    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError)

    /// Tells the peer that nothing more comes; reading goes on.
    func closeWrite() throws(IOError)

    /// Ends both directions at once, from any task or thread; waiting reads and writes end with `.closed`. Idempotent.
    func close()

    /// Whether anybody is at the other end still; for a stream that has come to its end, which who has gone and who only sends no
    /// more have in common. May ask the kernel.
    var presence: PeerPresence { get }
}

extension ByteStream {
    /// A stream that knows no better: who sends no more may be there.
    package var presence: PeerPresence { .unknown }

    /// Reads with the usual limit of 64 KiB.
    package func read(into buffer: inout ByteBuffer) async throws(IOError) -> Int {
        try await read(into: &buffer, atMost: 64 << 10)
    }

    /// Writes a whole array.
    package func write(_ bytes: [UInt8]) async throws(IOError) { try await write(bytes[...]) }

    /// Writes a text's UTF-8 bytes.
    package func write(_ text: String) async throws(IOError) { try await write(Array(text.utf8)[...]) }

    /// Reads until the end of the stream.
    ///
    /// - Parameter limit: more bytes than this are an error (`EFBIG`).
    /// - Returns: what was read; empty at the end of the stream.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package func readAll(limit: Int) async throws(IOError) -> [UInt8] {
        var buffer = ByteBuffer()
        while try await read(into: &buffer, atMost: 64 << 10) > 0 {
            guard buffer.readableBytes <= limit else {
                throw .system(.fileTooLarge, "reading more than \(limit) bytes")
            }
        }
        return buffer.takeAll()
    }

    /// Reads until `buffer` holds `count` bytes.
    ///
    /// - Returns: false when the stream ended before.
    package func fill(_ buffer: inout ByteBuffer, to count: Int) async throws(IOError) -> Bool {
        while buffer.readableBytes < count {
            if try await read(into: &buffer, atMost: count - buffer.readableBytes) == 0 { return false }
        }
        return true
    }
}
