package import AegisIO
internal import Synchronization

/// Bytes on their way to a stream: any task appends whole frames, one task writes them in order.
///
/// It needs no bound of its own: what is appended is bounded by credit (process data) or by the requests in flight
/// (control), and a peer that stops reading is noticed by the health check, not by a full queue.
package final class Outbox: Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var closed = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    /// Makes an empty outbox.
    package init() {}

    /// Appends bytes; they are dropped if the outbox is closed.
    package func append(_ fill: (inout [UInt8]) -> Void) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.closed else { return nil }
            fill(&state.bytes)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Ends `drain` once what is there was written.
    package func close() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            state.closed = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    /// Writes until the outbox is closed, the task is cancelled or the stream breaks.
    package func drain(to stream: any ByteStream) async throws(IOError) {
        while let batch = await next() { try await stream.write(batch[...]) }
    }

    private func next() async -> [UInt8]? {
        while true {
            let (batch, ended) = state.withLock { state -> ([UInt8], Bool) in
                let batch = state.bytes
                state.bytes = []
                return (batch, state.closed)
            }
            if !batch.isEmpty { return batch }
            if ended || Task.isCancelled { return nil }
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in
                    let now = state.withLock { state -> Bool in
                        if !state.bytes.isEmpty || state.closed || Task.isCancelled { return true }
                        state.waiter = continuation
                        return false
                    }
                    if now { continuation.resume() }
                }
            } onCancel: {
                close()
            }
        }
    }
}
