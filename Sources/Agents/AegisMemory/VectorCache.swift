internal import Synchronization

/// Matrices of the places that were searched lately, within a bound; the one that is the longest unused goes first.
final class VectorCache: Sendable {
    private struct Entry: Sendable {
        var matrix: VectorMatrix
        var used: UInt64
    }
    private struct State {
        var entries: [MemoryPlace: Entry] = [:]
        var ticks: UInt64 = 0
    }
    private let state = Mutex(State())
    private let limit: Int

    /// A cache of at most so many bytes; one matrix is always kept, however large.
    init(bytes limit: Int) { self.limit = limit }

    /// Bytes of vectors that it holds.
    var bytes: Int { state.withLock { $0.entries.values.reduce(0) { $0 + $1.matrix.bytes } } }

    /// The matrix of a place, marked as used.
    func matrix(_ place: MemoryPlace) -> VectorMatrix? {
        state.withLock { state in
            state.ticks += 1
            state.entries[place]?.used = state.ticks
            return state.entries[place]?.matrix
        }
    }

    /// How many rows the matrix of a place has; nil when there is none.
    func count(_ place: MemoryPlace) -> Int? { state.withLock { $0.entries[place]?.matrix.count } }

    /// Keeps a matrix, and drops others for it.
    func keep(_ matrix: VectorMatrix, of place: MemoryPlace) {
        state.withLock { state in
            state.ticks += 1
            state.entries[place] = Entry(matrix: matrix, used: state.ticks)
            trim(&state)
        }
    }

    private func trim(_ state: inout State) {
        var total = state.entries.values.reduce(0) { $0 + $1.matrix.bytes }
        while total > limit, state.entries.count > 1,
            let oldest = state.entries.min(by: { $0.value.used < $1.value.used })
        {
            total -= oldest.value.matrix.bytes
            state.entries[oldest.key] = nil
        }
    }

    /// Changes the matrix of a place in its own memory, where there is one.
    func change(_ place: MemoryPlace, _ body: (inout VectorMatrix) -> Void) {
        state.withLock { state in
            // Taken out for the change: with a second owner the whole matrix would be copied.
            guard var entry = state.entries.removeValue(forKey: place) else { return }
            body(&entry.matrix)
            state.entries[place] = entry
            trim(&state)
        }
    }

    /// Forgets the matrix of a place.
    func drop(_ place: MemoryPlace) { state.withLock { $0.entries[place] = nil } }
}
