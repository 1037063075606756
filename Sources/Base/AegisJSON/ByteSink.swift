/// Writes short texts: there is room for all of one when it begins, and none is taken at each of its pieces.
@safe package struct ByteSink: ~Copyable {
    // SAFETY: `room` bytes that stay for as long as the closure runs which alone has this value; nothing is put behind them.
    private let start: UnsafeMutablePointer<UInt8>
    private let room: Int
    private var count = 0
    /// Whether something was put that had no room.
    private(set) var isCut = false

    /// So many bytes are a short text.
    package static let room = 1024

    private init(start: UnsafeMutablePointer<UInt8>, room: Int) {
        unsafe self.start = unsafe start
        self.room = room
    }

    /// Appends what a closure puts, if it is a short text.
    ///
    /// - Parameters:
    ///   - out: gets the bytes; nothing where there are too many.
    ///   - body: puts them. Beyond the room it is not called to account for what it puts.
    /// - Returns: whether there was room for all of them.
    package static func append(to out: inout [UInt8], _ body: (inout ByteSink) -> Void) -> Bool {
        unsafe withUnsafeTemporaryAllocation(of: UInt8.self, capacity: room) { memory in
            guard let start = memory.baseAddress else { return false }
            var sink = unsafe ByteSink(start: start, room: memory.count)
            body(&sink)
            if !sink.isCut { unsafe out.append(contentsOf: UnsafeBufferPointer(start: start, count: sink.count)) }
            return !sink.isCut
        }
    }

    /// Where the next bytes go; nil when there is no room for so many.
    private mutating func take(_ number: Int) -> UnsafeMutablePointer<UInt8>? {
        guard !isCut, number <= room - count else {
            isCut = true
            return nil
        }
        defer { count += number }
        return unsafe start + count
    }

    /// Puts a byte.
    package mutating func put(_ byte: UInt8) { unsafe take(1)?.pointee = byte }

    /// Puts the eight bytes of a number as they are in memory.
    package mutating func put(word: UInt64) {
        guard let place = unsafe take(8) else { return }
        unsafe UnsafeMutableRawPointer(place).storeBytes(of: word, as: UInt64.self)
    }

    /// Puts bytes.
    package mutating func put(_ bytes: UnsafeBufferPointer<UInt8>) {
        guard let base = bytes.baseAddress else { return }
        unsafe take(bytes.count)?.update(from: base, count: bytes.count)
    }

    /// Puts a text as it is.
    package mutating func put(_ text: StaticString) {
        unsafe take(text.utf8CodeUnitCount)?.update(from: text.utf8Start, count: text.utf8CodeUnitCount)
    }

    /// Puts a text as it is.
    package mutating func put(_ text: String) {
        var text = text
        text.withUTF8 { unsafe put($0) }
    }

    /// Puts a string literal, as `JSONValue.appendQuoted` does.
    package mutating func quote(_ text: String) {
        put(0x22)
        var text = text
        text.withUTF8 { unsafe putEscaped($0) }
        put(0x22)
    }

    /// Puts what stands between the quotes of a string literal.
    ///
    /// - Parameter bytes: whole characters.
    mutating func putEscaped(_ bytes: UnsafeBufferPointer<UInt8>) {
        var start = 0
        while true {
            let end = unsafe Self.plainEnd(of: bytes, from: start)
            unsafe put(UnsafeBufferPointer(rebasing: bytes[start..<end]))
            guard end < bytes.count, !isCut else { return }
            start = end + 1
            switch unsafe bytes[end] {
            case 0x22: put(#"\""#)
            case 0x5c: put(#"\\"#)
            case 10: put(#"\n"#)
            case 13: put(#"\r"#)
            case 9: put(#"\t"#)
            case 0xc2:
                // Of the characters which begin so, those below 0xa0 are the control characters of C1.
                guard start < bytes.count else { return put(0xc2) }
                let next = unsafe bytes[start]
                start += 1
                if next < 0xa0 {
                    putCode(next)
                } else {
                    put(0xc2)
                    put(next)
                }
            case let byte: putCode(byte)
            }
        }
    }

    private mutating func putCode(_ byte: UInt8) {
        func digit(_ value: UInt8) -> UInt8 { value < 10 ? 0x30 + value : 0x57 + value }
        put(#"\u00"#)
        put(digit(byte >> 4))
        put(digit(byte & 15))
    }

    /// Where the next byte is that cannot simply be copied, or that may begin a character which cannot.
    private static func plainEnd(of bytes: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
        var at = start
        let raw = UnsafeRawBufferPointer(bytes)
        // Eight at once: a byte's highest bit tells that it is below 0x20, a quote, a backslash or above 0x7e. What one borrows or
        // carries tells so of bytes behind one that is told of, and of no other.
        let ones: UInt64 = 0x0101_0101_0101_0101
        func isPlain(_ at: Int) -> Bool {
            let word = unsafe raw.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            let below = word &- ones &* 0x20
            let quotes = (word ^ (ones &* 0x22)) &- ones
            let slashes = (word ^ (ones &* 0x5c)) &- ones
            return (below | quotes | slashes | word | (word &+ ones)) & (ones &* 0x80) == 0
        }
        while at &+ 8 <= bytes.count {
            guard isPlain(at) else { break }
            at &+= 8
        }
        // The last ones, with some that were looked at before.
        if at &- start >= 8, bytes.count &- at < 8, isPlain(bytes.count &- 8) { return bytes.count }
        // What is not ASCII is copied as well.
        while at < bytes.count {
            switch unsafe bytes[at] {
            case 0..<0x20, 0x22, 0x5c, 0x7f, 0xc2: return at
            default: at &+= 1
            }
        }
        return at
    }
}
