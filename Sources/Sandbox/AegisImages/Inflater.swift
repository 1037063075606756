internal import AegisCore
package import AegisIO
package import LinuxSys

/// Decompresses what others have packed, in the confined process that does the same for layers.
package struct Inflater: Sendable {
    private let helper: HelperProgram
    private let loop: EventLoop

    /// Makes one.
    ///
    /// - Parameters:
    ///   - helper: the program of the confined roles.
    ///   - loop: runs its pipes.
    package init(helper: HelperProgram, on loop: EventLoop) {
        self.helper = helper
        self.loop = loop
    }

    /// Reads a file that is gzip, zstd or neither, and hands over what it unpacks to.
    ///
    /// - Parameters:
    ///   - file: read from its beginning.
    ///   - limit: bytes that it may unpack to.
    ///   - what: the word for the file in messages.
    ///   - take: gets the bytes, piece by piece.
    /// - Throws: `archive-too-large`, `bad-archive`, and what `take` throws.
    package func inflate(
        _ file: consuming FileDescriptor, limit: UInt64, of what: String,
        _ take: @Sendable ([UInt8]) async throws -> Void
    ) async throws {
        var spec = helper.spec(["inflate", "\(limit)"])
        spec.stdin = .descriptor(file.raw)
        spec.stdout = .pipe
        let process = try await HelperProcess(spec, on: loop)
        _ = consume file
        do {
            var buffer = ByteBuffer()
            var total: UInt64 = 0
            while let output = process.output, try await output.read(into: &buffer, atMost: 256 << 10) > 0 {
                let bytes = buffer.takeAll()
                total += UInt64(bytes.count)
                guard total <= limit else {
                    throw AegisError(
                        .tooLarge, "archive-too-large", "\(what) unpacks to more than \(ByteSize(limit))")
                }
                try await take(bytes)
            }
            let result = try await process.finish()
            guard result.done != nil else {
                throw AegisError.failed(
                    "bad-archive", "\(what) cannot be decompressed: \(result.failure?.message ?? "\(result.status)")",
                    hint: "archives are .tar, .tar.gz or .tar.zst")
            }
        } catch {
            await process.end()
            throw error
        }
    }
}
