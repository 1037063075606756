/// What a transfer has brought and what its reader may take; the reader's slowness reaches the sender. Pure.
struct TransferMachine: Sendable {
    /// What to do with bytes that came.
    enum Arrival: Equatable {
        case taken
        /// There is too much already: they come again when asked for.
        case later
        case stop
    }

    /// What a reader gets.
    enum Portion: Equatable {
        case bytes([UInt8])
        case end
        case failed(HTTPClientError)
        case nothingYet
    }

    /// Bytes that may wait for their reader.
    static let room = 64 << 10

    private(set) var head: ClientResponseHead?
    private var lines = HeadReader()
    private var waiting: [UInt8] = []
    private var received = 0
    private let maximum: Int
    private(set) var isPaused = false
    /// Bytes that may still come and that nobody reads; nil while somebody does.
    private var unwanted: Int?
    /// The end, once it is known.
    private(set) var outcome: Result<Void, HTTPClientError>?
    /// Why the transfer is to be stopped; counts more than what the library says then.
    private(set) var reason: HTTPClientError?

    init(maximumBody: Int) { maximum = maximumBody }

    /// A line of a header section; false stops the transfer.
    mutating func line(_ line: [UInt8]) -> Bool {
        switch lines.take(line) {
        case .more: break
        case .head(let head): self.head = head
        case .failed(let why):
            stop(HTTPClientError(.badAnswer, why))
            return false
        }
        return true
    }

    /// Bytes of the body.
    mutating func body(_ bytes: some Collection<UInt8>) -> Arrival {
        guard bytes.count <= maximum - received else {
            stop(HTTPClientError(.tooLarge, "the answer has more than \(maximum) bytes"))
            return .stop
        }
        if let left = unwanted {
            unwanted = left - bytes.count
            if left < bytes.count { stop(.cancelled) }
            return left < bytes.count ? .stop : .taken
        }
        if waiting.count >= Self.room {
            isPaused = true
            return .later
        }
        received += bytes.count
        waiting.append(contentsOf: bytes)
        return .taken
    }

    /// Takes what is there.
    mutating func take() -> Portion {
        if !waiting.isEmpty {
            defer { waiting = [] }
            return .bytes(waiting)
        }
        switch outcome {
        case nil: return .nothingYet
        case .success: return .end
        case .failure(let error): return .failed(error)
        }
    }

    /// Whether a pause is over; true once for each.
    mutating func resume() -> Bool {
        guard isPaused, waiting.isEmpty, outcome == nil else { return false }
        isPaused = false
        return true
    }

    /// Nobody reads any more; a few bytes may come all the same, so that the connection can be used again.
    mutating func discard(upTo bytes: Int) {
        waiting = []
        unwanted = unwanted ?? bytes
    }

    /// The transfer is to be stopped for a reason of ours; the first counts.
    mutating func stop(_ error: HTTPClientError) { reason = reason ?? error }

    /// The transfer is over. What came before a failure can still be read.
    mutating func finish(_ result: Result<Void, HTTPClientError>) {
        guard outcome == nil else { return }
        if let reason {
            outcome = .failure(reason)
        } else if case .success = result, head == nil {
            outcome = .failure(HTTPClientError(.cut, "the connection ended before the answer's head was whole"))
        } else {
            outcome = result
        }
        // Nobody reads what a cancelled transfer has brought.
        if case .failure(let error) = outcome, error.kind == .cancelled || error.kind == .closed { waiting = [] }
    }
}
