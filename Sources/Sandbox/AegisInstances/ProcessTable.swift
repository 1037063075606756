internal import AegisChannel
internal import AegisSessions
internal import Synchronization

/// The processes of one sandbox: hands what the channel says to their relays.
final class ProcessTable: SessionSink {
    private struct State {
        var relays: [UInt16: ProcessRelay] = [:]
        var next: UInt16 = 2
        var door: GuestDoor?
    }
    private let state = Mutex(State())
    private let onExit: @Sendable (UInt16, ProcessExited) -> Void

    init(onExit: @escaping @Sendable (UInt16, ProcessExited) -> Void) { self.onExit = onExit }

    subscript(_ number: UInt16) -> ProcessRelay? { state.withLock { $0.relays[number] } }

    func add(_ relay: ProcessRelay) { state.withLock { $0.relays[relay.number] = relay } }

    /// What comes by the door's number is the door's.
    func set(_ door: GuestDoor?) { state.withLock { $0.door = door } }

    private func door(_ number: UInt16) -> GuestDoor? {
        guard number >= Door.earlyProcess, let door = state.withLock({ $0.door }) else { return nil }
        return door.number == number ? door : nil
    }

    func remove(_ number: UInt16) { state.withLock { _ = $0.relays.removeValue(forKey: number) } }

    /// A process number that is not in use; nil when all are.
    func freeNumber() -> UInt16? {
        state.withLock { state in
            for _ in 0..<UInt16.max {
                let number = state.next
                // The last numbers are the door's.
                state.next = number == Door.earlyProcess - 1 ? 2 : number + 1
                if state.relays[number] == nil { return number }
            }
            return nil
        }
    }

    /// Every relay whose process has no exit record is told that it is lost. The command's own stays for a client that
    /// comes back late: it may hold the last output, which is bounded by the keeper's credit.
    func sandboxEnded() {
        let relays = state.withLock { state in
            defer { state.relays = state.relays.filter { $0.key == Channel.taskProcess } }
            return Array(state.relays.values)
        }
        for relay in relays { relay.sandboxEnded() }
    }

    func output(process: UInt16, _ kind: OutputKind, offset: UInt64, bytes: ArraySlice<UInt8>, end: Bool) {
        if let door = door(process) { return door.output(kind, offset: offset, bytes: bytes) }
        // A number that we did not give out: a hostile harness. Its stream gets no credit and stalls by itself.
        self[process]?.output(kind, offset: offset, bytes: bytes)
    }

    func exited(process: UInt16, _ end: ProcessExited) {
        if let door = door(process) { return door.ended() }
        self[process]?.exited(end)
        onExit(process, end)
    }
}
