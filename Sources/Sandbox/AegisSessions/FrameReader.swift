package import AegisChannel
internal import AegisCore
package import AegisIO

/// A frame of the harness channel with its payload.
package struct ChannelFrame: Sendable {
    package var header: FrameHeader
    package var payload: [UInt8]
}

/// Reads whole frames from a stream; what it is given comes from the guest and is bounded by the codec's limits.
package struct FrameReader: Sendable {
    private var buffer = ByteBuffer()
    /// Makes a reader without bytes.
    package init() {}

    /// The next frame, or nil at the end of the stream between two frames.
    ///
    /// - Throws: `ChannelError` for bytes that are no frame, `IOError` for a broken stream or an end inside a frame.
    package mutating func next(from stream: any ByteStream) async throws -> ChannelFrame? {
        guard try await fill(Channel.headerSize, from: stream) else { return nil }
        let header = try readHeader()
        guard try await fill(Int(header.length), from: stream) else { throw IOError.closed }
        return ChannelFrame(header: header, payload: buffer.take(Int(header.length)))
    }

    private mutating func readHeader() throws(ChannelError) -> FrameHeader {
        let b = buffer.take(Channel.headerSize)
        return try FrameHeader((b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]))
    }

    /// Waits until `count` bytes are there; false at a clean end.
    private mutating func fill(_ count: Int, from stream: any ByteStream) async throws -> Bool {
        while buffer.readableBytes < count {
            let read = try await stream.read(into: &buffer, atMost: 262_144)
            if read == 0 {
                guard buffer.readableBytes == 0 else { throw IOError.closed }
                return false
            }
        }
        return true
    }
}
