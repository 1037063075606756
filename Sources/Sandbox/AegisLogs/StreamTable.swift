internal import AegisCore

/// Where one stream stands.
struct StreamState: Sendable {
    /// Output taken from the caller, up to this offset.
    var taken: UInt64 = 0
    /// The end of the last record: where a new daemon finds the stream after a crash.
    var stored: UInt64 = 0
    /// How much of that the mask holds back.
    var held = 0
    /// Bytes of the current piece of a line that are stored.
    var column = 0
    /// Output that could not be written and that no gap record tells yet.
    var lost: UInt64 = 0
    var finished = false
    /// Nil until the first output of this process's life, and where there is nothing to mask.
    var mask: (any LogMask)?
    var hasMask = false
    /// When it came, relative to the others.
    var order: UInt64 = 0

    /// The offset up to which nothing need be sent again.
    var saved: UInt64 { taken - UInt64(held) }
}

/// The streams that a log knows. Kept over crashes by the records, and over rotation by a table at each segment's start.
struct StreamTable: Sendable {
    /// Finished streams beyond this many are forgotten, oldest first.
    static let limit = 1024

    private(set) var states: [LogKey: StreamState] = [:]
    private var order: UInt64 = 0

    subscript(key: LogKey) -> StreamState? { states[key] }

    /// The stream, made if it is new; give it back with `put`. The table keeps all but the mask, which has one owner.
    mutating func take(_ key: LogKey) -> StreamState {
        if let state = states[key] {
            states[key]?.mask = nil
            return state
        }
        order += 1
        var state = StreamState()
        state.order = order
        states[key] = state
        return state
    }

    /// Says where a taken stream stands in the log.
    mutating func note(_ key: LogKey, stored: UInt64, column: Int) {
        states[key]?.stored = stored
        states[key]?.column = column
    }

    mutating func put(_ key: LogKey, _ state: StreamState) {
        states[key] = state
        guard states.count > Self.limit,
            let oldest = states.filter({ $0.value.finished }).min(by: { $0.value.order < $1.value.order })
        else { return }
        states[oldest.key] = nil
    }

    mutating func forget(_ key: LogKey) { states[key] = nil }
    mutating func removeAll() { states = [:] }

    /// Applies what a record says; for recovery.
    mutating func replay(_ record: ParsedRecord) {
        let header = record.header
        switch header.kind {
        case .data:
            var state = take(header.key)
            state.taken = header.offset + UInt64(header.raw)
            state.stored = state.taken
            state.column = LinePhase.column(after: record.payload.span, from: header.column)
            put(header.key, state)
        case .gap:
            var state = take(header.key)
            state.taken = header.offset
            state.stored = state.taken
            state.column = 0
            put(header.key, state)
        case .end:
            var state = take(header.key)
            state.taken = header.offset
            state.stored = state.taken
            state.column = 0
            state.finished = true
            put(header.key, state)
        case .streams: load(record.payload)
        case .run: removeAll()
        case .forget: forget(header.key)
        }
    }

    /// The table as payloads of `streams` records, each at most `limit` bytes or so.
    func encoded(limit: Int) -> [[UInt8]] {
        var payloads: [[UInt8]] = []
        var current: [UInt8] = []
        for (key, state) in states.sorted(by: { $0.value.order < $1.value.order }) {
            current += [key.stream.rawValue, UInt8(key.id.count), state.finished ? 1 : 0, 0]
            current.append(littleEndian: key.run)
            current.append(littleEndian: state.stored)
            current.append(littleEndian: UInt32(state.column))
            current += key.id
            if current.count >= limit {
                payloads.append(current)
                current = []
            }
        }
        return current.isEmpty ? payloads : payloads + [current]
    }

    private mutating func load(_ payload: ArraySlice<UInt8>) {
        let bytes = Array(payload)
        var at = 0
        while bytes.count - at >= 20, let stream = LogStream(rawValue: bytes[at]) {
            let idLength = Int(bytes[at + 1])
            guard bytes.count - at >= 20 + idLength else { return }
            let key = LogKey(
                stream: stream, run: bytes.littleEndian32(at + 4), id: Array(bytes[at + 20..<at + 20 + idLength]))
            var state = take(key)
            state.finished = bytes[at + 2] & 1 == 1
            state.taken = bytes.littleEndian64(at + 8)
            state.stored = state.taken
            state.column = Int(bytes.littleEndian32(at + 16))
            put(key, state)
            at += 20 + idLength
        }
    }
}
