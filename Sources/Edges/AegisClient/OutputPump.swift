internal import AegisCore
internal import AegisIO
internal import AegisWire
internal import LinuxSys
internal import Synchronization

/// Writes one output stream while others go on; what waits is bounded by the credit that the sender has.
final class OutputPump: Sendable {
    private struct Queue {
        var chunks: [ArraySlice<UInt8>] = []
        var finished = false
    }
    let kind: StreamFrame.Kind
    private let stream: any ByteStream
    private let queue = Mutex(Queue())
    private let changed = Signal()

    init(_ stream: any ByteStream, _ kind: StreamFrame.Kind) {
        self.stream = stream
        self.kind = kind
    }

    /// Takes bytes to be written.
    func add(_ bytes: ArraySlice<UInt8>) {
        queue.withLock { $0.chunks.append(bytes) }
        changed.set()
    }

    /// Nothing more comes: `run` returns when all is written.
    func finish() {
        queue.withLock { $0.finished = true }
        changed.set()
    }

    /// Writes until `finish`, telling after each chunk how many bytes are out.
    ///
    /// - Throws: `OutputClosed` when nobody reads stdout any more (stderr is then dropped in silence), `output-failed`.
    func run(written: (Int) -> Void) async throws {
        var dropping = false
        while true {
            let (chunks, finished) = queue.withLock { queue in
                defer { queue.chunks = [] }
                return (queue.chunks, queue.finished)
            }
            for chunk in chunks {
                if !dropping { dropping = try await write(chunk) }
                written(chunk.count)
            }
            if chunks.isEmpty {
                if finished { return }
                await changed.wait()
                if Task.isCancelled { throw IOError.cancelled }
            }
        }
    }

    /// - Returns: whether the reader is gone and what follows is dropped.
    private func write(_ chunk: ArraySlice<UInt8>) async throws -> Bool {
        do throws(IOError) {
            try await stream.write(chunk)
            return false
        } catch {
            guard error.kind != .cancelled else { throw error }
            guard kind == .stdout else { return true }
            if error.errno == .brokenPipe { throw OutputClosed() }
            throw AegisError.failed("output-failed", "standard output: \(error)")
        }
    }
}
