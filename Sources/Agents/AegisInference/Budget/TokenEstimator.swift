internal import AegisJSON
internal import Synchronization

/// How many tokens a question has, before a provider has said so: rather too many than too few.
///
/// A token is taken for four bytes of ASCII, or two of anything else. What providers say afterwards corrects that, for each model by
/// itself: a count that was too low is believed at once, one that was too high only little by little.
package final class TokenEstimator: Sendable {
    /// The correction before anything is known of a model.
    static let first = 1.25
    private static let least = 0.5
    private static let most = 8.0
    /// A question below this says little: what a provider puts around it weighs more.
    private static let enough = 64

    private let factors = Mutex<[String: Double]>([:])

    /// Knows nothing of any model yet.
    package init() {}

    /// The count for a model, `provider/model`.
    package func count(_ request: ModelRequest, for model: String) -> Int {
        corrected(Self.raw(request), for: model)
    }

    /// A raw count (see `raw`), corrected for a model.
    package func corrected(_ raw: Int, for model: String) -> Int {
        let factor = factors.withLock { $0[model] } ?? Self.first
        return Int((Double(min(raw, 1 << 40)) * factor).rounded(.up))
    }

    /// Learns from what a provider says that a question had.
    package func learn(_ raw: Int, actual: Int, for model: String) {
        guard raw >= Self.enough, actual > 0 else { return }
        // A tenth on top, for the next question is not the same.
        let seen = min(Self.most, max(Self.least, Double(actual) / Double(raw) * 1.1))
        factors.withLock { factors in
            let old = factors[model] ?? Self.first
            factors[model] = seen > old ? seen : old + (seen - old) / 8
        }
    }

    /// The count without correction: all that is sent, system prompt and tools included.
    package static func raw(_ request: ModelRequest) -> Int {
        var count = 8 + raw(request.system)
        for tool in request.tools {
            count += 8 + raw(tool.name) + raw(tool.description) + raw(bytes: tool.schema.compact)
        }
        return request.messages.reduce(count) { $0 + raw($1) }
    }

    /// The count of one message.
    package static func raw(_ message: ModelMessage) -> Int {
        message.blocks.reduce(4) { count, block in
            switch block {
            case .text(let text): count + 2 + raw(text)
            case .reasoning(let text, let signature, _): count + 2 + raw(text) + raw(signature ?? "")
            case .toolUse(let use):
                count + 8 + raw(use.name) + raw(use.id)
                    + (use.malformed.map { raw($0) } ?? raw(bytes: use.input.compact))
            case .toolResult(let output): count + 8 + raw(output.id) + raw(output.text)
            }
        }
    }

    /// The count of a text.
    package static func raw(_ text: String) -> Int {
        // Conversations are long and counted at every turn: bytes in a row are counted many at a time.
        unsafe text.utf8.withContiguousStorageIfAvailable { unsafe raw(bytes: $0) } ?? raw(bytes: Array(text.utf8))
    }

    private static func raw(bytes: some Collection<UInt8>) -> Int {
        let other = bytes.reduce(0) { $0 &+ Int($1 >> 7) }
        return (bytes.count - other + 3) / 4 + (other + 1) / 2
    }
}
