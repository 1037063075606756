/// Reads a tar stream (ustar, pax, and GNU's long names) as it comes, in pieces of any size.
///
/// A pure value: bytes are given with `feed`, what they mean is asked with `next`. Everything is checked and bounded;
/// forms that two programs could read differently are refused.
package struct TarReader: Sendable {
    /// What the stream says next.
    package enum Event: Sendable, Equatable {
        case entry(TarEntry)
        /// Content of the last entry.
        case data(ArraySlice<UInt8>)
        /// The last entry is complete.
        case entryEnd
        /// The end of the archive; what follows may only be zeros.
        case end
    }

    private enum State: Sendable {
        case header
        case body(remaining: UInt64, padding: Int)
        case entryEnd(padding: Int)
        case padding(Int)
        case extended(TarExtension.Kind, remaining: Int, padding: Int)
        case secondZero
        case ended
        case failed(TarError)
    }

    /// The most bytes of one extended header.
    package static let extensionLimit = 64 << 10

    private var state = State.header
    private var input: ArraySlice<UInt8> = []
    private var block: [UInt8] = []
    private var extensionBytes: [UInt8] = []
    private var extended = TarExtension()
    private var extensionCount = 0

    /// A reader at the start of a stream.
    package init() { block.reserveCapacity(512) }

    /// Whether the end of the archive was seen.
    package var isAtEnd: Bool { if case .ended = state { true } else { false } }

    /// Gives the next bytes. Call `next` until it is nil before giving more, or they are copied together.
    package mutating func feed(_ bytes: ArraySlice<UInt8>) {
        if input.isEmpty { input = bytes } else { input += bytes }
    }

    /// The next event; nil when more bytes are needed.
    ///
    /// - Throws: what is wrong with the stream; every later call throws the same.
    package mutating func next() throws(TarError) -> Event? {
        do { return try step() } catch {
            state = .failed(error)
            throw error
        }
    }

    /// Says that the stream has ended.
    ///
    /// - Throws: `truncated` when the archive had not.
    package func finish() throws(TarError) {
        if case .failed(let error) = state { throw error }
        guard isAtEnd else { throw TarError(.truncated, "the archive ends in the middle") }
    }

    private mutating func step() throws(TarError) -> Event? {
        while true {
            switch state {
            case .failed(let error): throw error
            case .ended:
                guard input.allSatisfy({ $0 == 0 }) else { throw TarError(.malformed, "bytes after the archive's end") }
                input = []
                return nil
            case .header:
                guard fillBlock() else { return nil }
                defer { block.removeAll(keepingCapacity: true) }
                if block.allSatisfy({ $0 == 0 }) {
                    guard extensionCount == 0 else {
                        throw TarError(.malformed, "an extended header without a file")
                    }
                    state = .secondZero
                } else if let entry = try readHeader() {
                    return .entry(entry)
                }
            case .secondZero:
                guard fillBlock() else { return nil }
                defer { block.removeAll(keepingCapacity: true) }
                guard block.allSatisfy({ $0 == 0 }) else { throw TarError(.malformed, "a lone zero block") }
                state = .ended
                return .end
            case .body(let remaining, let padding):
                guard !input.isEmpty else { return nil }
                let piece = input.prefix(Int(min(remaining, UInt64(input.count))))
                input = input.dropFirst(piece.count)
                let rest = remaining - UInt64(piece.count)
                state = rest == 0 ? .entryEnd(padding: padding) : .body(remaining: rest, padding: padding)
                return .data(piece)
            case .entryEnd(let padding):
                state = padding == 0 ? .header : .padding(padding)
                return .entryEnd
            case .padding(let count):
                guard !input.isEmpty else { return nil }
                let skipped = min(count, input.count)
                input = input.dropFirst(skipped)
                state = skipped == count ? .header : .padding(count - skipped)
            case .extended(let kind, let remaining, let padding):
                guard remaining == 0 || !input.isEmpty else { return nil }
                let piece = input.prefix(remaining)
                extensionBytes += piece
                input = input.dropFirst(piece.count)
                if piece.count < remaining {
                    state = .extended(kind, remaining: remaining - piece.count, padding: padding)
                    continue
                }
                try extended.add(kind, extensionBytes)
                extensionBytes = []
                state = padding == 0 ? .header : .padding(padding)
            }
        }
    }

    /// Collects one block of 512 bytes; false when there are not enough yet.
    private mutating func fillBlock() -> Bool {
        let piece = input.prefix(512 - block.count)
        block += piece
        input = input.dropFirst(piece.count)
        return block.count == 512
    }

    /// Reads the block as a header; nil for one that only extends the next.
    private mutating func readHeader() throws(TarError) -> TarEntry? {
        let header = try TarHeader(block)
        if let kind = TarExtension.Kind(rawValue: header.type) {
            guard header.size <= UInt64(Self.extensionLimit) else {
                throw TarError(.tooLarge, "an extended header of \(header.size) bytes")
            }
            extensionCount += 1
            guard extensionCount <= 8 else { throw TarError(.malformed, "more than 8 extended headers for one file") }
            let size = Int(header.size)
            state = .extended(kind, remaining: size, padding: (512 - size % 512) % 512)
            return nil
        }
        let entry = try extended.applied(to: header)
        extended = TarExtension()
        extensionCount = 0
        let padding = Int((512 - entry.size % 512) % 512)
        state = entry.size == 0 ? .entryEnd(padding: 0) : .body(remaining: entry.size, padding: padding)
        return entry
    }
}
