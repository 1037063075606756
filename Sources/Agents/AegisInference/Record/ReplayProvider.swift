package import AegisCore
internal import AegisJSON
internal import LinuxSys
internal import Synchronization

/// Answers what a recording holds and nothing else.
///
/// A question that was recorded several times gets its answers in the order of the file, each once. One that differs only in what
/// each run makes anew is the same question: else no run with children could be replayed, as their ids are in what is asked.
package final class ReplayProvider: ModelProvider {
    package let name: String
    private let path: String
    private let calls: [RecordedCall]
    private let byHash: [String: [Int]]
    /// By their shape, for questions that are not there word for word. Made before anybody asks: a recording may be large, and those
    /// who ask share their threads with others.
    private let byShape: [String: [Int]]
    /// Calls that have been answered.
    private let used = Mutex<Set<Int>>([])

    /// The largest recording that is read.
    static let largest = 256 << 20

    /// Reads a recording.
    ///
    /// - Throws: `recording-not-readable`, `recording-broken` with the line.
    package convenience init(name: String, path: String) throws(AegisError) {
        let bytes: [UInt8]
        do throws(Errno) { bytes = try Files.read(path, limit: Self.largest) } catch {
            throw AegisError(.failed, "recording-not-readable", "\(path) cannot be read: \(error)")
        }
        try self.init(name: name, path: path, bytes: bytes)
    }

    init(name: String, path: String, bytes: [UInt8]) throws(AegisError) {
        self.name = name
        self.path = path
        var calls: [RecordedCall] = []
        for (number, line) in bytes.split(separator: 10, omittingEmptySubsequences: false).enumerated()
        where !line.isEmpty {
            do throws(ScenarioFailure) { calls.append(try RecordedCall(line: line)) } catch {
                throw AegisError(.failed, "recording-broken", "\(path):\(number + 1): \(error.message)")
            }
        }
        self.calls = calls
        byHash = Dictionary(grouping: calls.indices, by: { calls[$0].hash })
        byShape = Dictionary(grouping: calls.indices, by: { RunShape(calls[$0].request).hash })
    }

    package func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        let (deltas, result) = try answer(to: request)
        for delta in deltas {
            if Task.isCancelled { throw ModelError(.cancelled, "the caller gave up") }
            onDelta(delta)
        }
        return try result.get()
    }

    package func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
        guard case .vectors(let reply) = try find(question).call.result.get() else { throw otherKind }
        return reply
    }

    private func answer(
        to request: ModelRequest
    ) throws(ModelError) -> (deltas: [ModelDelta], result: Result<ModelReply, ModelError>) {
        let (call, shape) = try find(request)
        switch call.result {
        case .failure(let error): return (call.deltas, .failure(error))
        case .success(.vectors): throw otherKind
        case .success(.reply(let reply)):
            guard let shape, let translated = try? RunShape(call.request).translated(reply, to: shape) else {
                return (call.deltas, .success(reply))
            }
            return (Self.deltas(of: translated), .success(translated))
        }
    }

    /// Questions and texts to be embedded look different: a line where they do not was not written by us.
    private var otherKind: ModelError {
        ModelError(.invalidRequest, "\(path) has an answer of another kind to this request")
    }

    /// The call that a request is about.
    ///
    /// - Returns: the call; and the shape of the request where it was not recorded word for word.
    private func find(_ request: some Encodable) throws(ModelError) -> (call: RecordedCall, shape: RunShape?) {
        guard let json = try? JSONValue(encoding: request) else {
            throw ModelError(.invalidRequest, "the request has a number that JSON has not")
        }
        let same = byHash[RecordedCall.hash(of: json)] ?? []
        if let index = take(same) { return (calls[index], nil) }
        let shape = RunShape(json)
        let alike = byShape[shape.hash] ?? []
        guard let index = take(alike) else {
            let count = max(same.count, alike.count)
            throw ModelError(
                .invalidRequest,
                count > 0
                    ? "\(path) has this request \(count) times, and it was asked once more"
                    : "\(path) has no such request\(nearest(json))")
        }
        return (calls[index], shape)
    }

    /// The first of some calls that has not been answered.
    private func take(_ indices: [Int]) -> Int? {
        used.withLock { used in
            guard let index = indices.first(where: { !used.contains($0) }) else { return nil }
            used.insert(index)
            return index
        }
    }

    /// An answer that was not recorded in these words comes in one piece for each of its parts.
    private static func deltas(of reply: ModelReply) -> [ModelDelta] {
        reply.blocks.flatMap { block -> [ModelDelta] in
            switch block {
            case .text(let text): [.text(text)]
            case .reasoning(let text, _, _): [.reasoning(text)]
            case .toolUse(let use):
                [
                    .toolUse(id: use.id, name: use.name),
                    .toolInput(
                        id: use.id, fragment: use.malformed ?? String(decoding: use.input.compact, as: UTF8.self)),
                ]
            case .toolResult: []
            }
        }
    }

    /// Where the most similar request differs.
    private func nearest(_ request: JSONValue) -> String {
        var best: (likeness: Int, line: Int, difference: String)?
        for (index, call) in calls.enumerated() {
            guard let difference = JSONDifference.first(call.request, request) else { continue }
            let likeness = JSONDifference.likeness(call.request, request)
            if best.map({ likeness > $0.likeness }) ?? true { best = (likeness, index + 1, difference) }
        }
        return best.map { "; the nearest is number \($0.line) of \(calls.count), which differs at \($0.difference)" }
            ?? ": it is empty"
    }
}

