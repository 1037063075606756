package import AegisIO
internal import Synchronization

/// Frames of aegis-stream/1 over a byte stream: one task reads, any number of tasks write.
///
/// Frames of different writers never mix: each goes out whole, in the order in which the writers came.
package final class FrameConnection: Sendable {
    private struct Reader {
        var buffer = ByteBuffer()
        var decoder = StreamFrameDecoder()
        var isReading = false
    }

    private let stream: any ByteStream
    private let reader = Mutex(Reader())
    private let writers = Turnstile()
    private let failure = Mutex<StreamFrameError?>(nil)

    /// Takes over a stream that speaks frames from its next byte on.
    package init(_ stream: any ByteStream) { self.stream = stream }

    /// Waits for the next frame.
    ///
    /// - Returns: nil at an end of the stream between two frames.
    /// - Throws: `.malformed` for what version 1 does not define, `.closed` for an end within a frame, `.cancelled`
    ///   (nothing is lost: another call goes on).
    package func readFrame() async throws(StreamFrameError) -> StreamFrame? {
        try reader.withLock { reader throws(StreamFrameError) in
            guard !reader.isReading else { throw StreamFrameError(.busy, "two tasks read frames at once") }
            reader.isReading = true
        }
        defer { reader.withLock { $0.isReading = false } }
        while true {
            let (frame, needed) = try reader.withLock { reader throws(StreamFrameError) in
                var cursor = 0
                let frame = try reader.decoder.frame(reader.buffer.readable.span, &cursor)
                reader.buffer.consume(cursor)
                return (frame, reader.decoder.needed - reader.buffer.readableBytes)
            }
            if let frame { return frame }
            guard try await readMore(atLeast: needed) else { return nil }
        }
    }

    private func readMore(atLeast needed: Int) async throws(StreamFrameError) -> Bool {
        var buffer = reader.withLock { reader in
            defer { reader.buffer = ByteBuffer() }
            return reader.buffer
        }
        var count = 0
        var failure: IOError?
        do throws(IOError) {
            count = try await stream.read(into: &buffer, atMost: max(64 << 10, needed))
        } catch { failure = error }
        let isClean = reader.withLock { reader in
            reader.buffer = buffer
            return reader.decoder.isBetweenFrames && buffer.isEmpty
        }
        if let failure { throw StreamFrameError(failure) }
        guard count > 0 || isClean else { throw StreamFrameError(.closed, "the stream ended within a frame") }
        return count > 0
    }

    /// Sends one frame; waits while the peer is slow.
    ///
    /// - Throws: `.malformed` for a frame that version 1 does not allow, `.closed`, `.cancelled`. A frame that was cut
    ///   short ends all writing: the peer could not find the next one.
    package func write(_ frame: StreamFrame) async throws(StreamFrameError) {
        try await send(try frame.encoded())
    }

    /// Sends bytes of a process without making a frame of them first; more than 256 KiB go in several frames.
    ///
    /// - Parameters:
    ///   - kind: stdin, stdout or stderr.
    ///   - bytes: what to send; none with `end` tells the end alone.
    ///   - stream: which process.
    ///   - end: whether nothing follows.
    /// - Throws: as `write(_:)`.
    package func write(
        _ kind: StreamFrame.Kind, _ bytes: ArraySlice<UInt8>, stream: UInt16 = 0, end: Bool = false
    ) async throws(StreamFrameError) {
        var rest = bytes
        repeat {
            let piece = rest.prefix(StreamFrame.maximumPayload)
            rest = rest.dropFirst(piece.count)
            let header = StreamFrame.Header(
                kind: kind, flags: end && rest.isEmpty ? .end : [], stream: stream, length: piece.count)
            try header.validate()
            var out: [UInt8] = []
            out.reserveCapacity(StreamFrame.headerSize + piece.count)
            header.append(to: &out)
            out.append(contentsOf: piece)
            try await send(out)
        } while !rest.isEmpty
    }

    private func send(_ bytes: [UInt8]) async throws(StreamFrameError) {
        guard await writers.enter() else { throw StreamFrameError(.cancelled, "cancelled before the frame was sent") }
        defer { writers.leave() }
        if let failure = failure.withLock({ $0 }) { throw failure }
        do throws(IOError) {
            try await stream.write(bytes[...])
        } catch {
            let failed = StreamFrameError(error)
            failure.withLock { $0 = StreamFrameError(.closed, "an earlier frame was cut short: \(error.message)") }
            throw failed
        }
    }

    /// Tells the peer that no frame follows; reading goes on.
    package func closeWrite() throws(StreamFrameError) {
        do throws(IOError) { try stream.closeWrite() } catch { throw StreamFrameError(error) }
    }

    /// Ends both directions at once.
    package func close() { stream.close() }
}

/// Lets tasks through one at a time, in the order in which they came.
final class Turnstile: Sendable {
    private struct State {
        var busy = false
        var next = 0
        var waiting: [(id: Int, continuation: CheckedContinuation<Bool, Never>)] = []
    }
    private let state = Mutex(State())

    /// Waits for the turn; false when the task was cancelled before it came (then there is nothing to leave).
    func enter() async -> Bool {
        let id = state.withLock { state -> Int? in
            guard state.busy else {
                state.busy = true
                return nil
            }
            state.next += 1
            return state.next
        }
        guard let id else { return true }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let answer = state.withLock { state -> Bool? in
                    if Task.isCancelled { return false }
                    guard state.busy else {
                        state.busy = true
                        return true
                    }
                    state.waiting.append((id, continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0).continuation }
            }
            waiter?.resume(returning: false)
        }
    }

    /// Hands the turn on.
    func leave() {
        let next = state.withLock { state -> CheckedContinuation<Bool, Never>? in
            guard !state.waiting.isEmpty else {
                state.busy = false
                return nil
            }
            return state.waiting.removeFirst().continuation
        }
        next?.resume(returning: true)
    }
}
