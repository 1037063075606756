/// The bytes of one stream that were not yet acknowledged: at most `Channel.window` of them, addressed by absolute offset.
///
/// Memory grows with what is held (powers of two, up to the window) and `shrink` gives it back when nothing is.
package struct RetentionRing: Sendable {
    private var storage: [UInt8] = []
    /// The offset of the oldest byte held.
    package private(set) var start: UInt64 = 0
    /// The offset of the next byte to come.
    package private(set) var end: UInt64 = 0

    /// Makes an empty ring at offset 0.
    package init() {}

    /// Bytes held.
    package var count: Int { Int(end - start) }
    /// Bytes that it takes before it is full.
    package var room: Int { Int(Channel.window) - count }
    /// Bytes that it holds memory for.
    package var capacity: Int { storage.count }

    /// Takes bytes; `false` (and nothing taken) if they do not fit the window.
    package mutating func append(_ bytes: UnsafeRawBufferPointer) -> Bool {
        let added = bytes.count
        guard added <= room else { return false }
        grow(to: count + added)
        unsafe put(bytes)
        return true
    }

    /// Drops everything below `offset`; `false` if such bytes never were here. Older offsets change nothing.
    package mutating func acknowledge(_ offset: UInt64) -> Bool {
        guard offset <= end else { return false }
        if offset > start { start = offset }
        return true
    }

    /// Appends at most `most` bytes from `offset` on to `queue`; they stay here. `offset` must lie in `start...end`.
    package func copy(from offset: UInt64, atMost most: Int, to queue: inout ByteQueue) -> Int {
        let total = min(most, Int(end - offset))
        var done = 0
        while done < total {
            let at = Int((offset + UInt64(done)) % UInt64(storage.count))
            let part = min(total - done, storage.count - at)
            unsafe storage.withUnsafeBytes {
                unsafe queue.append(UnsafeRawBufferPointer(rebasing: $0[at..<at + part]))
            }
            done += part
        }
        return total
    }

    /// Gives the memory back if nothing is held.
    package mutating func shrink() {
        if count == 0 { storage = [] }
    }

    private mutating func grow(to size: Int) {
        guard storage.count < size else { return }
        var capacity = max(4096, storage.count)
        while capacity < size { capacity *= 2 }
        var held = ByteQueue()
        _ = copy(from: start, atMost: count, to: &held)
        storage = [UInt8](repeating: 0, count: capacity)
        end = start
        unsafe held.withBytes { unsafe put($0) }
    }

    /// Writes bytes for which there is memory.
    private mutating func put(_ bytes: UnsafeRawBufferPointer) {
        var done = 0
        while done < bytes.count {
            let at = Int(end % UInt64(storage.count))
            let part = min(bytes.count - done, storage.count - at)
            unsafe storage.withUnsafeMutableBytes {
                unsafe UnsafeMutableRawBufferPointer(rebasing: $0[at..<at + part])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[done..<done + part]))
            }
            end += UInt64(part)
            done += part
        }
    }
}
