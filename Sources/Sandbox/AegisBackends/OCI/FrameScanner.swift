import AegisChannel

/// Finds frames of some types in a byte stream that somebody else reads: passes over everything else without copying it.
struct FrameScanner: Sendable {
    private let wanted: Set<FrameType>
    private var header: [UInt8] = []
    private var current: FrameHeader?
    private var left = 0
    private var payload: [UInt8] = []

    /// Looks for these types.
    init(_ wanted: Set<FrameType>) { self.wanted = wanted }

    /// Whether the bytes so far end with a whole frame.
    var isAtBoundary: Bool { header.isEmpty && current == nil }

    /// Takes the next bytes of the stream, split anywhere.
    ///
    /// - Parameters:
    ///   - bytes: what came.
    ///   - found: gets each wanted frame, whole.
    /// - Throws: what makes the stream unreadable from here on.
    mutating func scan(_ bytes: ArraySlice<UInt8>, _ found: (FrameHeader, [UInt8]) -> Void) throws(ChannelError) {
        var rest = bytes
        while true {
            if let current {
                let part = rest.prefix(left)
                if wanted.contains(current.type) { payload.append(contentsOf: part) }
                left -= part.count
                rest = rest.dropFirst(part.count)
                guard left == 0 else { return }
                if wanted.contains(current.type) { found(current, payload) }
                payload = []
                self.current = nil
            }
            guard !rest.isEmpty else { return }
            let part = rest.prefix(Channel.headerSize - header.count)
            header.append(contentsOf: part)
            rest = rest.dropFirst(part.count)
            guard header.count == Channel.headerSize else { return }
            let h = header
            let next = try FrameHeader((h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]))
            header.removeAll(keepingCapacity: true)
            current = next
            left = Int(next.length)
        }
    }
}

/// A whole frame's bytes.
func frame(_ type: FrameType, flags: UInt8 = 0, stream: UInt16 = 0, _ payload: [UInt8] = []) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(Channel.headerSize + payload.count)
    FrameHeader(type, flags: flags, stream: stream, length: payload.count).encode(into: &bytes)
    bytes.append(contentsOf: payload)
    return bytes
}
