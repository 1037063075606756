/// Bytes in the order of their arrival: what was read and is not yet parsed, what is to be written and was not yet taken.
///
/// Consuming and appending are amortised O(1). Growth is the caller's to bound.
package struct ByteQueue: Sendable {
    private var storage: [UInt8] = []
    private var head = 0
    private var tail = 0

    /// Makes an empty queue.
    package init() {}

    /// Bytes in the queue.
    package var count: Int { tail - head }
    /// Whether there is nothing in it.
    package var isEmpty: Bool { head == tail }
    /// Bytes that it holds memory for.
    package var capacity: Int { storage.count }

    /// The byte at `index`, counted from the oldest.
    package subscript(index: Int) -> UInt8 { storage[head + index] }

    /// Makes room for `extra` more bytes at the end.
    package mutating func reserve(_ extra: Int) {
        guard storage.count - tail < extra else { return }
        let held = head..<tail
        if held.lowerBound > 0 && storage.count - held.count >= extra && held.lowerBound >= held.count {
            // The rest fits before itself: move it to the front.
            unsafe storage.withUnsafeMutableBytes {
                unsafe UnsafeMutableRawBufferPointer(rebasing: $0[0..<held.count])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[held]))
            }
        } else {
            var size = max(256, storage.count)
            while size < held.count + extra { size *= 2 }
            var grown = [UInt8](repeating: 0, count: size)
            unsafe grown.withUnsafeMutableBytes { room in
                unsafe storage.withUnsafeBytes {
                    unsafe UnsafeMutableRawBufferPointer(rebasing: room[0..<held.count])
                        .copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[held]))
                }
            }
            storage = grown
        }
        head = 0
        tail = held.count
    }

    /// Appends one byte.
    package mutating func append(_ byte: UInt8) {
        reserve(1)
        storage[tail] = byte
        tail += 1
    }

    /// Appends bytes.
    package mutating func append(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe append($0) }
    }

    /// Appends the bytes of a buffer.
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        let count = bytes.count
        guard count > 0 else { return }
        reserve(count)
        let at = tail
        unsafe storage.withUnsafeMutableBytes {
            unsafe UnsafeMutableRawBufferPointer(rebasing: $0[at..<at + count]).copyMemory(from: bytes)
        }
        tail += count
    }

    /// Appends what `body` writes into at most `count` bytes of room; it returns how many it wrote (none if <= 0).
    @discardableResult
    package mutating func fill(_ count: Int, _ body: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
        reserve(count)
        let at = tail
        let written = unsafe storage.withUnsafeMutableBytes {
            unsafe body(UnsafeMutableRawBufferPointer(rebasing: $0[at..<at + count]))
        }
        if written > 0 { tail += min(written, count) }
        return written
    }

    /// Overwrites bytes that are already there, from `index` on.
    package mutating func overwrite(at index: Int, with bytes: [UInt8]) {
        for i in 0..<bytes.count { storage[head + index + i] = bytes[i] }
    }

    /// Takes back the newest `count` bytes.
    package mutating func dropLast(_ count: Int) {
        tail -= min(count, self.count)
    }

    /// Gives all bytes to `body`, oldest first.
    package func withBytes<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        let range = head..<tail
        return unsafe storage.withUnsafeBytes { unsafe body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    /// A copy of `count` bytes from `index` on.
    package func bytes(at index: Int, count: Int) -> [UInt8] {
        Array(storage[head + index..<head + index + count])
    }

    /// Forgets the oldest `count` bytes.
    package mutating func consume(_ count: Int) {
        head += min(count, self.count)
        if head == tail {
            head = 0
            tail = 0
        }
    }

    /// Forgets everything.
    package mutating func clear() {
        head = 0
        tail = 0
    }

    /// Gives the memory back if nothing is in the queue.
    package mutating func shrink() {
        if isEmpty { storage = [] }
    }
}
