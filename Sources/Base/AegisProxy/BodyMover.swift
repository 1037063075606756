package import AegisIO
import AegisWire

/// Which side of a body's way failed.
enum BodyFailure: Error {
    /// The sender's stream failed, or (nil) ended before the body did.
    case source(IOError?)
    /// The sender broke the framing.
    case malformed(HTTPError)
    /// The receiver takes no more.
    case sink(IOError)
}

/// Moves one body from a stream to another and frames it anew, so that only one reading of its length exists.
struct BodyMover: Sendable {
    private enum Input: Sendable {
        case length(Int)
        case chunked(HTTPBodyDecoder)
        case untilClose
    }
    private var input: Input
    /// Whether the receiver gets chunks; else the bytes as they are.
    private let makesChunks: Bool
    /// What is set in the head, and therefore means nothing in the trailers.
    private let set: ProxyFields?
    /// All of the body has been moved or lies in the outgoing buffer.
    private(set) var isWhole: Bool

    /// From here on the kernel moves a body of known length.
    private static var spliceFrom: Int { 128 << 10 }
    private static var portion: Int { 64 << 10 }

    init(_ framing: HTTPFraming, makesChunks: Bool, limits: HTTPLimits, without set: ProxyFields? = nil) {
        self.makesChunks = makesChunks
        self.set = set
        isWhole = false
        switch framing {
        case .none:
            input = .length(0)
            isWhole = true
        case .length(let count): input = .length(count)
        case .chunked: input = .chunked(HTTPBodyDecoder(framing, limits: limits))
        case .untilClose: input = .untilClose
        }
    }

    /// Moves what a buffer holds at a cursor into the outgoing one, at most to the end of the body.
    mutating func move(
        from buffer: borrowing ByteBuffer, at cursor: inout Int, into out: inout ByteBuffer
    ) throws(HTTPError) {
        switch input {
        case .length(let left):
            let count = min(left, buffer.readableBytes - cursor)
            if count > 0 { out.append(cursor..<(cursor + count), of: buffer) }
            cursor += count
            input = .length(left - count)
            isWhole = left == count
        case .untilClose:
            append(cursor..<buffer.readableBytes, of: buffer, to: &out)
            cursor = buffer.readableBytes
        case .chunked(var decoder):
            while !isWhole {
                let piece = try decoder.next(buffer.readable.span, &cursor)
                switch piece {
                case .needMore:
                    input = .chunked(decoder)
                    return
                case .data(let range): append(range, of: buffer, to: &out)
                case .end(let trailers):
                    isWhole = true
                    end(trailers, to: &out)
                }
            }
        }
    }

    private func append(_ range: Range<Int>, of buffer: borrowing ByteBuffer, to out: inout ByteBuffer) {
        guard !range.isEmpty else { return }
        if makesChunks {
            out.append(hex: range.count)
            out.append("\r\n")
        }
        out.append(range, of: buffer)
        if makesChunks { out.append("\r\n") }
    }

    private func end(_ trailers: HTTPHeaders, to out: inout ByteBuffer) {
        guard makesChunks else { return }
        out.append("0\r\n")
        if !trailers.isEmpty {
            var bytes: [UInt8] = []
            RelayedFields.trailers(trailers, without: set).encode(into: &bytes)
            out.append(bytes)
        }
        out.append("\r\n")
    }

    /// Sends what lies in the outgoing buffer and then the rest of the body as it comes.
    ///
    /// - Returns: nil when all of it has been sent.
    mutating func run(
        from source: FileStream, _ buffer: inout ByteBuffer, to sink: FileStream, _ out: inout ByteBuffer,
        _ pools: ProxyPools
    ) async -> BodyFailure? {
        var turns = 0
        while true {
            turns += 1
            if turns % 16 == 0 { await Task.yield() }
            if !out.isEmpty {
                do throws(IOError) { try await sink.send(out.readable) } catch { return .sink(error) }
                out.removeAll()
            }
            if isWhole { return nil }
            if case .length(let left) = input, left >= Self.spliceFrom {
                isWhole = true
                return await Tunnel.move(left, from: source, to: sink, pools: pools)
            }
            if let failure = await step(from: source, &buffer, to: sink, &out) { return failure }
        }
    }

    private mutating func step(
        from source: FileStream, _ buffer: inout ByteBuffer, to sink: FileStream, _ out: inout ByteBuffer
    ) async -> BodyFailure? {
        var limit = Self.portion
        if case .length(let left) = input { limit = min(limit, left) }
        let count: Int
        do throws(IOError) { count = try await source.readNext(into: &buffer, atMost: limit) } catch {
            return .source(error)
        }
        guard count > 0 else {
            guard case .untilClose = input else { return .source(nil) }
            isWhole = true
            end([:], to: &out)
            return nil
        }
        if case .length(let left) = input {
            // As it came, without another copy.
            do throws(IOError) { try await sink.send(buffer.readable) } catch { return .sink(error) }
            buffer.consume(count)
            input = .length(left - count)
            isWhole = left == count
            return nil
        }
        var cursor = 0
        do throws(HTTPError) { try move(from: buffer, at: &cursor, into: &out) } catch { return .malformed(error) }
        buffer.consume(cursor)
        return nil
    }
}

extension ByteBuffer {
    /// Appends a whole number, 0 or more, in decimal.
    package mutating func append(decimal value: Int) {
        if value >= 10 { append(decimal: value / 10) }
        append(48 + UInt8(truncatingIfNeeded: value % 10))
    }

    /// Appends a whole number, 0 or more, in hexadecimal.
    package mutating func append(hex value: Int) {
        if value >= 16 { append(hex: value >> 4) }
        let digit = UInt8(truncatingIfNeeded: value & 15)
        append(digit < 10 ? 48 + digit : 87 + digit)
    }
}
