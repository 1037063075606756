import AegisJSON
import AegisTestSupport
import Testing

@testable import AegisInference

/// What came of an answer: the reply and its pieces, or why there is none.
struct Outcome: Equatable, Sendable {
    var reply: ModelReply?
    var error: ModelError?
    var deltas: [ModelDelta] = []

    /// Pieces of one kind that follow one another as one: where a network cuts says nothing.
    var joined: [ModelDelta] {
        var out: [ModelDelta] = []
        for delta in deltas {
            switch (out.last, delta) {
            case (.text(let before)?, .text(let more)): out[out.count - 1] = .text(before + more)
            case (.reasoning(let before)?, .reasoning(let more)): out[out.count - 1] = .reasoning(before + more)
            case (.toolInput(let id, let before)?, .toolInput(let other, let more)) where id == other:
                out[out.count - 1] = .toolInput(id: id, fragment: before + more)
            default: out.append(delta)
            }
        }
        return out
    }
}

/// Reads an answer in pieces as a provider would.
func read(
    _ decoder: some ReplyDecoder, _ pieces: [ArraySlice<UInt8>], status: Int = 200,
    headers: [(String, String)] = [("content-type", "text/event-stream")]
) -> Outcome {
    var outcome = Outcome()
    let reader = AnswerReader(decoder)
    do throws(ModelError) {
        try reader.head(status, headers)
        for piece in pieces where !reader.isDone { try reader.take(piece) { outcome.deltas.append($0) } }
        outcome.reply = try reader.finish { outcome.deltas.append($0) }
    } catch {
        outcome.error = error
    }
    return outcome
}

func read(
    _ decoder: some ReplyDecoder, _ text: String, status: Int = 200,
    headers: [(String, String)] = [("content-type", "text/event-stream")]
) -> Outcome { read(decoder, [Array(text.utf8)[...]], status: status, headers: headers) }

func json(_ value: JSONValue) -> String { String(decoding: value.compact, as: UTF8.self) }

/// Says that an answer is the same however it is cut in two, that a part of it is never taken for the whole, and that no damage
/// to it does harm.
func expectSturdy(
    _ make: () -> some ReplyDecoder, _ stream: String, wholeFrom end: Int? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let bytes = Array(stream.utf8)
    let whole = read(make(), [bytes[...]])
    #expect(whole.error == nil, sourceLocation: sourceLocation)
    for cut in 0...bytes.count {
        let parted = read(make(), [bytes[..<cut], bytes[cut...]])
        #expect(parted.reply == whole.reply && parted.joined == whole.joined, sourceLocation: sourceLocation)
        let part = read(make(), [bytes[..<cut]])
        if part.reply == nil {
            #expect(
                part.error?.kind == .cutStream, "\(cut): \(String(describing: part.error))",
                sourceLocation: sourceLocation)
        } else {
            // Only what follows the last word of the answer may be missing.
            #expect(part.reply?.blocks == whole.reply?.blocks, "\(cut)", sourceLocation: sourceLocation)
        }
    }
    var mutator = Mutator(seed: 11)
    for _ in 0..<300 { _ = read(make(), mutator.pieces(of: mutator.mutate(bytes)).map { $0[...] }) }
}

/// A transport that answers from memory and remembers what it was asked.
final class MemoryTransport: ModelTransport {
    struct Asked: Sendable {
        var url: String
        var headers: [String]
        var body: String
    }
    let asked = Notes<Asked>()
    private let status: Int
    private let headers: [(String, String)]
    private let pieces: [String]
    private let failure: TransportError?

    init(
        status: Int = 200, _ pieces: [String], type: String = "text/event-stream", headers: [(String, String)] = [],
        failure: TransportError? = nil
    ) {
        self.status = status
        self.pieces = pieces
        self.headers = [("content-type", type)] + headers
        self.failure = failure
    }

    func post(
        _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
        onHead: (_ status: Int, _ headers: [(String, String)]) throws -> Void,
        onBody: (ArraySlice<UInt8>) async throws -> Void
    ) async throws(TransportError) {
        asked.add(
            Asked(url: url, headers: headers.map { "\($0.0): \($0.1)" }, body: String(decoding: body, as: UTF8.self)))
        do {
            try onHead(status, self.headers)
            for piece in pieces { try await onBody(Array(piece.utf8)[...]) }
        } catch {
            throw TransportError(.stopped, "stopped")
        }
        if let failure { throw failure }
    }
}
