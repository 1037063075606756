internal import AegisJSON

/// What one connection has been asked, what runs, and what is to be answered; it knows no tasks and no sockets.
///
/// Requests run at the same time and are answered as they end; a batch is answered in one array when its last element has
/// ended, in the order of its elements. While `wantsInput` is false nobody reads, so that the client has to wait.
struct JSONRPCMachine: Sendable {
    /// A request that is to be run.
    struct Job: Sendable, Equatable {
        var ticket: Int
        var request: JSONRPCRequest
    }
    private struct Place: Sendable {
        var id: JSONValue?
        /// The batch that it belongs to, and where in it.
        var batch: (number: Int, index: Int)?
    }
    private struct Batch: Sendable {
        var answers: [JSONValue?]
        var missing: Int
    }

    private let limits: JSONRPCLimits
    private var waiting: [Job] = []
    private var places: [Int: Place] = [:]
    private var batches: [Int: Batch] = [:]
    private var running = 0
    private var next = 0
    /// Bytes of answers that the client has not taken.
    private(set) var unsent = 0
    /// Nobody is there to be answered.
    private(set) var isForsaken = false

    init(limits: JSONRPCLimits) { self.limits = limits }

    /// Whether another line may be looked at.
    var wantsInput: Bool { waiting.isEmpty && hasRoom }
    /// Whether nothing runs, waits or is to be sent.
    var isIdle: Bool { waiting.isEmpty && running == 0 && unsent == 0 }
    private var hasRoom: Bool { running < limits.inFlight && unsent < limits.unsent }

    /// Takes a line's content in.
    ///
    /// - Returns: an answer to send now, where there is one.
    mutating func received(_ message: JSONRPCMessage) -> [UInt8]? {
        switch message {
        case .single(.refused(let id, let fault)):
            return send(Self.answer(id, .failure(fault)))
        case .single(.request(let request)):
            enqueue(request, batch: nil)
            return nil
        case .batch(let elements):
            return receive(elements)
        }
    }

    private mutating func receive(_ elements: [JSONRPCElement]) -> [UInt8]? {
        next += 1
        let number = next
        var batch = Batch(answers: Array(repeating: nil, count: elements.count), missing: 0)
        for (index, element) in elements.enumerated() {
            switch element {
            case .refused(let id, let fault): batch.answers[index] = Self.answer(id, .failure(fault))
            case .request(let request):
                batch.missing += 1
                enqueue(request, batch: (number, index))
            }
        }
        batches[number] = batch
        return complete(number)
    }

    private mutating func enqueue(_ request: JSONRPCRequest, batch: (number: Int, index: Int)?) {
        next += 1
        if isForsaken, request.id != nil { return }
        places[next] = Place(id: request.id, batch: batch)
        waiting.append(Job(ticket: next, request: request))
    }

    /// The next request to run, when there is one and room for it.
    mutating func start() -> Job? {
        guard hasRoom, !waiting.isEmpty else { return nil }
        running += 1
        return waiting.removeFirst()
    }

    /// Notes how a request ended.
    ///
    /// - Returns: what to send now: its answer, that of the batch it completes, or nothing.
    mutating func finished(_ ticket: Int, _ outcome: Result<JSONValue, JSONRPCFault>) -> [UInt8]? {
        guard let place = places.removeValue(forKey: ticket) else { return nil }
        running -= 1
        let answer = place.id.map { Self.answer($0, outcome) }
        guard let batch = place.batch else { return answer.flatMap { send($0) } }
        batches[batch.number]?.answers[batch.index] = answer
        batches[batch.number]?.missing -= 1
        return complete(batch.number)
    }

    private mutating func complete(_ number: Int) -> [UInt8]? {
        guard let batch = batches[number], batch.missing == 0 else { return nil }
        batches[number] = nil
        let answers = batch.answers.compactMap(\.self)
        // A batch of notifications has no answer, not even an empty one.
        return answers.isEmpty ? nil : send(.array(answers))
    }

    private mutating func send(_ value: JSONValue) -> [UInt8]? {
        guard !isForsaken else { return nil }
        var bytes = value.compact
        bytes.append(10)
        unsent += bytes.count
        return bytes
    }

    /// Notes that the client has taken bytes.
    mutating func sent(_ count: Int) { unsent = max(0, unsent - count) }

    /// Notes bytes that were sent unasked.
    mutating func pushed(_ count: Int) { unsent += count }

    /// Notes that nobody can be answered any more: what waits for an answer is forgotten, notifications go on.
    mutating func forsake() {
        isForsaken = true
        unsent = 0
        for job in waiting where job.request.id != nil { places[job.ticket] = nil }
        waiting.removeAll { $0.request.id != nil }
    }

    private static func answer(_ id: JSONValue, _ outcome: Result<JSONValue, JSONRPCFault>) -> JSONValue {
        switch outcome {
        case .success(let value): ["jsonrpc": "2.0", "id": id, "result": value]
        case .failure(let fault): ["jsonrpc": "2.0", "id": id, "error": fault.json]
        }
    }
}
