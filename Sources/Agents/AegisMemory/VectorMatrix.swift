internal import LinuxSys

/// Unit vectors side by side in one piece of memory, searched exactly: the cosine is the product.
///
/// A row is padded to whole SIMD registers. Rows have no order of their own: a removed one is filled with the last.
package struct VectorMatrix: Sendable {
    /// A row that was found.
    package struct Hit: Sendable, Equatable {
        package var key: Int64
        package var score: Float
    }
    private typealias Lane = SIMD8<Float>

    package let dimension: Int
    /// Numbers of a row with its padding.
    private let stride: Int
    private var numbers: [Float] = []
    private var keys: [Int64] = []
    /// A bit for each row, to search only some.
    private var marks: [UInt8] = []
    private var rows: [Int64: Int] = [:]

    /// An empty one, with room for so many rows.
    package init(dimension: Int, expecting count: Int = 0) {
        self.dimension = dimension
        stride = (dimension + 15) / 16 * 16
        reserve(count)
        keys.reserveCapacity(count)
        marks.reserveCapacity(count)
        rows.reserveCapacity(count)
    }

    /// Makes room for so many rows; much of it in large pages, which must be said before they are written to.
    private mutating func reserve(_ rows: Int) {
        guard rows * stride > numbers.capacity else { return }
        var larger: [Float] = []
        larger.reserveCapacity(rows * stride)
        let length = larger.capacity * MemoryLayout<Float>.stride
        if length >= 4 << 20 {
            unsafe larger.withUnsafeBytes { bytes in
                if let start = bytes.baseAddress { MemoryAdvice.preferLargePages(start, length: length) }
            }
        }
        larger.append(contentsOf: numbers)
        numbers = larger
    }

    /// How many rows it has.
    package var count: Int { keys.count }
    /// What it takes in memory, in bytes, without the lists beside it.
    var bytes: Int { numbers.capacity * MemoryLayout<Float>.stride }

    /// Adds a row, or changes the one with that key.
    package mutating func set(_ key: Int64, _ vector: [Float], mark: UInt8) {
        precondition(vector.count == dimension, "a vector of another model")
        if let row = rows[key] {
            numbers.replaceSubrange(row * stride..<row * stride + dimension, with: vector)
            marks[row] = mark
            return
        }
        if numbers.count + stride > numbers.capacity { reserve(max(16, 2 * keys.count)) }
        rows[key] = keys.count
        keys.append(key)
        marks.append(mark)
        numbers.append(contentsOf: vector)
        numbers.append(contentsOf: repeatElement(0, count: stride - dimension))
    }

    /// Removes a row; does nothing when there is none with that key.
    mutating func remove(_ key: Int64) {
        guard let row = rows.removeValue(forKey: key) else { return }
        let last = keys.count - 1
        if row != last {
            numbers.replaceSubrange(
                row * stride..<(row + 1) * stride, with: Array(numbers[last * stride..<(last + 1) * stride]))
            keys[row] = keys[last]
            marks[row] = marks[last]
            rows[keys[row]] = row
        }
        numbers.removeLast(stride)
        keys.removeLast()
        marks.removeLast()
    }

    /// The rows nearest to a unit vector, the best first; equal ones the later key first.
    ///
    /// - Parameters:
    ///   - query: as long as the rows.
    ///   - limit: at most so many.
    ///   - mask: only rows that have a bit of it.
    /// - Returns: never a row whose score is no number.
    package func nearest(to query: [Float], limit: Int, mask: UInt8 = 0xff) -> [Hit] {
        precondition(query.count == dimension, "a query of another model")
        guard limit > 0 else { return [] }
        var best = Best(limit: limit)
        let padded = query + [Float](repeating: 0, count: stride - dimension)
        // SAFETY: both pointers hold whole lanes for each row, since rows and query are padded to the stride.
        unsafe padded.withUnsafeBytes { query in
            unsafe numbers.withUnsafeBytes { numbers in
                guard let query = query.baseAddress, let numbers = numbers.baseAddress else { return }
                let size = stride * MemoryLayout<Float>.stride
                for row in 0..<keys.count where marks[row] & mask != 0 {
                    let score = unsafe Self.product(numbers + row &* size, query, size)
                    // Also false for what is no number.
                    if score >= best.worst { best.add(Hit(key: keys[row], score: score)) }
                }
            }
        }
        return best.hits
    }

    /// The sum of products; four sums side by side, so that no addition waits for the one before.
    @inline(__always)
    private static func product(_ a: UnsafeRawPointer, _ b: UnsafeRawPointer, _ size: Int) -> Float {
        var first = Lane.zero
        var second = Lane.zero
        var at = 0
        while at < size {
            unsafe first +=
                a.loadUnaligned(fromByteOffset: at, as: Lane.self)
                * b.loadUnaligned(fromByteOffset: at, as: Lane.self)
            unsafe second +=
                a.loadUnaligned(fromByteOffset: at &+ 32, as: Lane.self)
                * b.loadUnaligned(fromByteOffset: at &+ 32, as: Lane.self)
            at &+= 64
        }
        return (first + second).sum()
    }

    /// The best so far, in order; there are few of them.
    private struct Best {
        let limit: Int
        var hits: [Hit] = []
        /// What a row must reach to come in.
        var worst = -Float.infinity

        init(limit: Int) {
            self.limit = limit
            hits.reserveCapacity(limit + 1)
        }

        mutating func add(_ hit: Hit) {
            let at = hits.firstIndex { ($0.score, $0.key) < (hit.score, hit.key) } ?? hits.count
            hits.insert(hit, at: at)
            if hits.count > limit { hits.removeLast() }
            if hits.count == limit { worst = hits[limit - 1].score }
        }
    }
}