/// How two questions differ.
enum JSONDifference {
    /// The first place where two trees differ, with both values; nil when they are the same.
    static func first(_ recorded: JSONValue, _ asked: JSONValue, at path: String = "") -> String? {
        switch (recorded, asked) {
        case (.object(let a), .object(let b)):
            let names = a.map(\.name) + b.map(\.name).filter { recorded[$0] == nil }
            for name in names {
                let place = path.isEmpty ? name : "\(path).\(name)"
                switch (recorded[name], asked[name]) {
                case (let x?, let y?): if let found = first(x, y, at: place) { return found }
                case (_?, nil): return "\(place): recorded, but not asked"
                case (nil, _): return "\(place): asked, but not recorded"
                }
            }
            return nil
        case (.array(let a), .array(let b)):
            for (index, (x, y)) in zip(a, b).enumerated() {
                if let found = first(x, y, at: "\(path)[\(index)]") { return found }
            }
            return a.count == b.count ? nil : "\(path): \(a.count) recorded, \(b.count) asked"
        case (.string(let a), .string(let b)):
            // What each run makes anew is no difference.
            let (a, b) = (RunShape.bare(a), RunShape.bare(b))
            guard a != b else { return nil }
            let same = zip(a.unicodeScalars, b.unicodeScalars).prefix { $0 == $1 }.count
            return "\(path), character \(same + 1): recorded \(excerpt(a, same)), asked \(excerpt(b, same))"
        default:
            guard recorded.canonical != asked.canonical else { return nil }
            return "\(path): recorded \(text(recorded)), asked \(text(asked))"
        }
    }

    /// How much two trees have in common: the leaves that are the same at the same place.
    static func likeness(_ a: JSONValue, _ b: JSONValue) -> Int {
        switch (a, b) {
        case (.object(let fields), .object):
            fields.reduce(0) { sum, field in sum + (b[field.name].map { likeness(field.value, $0) } ?? 0) }
        case (.array(let x), .array(let y)): zip(x, y).reduce(0) { $0 + likeness($1.0, $1.1) }
        default: a == b ? 1 : 0
        }
    }

    private static func excerpt(_ text: String, _ from: Int) -> String {
        let rest = text.unicodeScalars.dropFirst(max(0, from - 8))
        let shown = rest.prefix(40).map { $0.value < 0x20 ? " " : String($0) }.joined()
        return "'\(from > 8 ? "…" : "")\(shown)\(rest.count > 40 ? "…" : "")'"
    }
    private static func text(_ value: JSONValue) -> String {
        String(String(decoding: value.compact, as: UTF8.self).prefix(60))
    }
}
