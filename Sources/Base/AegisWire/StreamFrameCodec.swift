extension StreamFrame.Header {
    /// The 8 bytes on the wire.
    package var bytes: [UInt8] {
        var out: [UInt8] = []
        append(to: &out)
        return out
    }

    /// Appends the 8 bytes on the wire.
    func append(to out: inout [UInt8]) {
        out.append(kind.rawValue)
        out.append(flags.rawValue)
        out.append(UInt8(truncatingIfNeeded: stream >> 8))
        out.append(UInt8(truncatingIfNeeded: stream))
        for shift in [24, 16, 8, 0] { out.append(UInt8(truncatingIfNeeded: length >> shift)) }
    }

    /// Checks flags and length against the kind.
    ///
    /// - Throws: for anything that version 1 does not define, so that a later version can.
    package func validate() throws(StreamFrameError) {
        let allowedFlags: UInt8 =
            switch kind {
            case .stdin, .stdout, .stderr: StreamFrame.Flags.end.rawValue
            case .window, .ack: 0b110
            default: 0
            }
        guard flags.rawValue & ~allowedFlags == 0, kind.isData || flags.subject != nil else {
            throw StreamFrameError(.malformed, "a \(kind) frame has flags \(flags.rawValue)")
        }
        let allowedLengths: ClosedRange<Int> =
            switch kind {
            case .stdin, .stdout, .stderr: 0...StreamFrame.maximumPayload
            case .resize, .window: 4...4
            case .signal: 1...1
            case .ack: 8...8
            case .exit: 4...4 + StreamFrame.maximumText
            case .error, .hello, .notice: 2...StreamFrame.maximumText
            }
        guard allowedLengths.contains(length) else {
            throw StreamFrameError(.malformed, "a \(kind) frame has \(length) bytes")
        }
    }
}

extension StreamFrame {
    /// Header and payload as one piece.
    ///
    /// - Throws: when version 1 does not allow such a frame.
    package func encoded() throws(StreamFrameError) -> [UInt8] {
        let header = Header(kind: kind, flags: flags, stream: stream, length: payload.count)
        try header.validate()
        try checkSignal()
        var out: [UInt8] = []
        out.reserveCapacity(Self.headerSize + payload.count)
        header.append(to: &out)
        out.append(contentsOf: payload)
        return out
    }
}

extension StreamFrame {
    /// Linux has the signals 1 to 64.
    fileprivate func checkSignal() throws(StreamFrameError) {
        guard let number = signalNumber, !(1...64).contains(number) else { return }
        throw StreamFrameError(.malformed, "there is no signal \(number)")
    }
}

/// Takes frames out of a stream of bytes, in place and with limits.
///
/// The caller keeps the bytes behind the cursor and gives them again with more. A header is refused as soon as its
/// 8 bytes are there, before anything is stored for its payload.
package struct StreamFrameDecoder: Sendable {
    private var header: StreamFrame.Header?
    private var failure: StreamFrameError?

    /// A decoder at the start of a stream.
    package init() {}

    /// Whether the stream may end here.
    package var isBetweenFrames: Bool { header == nil && failure == nil }
    /// How many bytes behind the cursor make the next step possible.
    package var needed: Int { header?.length ?? StreamFrame.headerSize }

    /// The next frame's header and where its payload lies in the given bytes; nil when more are needed.
    ///
    /// - Throws: the same error again and again once the stream is broken.
    package mutating func next(
        _ bytes: Span<UInt8>, _ cursor: inout Int
    ) throws(StreamFrameError) -> (header: StreamFrame.Header, payload: Range<Int>)? {
        if let failure { throw failure }
        if header == nil {
            guard bytes.count - cursor >= StreamFrame.headerSize else { return nil }
            do throws(StreamFrameError) {
                header = try Self.header(bytes.extracting(cursor..<cursor + StreamFrame.headerSize))
            } catch {
                failure = error
                throw error
            }
            cursor += StreamFrame.headerSize
        }
        guard let header, bytes.count - cursor >= header.length else { return nil }
        let payload = cursor..<cursor + header.length
        cursor = payload.upperBound
        self.header = nil
        return (header, payload)
    }

    /// The next frame with a copy of its payload; nil when more bytes are needed.
    package mutating func frame(_ bytes: Span<UInt8>, _ cursor: inout Int) throws(StreamFrameError) -> StreamFrame? {
        guard let (header, range) = try next(bytes, &cursor) else { return nil }
        let payload = unsafe bytes.extracting(range).withUnsafeBufferPointer { unsafe [UInt8]($0) }
        let frame = StreamFrame(header.kind, stream: header.stream, flags: header.flags, payload: payload)
        do throws(StreamFrameError) {
            try frame.checkSignal()
        } catch {
            failure = error
            throw error
        }
        return frame
    }

    private static func header(_ bytes: Span<UInt8>) throws(StreamFrameError) -> StreamFrame.Header {
        guard let kind = StreamFrame.Kind(rawValue: bytes[0]) else {
            throw StreamFrameError(.malformed, "there is no frame type \(bytes[0])")
        }
        let length = UInt32(bytes[4]) << 24 | UInt32(bytes[5]) << 16 | UInt32(bytes[6]) << 8 | UInt32(bytes[7])
        let header = StreamFrame.Header(
            kind: kind, flags: StreamFrame.Flags(rawValue: bytes[1]), stream: UInt16(bytes[2]) << 8 | UInt16(bytes[3]),
            length: Int(length))
        try header.validate()
        return header
    }
}

/// The name under which the framing is asked for in `Upgrade`.
package enum StreamProtocol {
    /// What a client offers and a server agrees to.
    package static let name = "aegis-stream/1"

    /// The version to speak with a client that offers these protocols, best first; nil when none is known.
    ///
    /// Nil is answered with 426 and `Upgrade: aegis-stream/1`.
    package static func negotiate(_ headers: HTTPHeaders) -> String? {
        headers.contains("upgrade", token: name) ? name : nil
    }
}
