/// Which side of a pipe waits.
enum PipeSide: Sendable { case reader, writer }

/// Why a waiter was resumed: to look again, or for good.
enum PipeWake: Sendable { case ready, cancelled, busy }

/// Whoever waits, by a name that is never used twice.
protocol PipeWaiter: Sendable { var id: UInt64 { get } }

/// The state of a bounded pipe, without tasks: methods say what to do, the owner does it outside its lock.
struct PipeMachine<Waiter: PipeWaiter>: Sendable {
    enum Taken: Sendable, Equatable { case bytes([UInt8]), end, closed, wait }
    enum Given: Sendable, Equatable { case took(Int), closed, wait }

    private let capacity: Int
    private var buffer = ByteBuffer()
    private var reader: Waiter?
    private var writer: Waiter?
    private var writeClosed = false
    private var closed = false

    init(capacity: Int) { self.capacity = capacity }

    /// Bytes written and not yet read.
    var count: Int { buffer.readableBytes }

    /// Takes bytes; the second value is a writer to resume.
    mutating func read(atMost limit: Int) -> (Taken, Waiter?) {
        if closed { return (.closed, nil) }
        if buffer.isEmpty { return (writeClosed ? .end : .wait, nil) }
        let bytes = buffer.take(min(limit, buffer.readableBytes))
        return (.bytes(bytes), takeWriter())
    }

    /// Stores as many bytes as fit; the second value is a reader to resume.
    mutating func write(_ bytes: ArraySlice<UInt8>) -> (Given, Waiter?) {
        if closed || writeClosed { return (.closed, nil) }
        let room = capacity - buffer.readableBytes
        if room == 0 { return (.wait, nil) }
        let part = bytes.prefix(room)
        buffer.append(part)
        return (.took(part.count), takeReader())
    }

    /// Stores a waiter; a value means that there is no reason to wait.
    mutating func wait(_ side: PipeSide, _ waiter: Waiter) -> PipeWake? {
        switch side {
        case .reader:
            if closed || writeClosed || !buffer.isEmpty { return .ready }
            if reader != nil { return .busy }
            reader = waiter
        case .writer:
            if closed || writeClosed || buffer.readableBytes < capacity { return .ready }
            if writer != nil { return .busy }
            writer = waiter
        }
        return nil
    }

    /// Takes a cancelled waiter out; nil when it is not waiting (any more).
    mutating func forget(_ side: PipeSide, _ id: UInt64) -> Waiter? {
        switch side {
        case .reader: reader?.id == id ? takeReader() : nil
        case .writer: writer?.id == id ? takeWriter() : nil
        }
    }

    /// No more bytes come; what is there can still be read.
    mutating func closeWrite() -> [Waiter] {
        writeClosed = true
        return [takeReader(), takeWriter()].compactMap(\.self)
    }

    /// Nothing goes through any more, and what is there is dropped.
    mutating func close() -> [Waiter] {
        closed = true
        buffer = ByteBuffer()
        return [takeReader(), takeWriter()].compactMap(\.self)
    }

    private mutating func takeReader() -> Waiter? {
        defer { reader = nil }
        return reader
    }

    private mutating func takeWriter() -> Waiter? {
        defer { writer = nil }
        return writer
    }
}
