internal import AegisBackends
internal import AegisChannel
internal import AegisIO
internal import Synchronization

/// The channel of a sandbox that is kept ready, opened before anybody wants it.
///
/// What comes until then is kept, so that its end is noticed; whoever takes the sandbox reads on as from the channel itself.
final class HeldChannel: ByteStream {
    /// What the keeper knew when the channel was opened: nothing runs from then on until it is taken.
    let state: KeeperState
    private let sandbox: any Sandbox
    private let stream: any ByteStream
    private let held = Mutex(Held())

    private enum End { case orderly, failed(IOError) }

    private struct Held {
        var bytes: [UInt8] = []
        var end: End?
        var isReading = true
        var isTaken = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    /// More is not read before somebody wants it.
    private static let limit = 64 << 10

    /// Opens the channel of a sandbox.
    ///
    /// - Throws: when the keeper does not answer.
    init(of sandbox: any Sandbox, in scope: TaskScope) async throws {
        self.sandbox = sandbox
        (state, stream) = try await sandbox.channel()
        scope.spawn("warm-channel") { await self.keep() }
    }

    /// Whether it is the channel of this sandbox.
    func leads(to other: any Sandbox) -> Bool { sandbox === other }

    /// Tells the harness what is known of the command before the rest is: it can do a part of its work in the meantime.
    ///
    /// - Parameters:
    ///   - directory: where it will run.
    ///   - stdin: whether it will have input.
    ///   - program: its program, if that is known.
    ///   - path: where that will be looked for.
    func announceCommand(in directory: String, stdin: Bool, program: String?, path: String) async {
        guard state.version >= Channel.keptReadyVersion else { return }
        let message = StartProcess.spare(
            in: Array(directory.utf8), stdin: stdin, program: Array((program ?? "-").utf8), path: Array(path.utf8)
        ).encoded()
        guard message.count <= Channel.controlLimit else { return }
        var bytes: [UInt8] = []
        FrameHeader(.start, stream: Channel.taskProcess, length: message.count).encode(into: &bytes)
        // A channel that is broken shows that to whoever reads it.
        try? await stream.write(bytes + message)
    }

    private func keep() async {
        var goesOn = true
        while goesOn {
            var buffer = ByteBuffer()
            var end: End?
            do throws(IOError) {
                if try await stream.read(into: &buffer, atMost: Self.limit) == 0 { end = .orderly }
            } catch { end = .failed(error) }
            let (bytes, ending) = (Array(buffer.readable), end)
            let (reads, waiter) = held.withLock { held in
                held.bytes += bytes
                held.end = ending
                held.isReading = ending == nil && !held.isTaken && held.bytes.count < Self.limit
                defer { held.waiter = nil }
                return (held.isReading, held.waiter)
            }
            goesOn = reads
            waiter?.resume()
        }
    }

    private enum Next { case bytes([UInt8]), end(End), wait, own }

    func read(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError) -> Int {
        while true {
            switch held.withLock({ Self.take(&$0, limit) }) {
            case .bytes(let bytes):
                buffer.append(bytes)
                return bytes.count
            case .end(.orderly): return 0
            case .end(.failed(let error)): throw error
            case .own: return try await stream.read(into: &buffer, atMost: limit)
            case .wait:
                await news()
                if Task.isCancelled { throw .cancelled }
            }
        }
    }

    private static func take(_ held: inout Held, _ limit: Int) -> Next {
        held.isTaken = true
        if !held.bytes.isEmpty {
            let part = Array(held.bytes.prefix(limit))
            held.bytes.removeFirst(part.count)
            return .bytes(part)
        }
        if let end = held.end { return .end(end) }
        return held.isReading ? .wait : .own
    }

    /// Waits for the end of the read that is under way.
    private func news() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = held.withLock { held in
                    if !held.isReading || Task.isCancelled { return true }
                    held.waiter = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            let waiter = held.withLock { held in
                defer { held.waiter = nil }
                return held.waiter
            }
            waiter?.resume()
        }
    }

    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) { try await stream.write(bytes) }

    func closeWrite() throws(IOError) { try stream.closeWrite() }

    func close() { stream.close() }
}
