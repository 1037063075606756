import AegisIO
import AegisProxy
import AegisSecrets
import AegisWire

/// Takes one body out of a buffer, lets a filter look at it, and frames it anew. A filter changes no lengths.
struct FilteredBody: Sendable {
    private let framing: HTTPFraming
    private var decoder: HTTPBodyDecoder
    private let makesChunks: Bool
    /// Looks at the bytes; nil lets them pass.
    private var filter: EncodedMaskStream?
    /// All of the body was moved.
    private(set) var isWhole: Bool
    private var piece: [UInt8] = []

    /// A body at its beginning.
    ///
    /// - Parameters:
    ///   - framing: how it comes.
    ///   - makesChunks: whether it goes on in chunks; else as it is.
    ///   - filter: a new stream.
    ///   - limits: bounds on chunk lines and trailers.
    init(_ framing: HTTPFraming, makesChunks: Bool, filter: EncodedMaskStream?, limits: HTTPLimits) {
        self.framing = framing
        self.makesChunks = makesChunks
        self.filter = filter
        decoder = HTTPBodyDecoder(framing, limits: limits)
        isWhole = framing == .none || framing == .length(0)
    }

    /// How often the filter found something.
    var hits: Int { filter?.hits ?? 0 }
    /// Whether the end of the stream is the end of the body.
    var endsWithStream: Bool { decoder.endsWithStream }

    /// Moves what a buffer holds of the body.
    ///
    /// - Throws: what breaks the framing.
    mutating func move(from buffer: inout ByteBuffer, into out: inout ByteBuffer) throws(HTTPError) {
        var cursor = 0
        moving: while !isWhole {
            switch try decoder.next(buffer.readable.span, &cursor) {
            case .needMore: break moving
            case .data(let range):
                let bytes = buffer.readable
                let start = bytes.startIndex
                append(bytes[(start + range.lowerBound)..<(start + range.upperBound)], to: &out)
            case .end(let trailers): end(trailers, into: &out)
            }
        }
        buffer.consume(cursor)
    }

    /// Ends a body with its stream.
    mutating func end(_ trailers: HTTPHeaders = [:], into out: inout ByteBuffer) {
        isWhole = true
        piece.removeAll(keepingCapacity: true)
        filter?.finish(into: &piece)
        frame(piece[...], into: &out)
        guard makesChunks else { return }
        var fields: [UInt8] = []
        RelayedFields.trailers(trailers).encode(into: &fields)
        out.append("0\r\n")
        if var filter {
            piece.removeAll(keepingCapacity: true)
            filter.write(fields[...], into: &piece)
            filter.finish(into: &piece)
            self.filter = filter
            out.append(piece)
        } else {
            out.append(fields)
        }
        out.append("\r\n")
    }

    private mutating func append(_ bytes: ArraySlice<UInt8>, to out: inout ByteBuffer) {
        guard filter != nil else { return frame(bytes, into: &out) }
        piece.removeAll(keepingCapacity: true)
        filter?.write(bytes, into: &piece)
        frame(piece[...], into: &out)
    }

    private func frame(_ bytes: ArraySlice<UInt8>, into out: inout ByteBuffer) {
        // An empty chunk would be the end of the body.
        guard !bytes.isEmpty else { return }
        if makesChunks {
            out.append(hex: bytes.count)
            out.append("\r\n")
        }
        out.append(bytes)
        if makesChunks { out.append("\r\n") }
    }
}
