package import LinuxSys
internal import Synchronization

/// A descriptor that belongs to somebody else, as the sockets of a C library do: it is watched, and neither read nor closed.
package final class BorrowedDescriptor: PollTarget {
    private let loop: EventLoop
    private let raw: Int32
    private let token = Mutex<PollToken?>(nil)
    private let ready: @Sendable () -> Void

    /// Watches a descriptor until `end`.
    ///
    /// - Parameters:
    ///   - raw: must not block, and stay open until `end`.
    ///   - loop: who watches it.
    ///   - ready: called on the loop's thread when the descriptor becomes ready for anything, and not again for what was left.
    /// - Throws: the error of the system call.
    package init(_ raw: Int32, on loop: EventLoop, ready: @escaping @Sendable () -> Void) throws(Errno) {
        self.loop = loop
        self.raw = raw
        self.ready = ready
        try token.withLock { token throws(Errno) in token = try loop.add(raw, self) }
    }

    /// Watches it no more; before its owner closes it. Idempotent.
    package func end() {
        guard let token = token.withLock({ $0.take() }) else { return }
        loop.remove(raw, token)
    }

    func becameReady(_ readiness: Readiness) { ready() }
    func loopEnded() { end() }
}
