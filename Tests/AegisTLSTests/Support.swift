import AegisIO
import AegisTLS

/// Sends everything back until the end.
func echo(_ stream: TLSStream) async throws {
    var buffer = ByteBuffer()
    while try await stream.read(into: &buffer) > 0 {
        try await stream.write(buffer.readable)
        buffer.removeAll()
    }
    try await stream.end()
}
