internal import LinuxSys
internal import Synchronization

/// Bytes from one task to another, in memory, with a bound: a writer waits while the reader is behind.
///
/// What is written to a pipe is read from the same pipe; see `pair` for two connected streams.
package final class BytePipe: ByteStream {
    private let machine: Mutex<PipeMachine<Waiter>>
    private let nextWait = Atomic<UInt64>(0)

    /// A suspended reader or writer: a name, and what resumes it.
    fileprivate struct Waiter: PipeWaiter {
        let id: UInt64
        let continuation: CheckedContinuation<PipeWake, Never>
    }

    /// A pipe that holds up to `capacity` bytes (at least 1).
    package init(capacity: Int = 64 << 10) { machine = Mutex(PipeMachine(capacity: max(1, capacity))) }

    /// Two streams, each of which reads what the other writes.
    package static func pair(capacity: Int = 64 << 10) -> (any ByteStream, any ByteStream) {
        let there = BytePipe(capacity: capacity)
        let back = BytePipe(capacity: capacity)
        return (DuplexPipe(reading: back, writing: there), DuplexPipe(reading: there, writing: back))
    }

    /// How many bytes wait to be read.
    package var bufferedBytes: Int { machine.withLock { $0.count } }

    package func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        precondition(limit > 0, "a read of nothing")
        while true {
            if Task.isCancelled { throw .cancelled }
            let (taken, woken) = machine.withLock { $0.read(atMost: limit) }
            woken?.resume(.ready)
            switch taken {
            case .bytes(let bytes):
                buffer.append(bytes)
                return bytes.count
            case .end: return 0
            case .closed: throw .closed
            case .wait: try await wait(.reader)
            }
        }
    }

    package func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        var rest = bytes
        while !rest.isEmpty {
            if Task.isCancelled { throw .cancelled }
            let (given, woken) = machine.withLock { $0.write(rest) }
            woken?.resume(.ready)
            switch given {
            case .took(let count): rest = rest.dropFirst(count)
            case .closed: throw .closed
            case .wait: try await wait(.writer)
            }
        }
    }

    package func closeWrite() throws(IOError) {
        for waiter in machine.withLock({ $0.closeWrite() }) { waiter.resume(.ready) }
    }

    package func close() {
        for waiter in machine.withLock({ $0.close() }) { waiter.resume(.ready) }
    }

    private func wait(_ side: PipeSide) async throws(IOError) {
        let id = nextWait.add(1, ordering: .relaxed).newValue
        let wake = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let immediate = machine.withLock { machine -> PipeWake? in
                    // A handler that ran before this point found nobody to resume.
                    if Task.isCancelled { return .cancelled }
                    return machine.wait(side, Waiter(id: id, continuation: continuation))
                }
                if let immediate { continuation.resume(returning: immediate) }
            }
        } onCancel: {
            machine.withLock { $0.forget(side, id) }?.resume(.cancelled)
        }
        switch wake {
        case .ready: return
        case .cancelled: throw .cancelled
        case .busy: throw .system(.busy, "\(side == .reader ? "reading" : "writing") from two tasks at once")
        }
    }
}

extension BytePipe.Waiter {
    fileprivate func resume(_ wake: PipeWake) { continuation.resume(returning: wake) }
}

/// One end of two pipes laid in opposite directions.
private final class DuplexPipe: ByteStream {
    private let incoming: BytePipe
    private let outgoing: BytePipe

    init(reading incoming: BytePipe, writing outgoing: BytePipe) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    deinit { close() }

    func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        try await incoming.read(into: &buffer, atMost: limit)
    }
    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) { try await outgoing.write(bytes) }
    func closeWrite() throws(IOError) { try outgoing.closeWrite() }

    /// The peer still reads what was written, as over a socket; it can write no more.
    func close() {
        try? outgoing.closeWrite()
        incoming.close()
    }
}
