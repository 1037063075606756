internal import AegisChannel
package import AegisIO
package import LinuxSys
internal import Synchronization

/// One connection of a program inside an instance, by its door.
package final class DoorStream: ByteStream {
    private let door: GuestDoor
    private let number: UInt32

    init(_ door: GuestDoor, _ number: UInt32) {
        self.door = door
        self.number = number
    }

    deinit { close() }

    private static let lost = IOError(.closed, errno: .connectionReset, "the program's connection is over")

    package func read(into buffer: inout ByteBuffer, atMost: Int) async throws(IOError) -> Int {
        while true {
            let result = door.state.withLock { state -> Result<Int?, IOError> in
                guard var connection = state.connections[number] else { return .failure(.closed) }
                let count = min(atMost, connection.buffer.readableBytes)
                guard count > 0 else {
                    if connection.isReset { return .failure(Self.lost) }
                    return .success(connection.ended ? 0 : nil)
                }
                buffer.append(0..<count, of: connection.buffer)
                connection.buffer.consume(count)
                connection.read += count
                state.connections[number] = connection
                return .success(count)
            }
            if let count = try result.get() {
                if count > 0 { credit() }
                return count
            }
            guard !Task.isCancelled else { throw .cancelled }
            await wait(.reader) { state, connection in
                connection.buffer.isEmpty && !connection.ended && !connection.isReset
            }
        }
    }

    /// Grants what was read, once it is much.
    private func credit() {
        let isMuch = door.state.withLock { ($0.connections[number]?.read ?? 0) >= Door.servedWindow / 2 }
        guard isMuch else { return }
        door.tell { state in
            guard let read = state.connections[number]?.read else { return }
            state.connections[number]?.read = 0
            state.link.grant(number, read, into: &state.outgoing)
        }
    }

    package func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        var rest = bytes
        while !rest.isEmpty {
            guard !Task.isCancelled else { throw .cancelled }
            let piece = rest
            let result = door.state.withLock { state -> Result<Int, IOError> in
                guard let connection = state.connections[number] else { return .failure(.closed) }
                guard !connection.isReset, let room = state.link.room(number) else { return .failure(Self.lost) }
                let count = state.outgoing.count < GuestDoor.queueLimit ? min(room, piece.count) : 0
                guard count > 0 else { return .success(0) }
                state.outgoing.append(state.link.data(number, count: count))
                unsafe piece.prefix(count).withUnsafeBytes { unsafe state.outgoing.append($0) }
                return .success(count)
            }
            let count = try result.get()
            rest = rest.dropFirst(count)
            if count > 0 {
                door.tell { _ in }
            } else {
                await wait(.writer) { state, connection in
                    !connection.isReset
                        && (state.link.room(number) == 0
                            || state.link.room(number) != nil && state.outgoing.count >= GuestDoor.queueLimit)
                }
            }
        }
    }

    package func closeWrite() throws(IOError) {
        let isThere = door.state.withLock { $0.connections[number] != nil }
        guard isThere else { throw .closed }
        door.tell { $0.link.finish(number, into: &$0.outgoing) }
    }

    /// What was written before still arrives; what the program sends from here on is refused.
    package func close() {
        let waiters = door.state.withLock { state -> [CheckedContinuation<Void, Never>] in
            guard var connection = state.connections.removeValue(forKey: number) else { return [] }
            // After the program's last byte ours is the end. Else it is told that nobody reads, which cuts nothing off that was
            // sent: the harness gives it first.
            state.link.finish(number, into: &state.outgoing)
            state.link.reset(number, into: &state.outgoing)
            return connection.takeWaiters()
        }
        for waiter in waiters { waiter.resume() }
        door.tell { _ in }
    }

    /// The harness tells of a program that took no more; of one that sends no more it does not know whether it is there.
    package var presence: PeerPresence {
        door.state.withLock { $0.connections[number]?.isReset ?? true } ? .gone : .unknown
    }

    private enum Place { case reader, writer }

    /// Waits for a change while `condition` holds.
    private func wait(
        _ place: Place, while condition: @Sendable (GuestDoor.State, GuestDoor.Connection) -> Bool
    ) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = door.state.withLock { state -> Bool in
                    guard var connection = state.connections[number], condition(state, connection), !Task.isCancelled
                    else { return true }
                    switch place {
                    case .reader: connection.reader = continuation
                    case .writer: connection.writer = continuation
                    }
                    state.connections[number] = connection
                    return false
                }
                if now { continuation.resume() }
            }
        } onCancel: {
            // Whoever else waits looks again, and goes on waiting.
            let waiters = door.state.withLock { state in state.connections[number]?.takeWaiters() ?? [] }
            for waiter in waiters { waiter.resume() }
        }
    }
}
