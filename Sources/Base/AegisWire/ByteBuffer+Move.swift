internal import AegisIO

extension ByteBuffer {
    /// Takes bytes from the front of another buffer; without a copy when they are all of it and there are none here.
    ///
    /// - Parameters:
    ///   - count: how many; they lie behind `skipped`.
    ///   - skipped: bytes at the other's front that are dropped.
    ///   - other: loses both.
    mutating func move(_ count: Int, after skipped: Int = 0, from other: inout ByteBuffer) {
        other.consume(skipped)
        if isEmpty, count == other.readableBytes {
            swap(&self, &other)
        } else {
            append(other.readable.prefix(count))
            other.consume(count)
        }
    }
}
