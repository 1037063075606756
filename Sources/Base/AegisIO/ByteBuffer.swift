/// Bytes that are appended at the end and consumed from the front.
///
/// It grows with what is read (4 KiB at first, doubling while reads fill it) and never shrinks by itself; what bounds it
/// is the `atMost` of those who read into it.
package struct ByteBuffer: Sendable {
    /// Filled from `head` to `tail`; the rest is room.
    private var storage: [UInt8] = []
    private var head = 0
    private var tail = 0
    /// The last read took all the room it was offered: offer more.
    private var wasFilled = false

    /// An empty buffer; memory comes with the first bytes.
    package init() {}

    /// A buffer with content.
    package init(_ bytes: [UInt8]) {
        storage = bytes
        tail = bytes.count
    }

    /// How many bytes wait to be consumed.
    package var readableBytes: Int { tail - head }
    /// Whether there is nothing to consume.
    package var isEmpty: Bool { head == tail }
    /// The bytes that wait, as a slice with indices of its own.
    package var readable: ArraySlice<UInt8> { storage[head..<tail] }

    /// The byte at an offset from the front; the offset must be below `readableBytes`.
    package subscript(offset: Int) -> UInt8 {
        precondition(offset >= 0 && offset < readableBytes, "offset outside the readable bytes")
        return storage[head + offset]
    }

    /// The offset of the first such byte at or after `start`; nil when there is none.
    package func firstOffset(of byte: UInt8, from start: Int = 0) -> Int? {
        guard start < readableBytes else { return nil }
        return storage[(head + start)..<tail].firstIndex(of: byte).map { $0 - head }
    }

    /// Appends bytes.
    package mutating func append(_ bytes: ArraySlice<UInt8>) {
        unsafe bytes.withUnsafeBytes { unsafe append(copying: $0) }
    }

    /// Appends bytes.
    package mutating func append(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { unsafe append(copying: $0) }
    }

    /// Appends bytes of borrowed memory.
    package mutating func append(_ bytes: Span<UInt8>) {
        unsafe bytes.withUnsafeBytes { unsafe append(copying: $0) }
    }

    private mutating func append(copying bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count)
        let end = tail
        // SAFETY: `reserve` made room for the bytes behind `tail`, and the source is not this storage.
        unsafe storage.withUnsafeMutableBytes { room in
            guard let base = room.baseAddress else { return }
            unsafe (base + end).copyMemory(from: source, byteCount: bytes.count)
        }
        tail += bytes.count
    }

    /// Appends a part of another buffer, counted from its front.
    package mutating func append(_ range: Range<Int>, of other: borrowing ByteBuffer) {
        precondition(range.upperBound <= other.readableBytes, "a range outside the readable bytes")
        let start = other.head + range.lowerBound
        unsafe other.storage.withUnsafeBytes { bytes in
            unsafe append(copying: UnsafeRawBufferPointer(rebasing: bytes[start..<(start + range.count)]))
        }
    }

    /// Appends a text that stands in the program, without making a `String` of it.
    package mutating func append(_ text: StaticString) {
        text.withUTF8Buffer { unsafe append(copying: UnsafeRawBufferPointer($0)) }
    }

    /// How much memory it has, in bytes.
    package var capacity: Int { storage.count }

    /// Appends one byte.
    package mutating func append(_ byte: UInt8) {
        reserve(1)
        storage[tail] = byte
        tail += 1
    }

    /// Appends a text's UTF-8 bytes. It has a label so that a literal never becomes a `String`.
    package mutating func append(utf8 text: String) {
        var text = text
        text.withUTF8 { unsafe append(copying: UnsafeRawBufferPointer($0)) }
    }

    /// Drops bytes from the front; at most `readableBytes`.
    package mutating func consume(_ count: Int) {
        precondition(count >= 0 && count <= readableBytes, "consumed more than there is")
        head += count
        if head == tail {
            head = 0
            tail = 0
        }
    }

    /// Takes bytes from the front; at most `readableBytes`.
    package mutating func take(_ count: Int) -> [UInt8] {
        precondition(count >= 0 && count <= readableBytes, "took more than there is")
        let bytes = Array(storage[head..<(head + count)])
        consume(count)
        return bytes
    }

    /// Takes everything and gives the memory up.
    package mutating func takeAll() -> [UInt8] {
        defer { self = ByteBuffer() }
        guard head == 0, storage.count == tail else { return Array(storage[head..<tail]) }
        return storage
    }

    /// Drops everything and keeps the memory.
    package mutating func removeAll() {
        head = 0
        tail = 0
    }

    /// Lends the waiting bytes; the pointer is valid only inside `body`.
    package func withUnsafeReadable<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
        // The array's own method rethrows without a type, so the error travels as a value.
        let result = unsafe storage[head..<tail].withUnsafeBytes { bytes -> Result<R, E> in
            do throws(E) { return .success(try unsafe body(bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Lets `body` write into room at the end and say how much it wrote.
    ///
    /// - Parameters:
    ///   - limit: the most that may be written, in bytes.
    ///   - body: gets between 1 and `limit` bytes of room, and returns how many it filled.
    /// - Returns: how many bytes were filled.
    /// - Throws: what `body` throws.
    package mutating func fill<E: Error>(atMost limit: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Int)
        throws(E) -> Int
    {
        offerRoom(limit)
        let end = tail + min(limit, storage.count - tail)
        let start = tail
        let result = unsafe storage.withUnsafeMutableBytes { bytes -> Result<Int, E> in
            let room = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[start..<end])
            do throws(E) { return .success(try unsafe body(room)) } catch { return .failure(error) }
        }
        let count = try result.get()
        wasFilled = count == end - start
        tail += count
        return count
    }

    /// Small first; as much as the last read filled, and more, when it filled all.
    private mutating func offerRoom(_ limit: Int) {
        let room = storage.count - tail
        if room >= limit { return }
        let wanted = wasFilled ? max(4096, (room + head) * 2) : 4096
        if room < wanted { reserve(min(limit, wanted)) }
    }

    private mutating func reserve(_ count: Int) {
        if storage.count - tail >= count { return }
        if head > 0 {
            // Move what waits to the front before asking for more memory.
            let waiting = readableBytes
            unsafe storage.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return }
                unsafe base.copyMemory(from: base + head, byteCount: waiting)
            }
            head = 0
            tail = waiting
            if storage.count - tail >= count { return }
        }
        var larger = [UInt8](repeating: 0, count: max(storage.count * 2, tail + count, 64))
        let waiting = tail
        // SAFETY: the new memory is larger than the old.
        unsafe storage.withUnsafeBytes { old in
            unsafe larger.withUnsafeMutableBytes { new in
                guard let source = old.baseAddress, let base = new.baseAddress else { return }
                unsafe base.copyMemory(from: source, byteCount: waiting)
            }
        }
        storage = larger
    }
}
