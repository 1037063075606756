extension ByteQueue {
    /// The header at the front, `nil` while fewer than eight bytes are there.
    package func header() throws(ChannelError) -> FrameHeader? {
        guard count >= Channel.headerSize else { return nil }
        return try FrameHeader((self[0], self[1], self[2], self[3], self[4], self[5], self[6], self[7]))
    }

    /// The header at the front if its whole payload is there too. The frame stays until `consumeFrame`.
    package func frame() throws(ChannelError) -> FrameHeader? {
        guard let header = try header(), count >= Channel.headerSize + Int(header.length) else { return nil }
        return header
    }

    /// The payload of the frame at the front.
    package func payload(of header: FrameHeader) -> [UInt8] {
        bytes(at: Channel.headerSize, count: Int(header.length))
    }

    /// The offset with which the payload of the data frame at the front starts.
    package func dataOffset() -> UInt64 {
        var offset: UInt64 = 0
        for i in 0..<8 { offset = offset << 8 | UInt64(self[Channel.headerSize + i]) }
        return offset
    }

    /// The bytes of the data frame at the front, without their offset.
    package func withData<R>(of header: FrameHeader, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        let range = Channel.headerSize + 8..<Channel.headerSize + Int(header.length)
        return unsafe withBytes { unsafe body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// Forgets the frame at the front.
    package mutating func consumeFrame(_ header: FrameHeader) {
        consume(Channel.headerSize + Int(header.length))
    }

    /// Appends a whole frame.
    package mutating func appendFrame(
        _ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = []
    ) {
        appendHeader(FrameHeader(type, flags: flags, stream: stream, length: payload.count))
        append(payload)
    }

    /// Appends the header of a frame.
    package mutating func appendHeader(_ header: FrameHeader) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Channel.headerSize)
        header.encode(into: &bytes)
        append(bytes)
    }

    /// Appends the header and offset of a data frame; `count` bytes of data are to follow.
    package mutating func appendDataHeader(
        _ type: FrameType, flags: UInt8 = 0, stream: UInt16, offset: UInt64, count: Int
    ) {
        var writer = FieldWriter()
        appendHeader(FrameHeader(type, flags: flags, stream: stream, length: count + 8))
        writer.u64(offset)
        append(writer.bytes)
    }
}
