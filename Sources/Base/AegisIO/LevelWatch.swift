internal import CLinux
package import LinuxSys
internal import Synchronization

/// Descriptors that a C library owns and wants to be told about.
///
/// Such libraries expect readiness to be told for as long as it lasts, and the loop tells it once. So they have a readiness
/// queue of their own, which the loop watches as one descriptor.
package final class LevelWatch: PollTarget {
    /// What a descriptor is ready for.
    package struct Event: Sendable {
        /// The kernel's number.
        package var descriptor: Int32
        /// There are bytes, or the end of them.
        package var canRead: Bool
        /// There is room.
        package var canWrite: Bool
        /// The connection has failed or is over in both directions.
        package var hasFailed: Bool
    }

    private struct State {
        var token: PollToken?
        var isClosed = false
        /// Another look was asked for.
        var looksAgain = false
    }

    private let loop: EventLoop
    private let queue: FileDescriptor
    private let state = Mutex(State())
    private let onEvents: @Sendable ([Event]) -> Void
    private let onEnd: @Sendable () -> Void

    /// Starts to watch; nothing is watched until `set`.
    ///
    /// - Parameters:
    ///   - loop: on whose thread everything here happens.
    ///   - onEvents: is told what is ready, again and again until it is not any more.
    ///   - onEnd: is told that the loop ends.
    /// - Throws: the error of the system call.
    package init(
        on loop: EventLoop, onEvents: @escaping @Sendable ([Event]) -> Void, onEnd: @escaping @Sendable () -> Void
    ) throws(Errno) {
        self.loop = loop
        self.onEvents = onEvents
        self.onEnd = onEnd
        queue = try FileDescriptor(checking: al_level_create())
        let token = try loop.add(queue.raw, self)
        state.withLock { $0.token = token }
    }

    /// Watches a descriptor for the given directions from now on; none forgets it. A descriptor is forgotten before it is closed.
    package func set(_ descriptor: Int32, read: Bool, write: Bool) {
        let directions = (read ? UInt32(AL_READY_READ) : 0) | (write ? UInt32(AL_READY_WRITE) : 0)
        // A descriptor that cannot be watched is closed already: its library finds out by itself.
        _ = al_level_set(queue.raw, descriptor, directions)
    }

    /// Watches nothing any more. Idempotent.
    package func close() {
        let token = state.withLock { state in
            state.isClosed = true
            defer { state.token = nil }
            return state.token
        }
        if let token { loop.remove(queue.raw, token) }
    }

    func becameReady(_ readiness: Readiness) { look() }

    func loopEnded() {
        close()
        onEnd()
    }

    private func look() {
        if state.withLock({ $0.isClosed }) { return }
        var found = [al_ready](repeating: al_ready(), count: 64)
        let count = unsafe found.withUnsafeMutableBufferPointer { room in
            unsafe al_level_take(queue.raw, room.baseAddress, Int32(room.count))
        }
        guard count > 0 else { return }
        onEvents(
            found.prefix(Int(count)).map { event in
                Event(
                    descriptor: Int32(truncatingIfNeeded: event.token),
                    canRead: event.events & UInt32(AL_READY_READ) != 0,
                    canWrite: event.events & UInt32(AL_READY_WRITE) != 0,
                    hasFailed: event.events & UInt32(AL_READY_HANGUP) != 0)
            })
        lookAgain()
    }

    /// What is still ready is no news to the loop: somebody has to ask. Tasks and other descriptors come in between.
    private func lookAgain() {
        let first = state.withLock { state in
            defer { state.looksAgain = true }
            return !state.looksAgain && !state.isClosed
        }
        guard first else { return }
        loop.call { [weak self] isDue in
            guard let self else { return }
            state.withLock { $0.looksAgain = false }
            if isDue { look() }
        }
    }
}
