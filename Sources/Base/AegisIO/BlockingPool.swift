internal import AegisCore
internal import CLinux
internal import LinuxSys
internal import Synchronization

/// A few threads for calls that block: fsync, database commits, walks over file trees.
///
/// Threads start when they are needed and stay. Work waits in a queue with a bound.
package final class BlockingPool: Sendable {
    /// The process's pool: 4 threads, 4096 waiting calls.
    package static let shared = BlockingPool(threads: 4, queueLimit: 4096)

    private struct State {
        private var queue: [(@Sendable () -> Void)?] = []
        private var head = 0
        var threads = 0
        var idle = 0

        /// How many calls wait.
        var count: Int { queue.count - head }

        mutating func push(_ work: @escaping @Sendable () -> Void) { queue.append(work) }

        mutating func pop() -> (@Sendable () -> Void)? {
            guard head < queue.count else { return nil }
            defer {
                queue[head] = nil
                head += 1
                if head == queue.count {
                    queue.removeAll(keepingCapacity: true)
                    head = 0
                }
            }
            return queue[head]
        }
    }
    private let state = Mutex(State())
    private let limit: Int
    private let queueLimit: Int
    /// One count per queued call.
    private let semaphore: FileDescriptor

    /// A pool with threads of its own, which live as long as the process.
    package init(threads: Int, queueLimit: Int) {
        limit = max(1, threads)
        self.queueLimit = queueLimit
        let descriptor = al_eventfd(1, 0)
        // A process that cannot have one descriptor for its pool, made once at its start, cannot work at all.
        precondition(descriptor >= 0, "no semaphore for the pool: \(Errno.current)")
        semaphore = FileDescriptor(owning: descriptor)
    }

    /// Runs `body` on a thread of the pool and waits for it.
    ///
    /// A cancelled call that has not started never starts; one that runs is waited for, because it cannot be stopped.
    ///
    /// - Throws: what `body` throws; `CancellationError`; `EAGAIN` as an `IOError` when too many calls wait.
    package func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        let shot = OneShot<Result<T, any Error>>()
        let claim = Claim()
        let origin = WorkOrigin.current
        return try await withTaskCancellationHandler {
            if Task.isCancelled { throw CancellationError() }
            try submit {
                guard claim.take() else { return }
                shot.finish(Result { try WorkOrigin.$current.withValue(origin, operation: body) })
            }
            return try await shot.value().get()
        } onCancel: {
            if claim.take() { shot.finish(.failure(CancellationError())) }
        }
    }

    /// Decides once between starting a call and cancelling it.
    private final class Claim: Sendable {
        private let taken = Atomic<Bool>(false)
        func take() -> Bool { !taken.exchange(true, ordering: .acquiringAndReleasing) }
    }

    private func submit(_ work: @escaping @Sendable () -> Void) throws(IOError) {
        let startsThread = try state.withLock { state throws(IOError) -> Bool in
            guard state.count < queueLimit else {
                throw .system(.wouldBlock, "\(queueLimit) blocking calls wait already")
            }
            state.push(work)
            guard state.count > state.idle, state.threads < limit else { return false }
            state.threads += 1
            return true
        }
        if startsThread { try startThread() }
        var one: UInt64 = 1
        _ = unsafe al_write_counter(semaphore.raw, &one)
    }

    private func startThread() throws(IOError) {
        do throws(Errno) { try SystemThread.start(name: "aegis-blocking") { self.work() } } catch {
            // With other threads there the call still gets its turn.
            let remaining = state.withLock { state in
                state.threads -= 1
                return state.threads
            }
            if remaining == 0 { throw .system(error, "starting a thread") }
        }
    }

    private func work() {
        al_thread_set_lasting(1)
        while true {
            state.withLock { $0.idle += 1 }
            // Cannot fail: the semaphore is open and blocks.
            precondition(al_take_counter(semaphore.raw) == 0, "the pool's semaphore failed: \(Errno.current)")
            let next = state.withLock { state in
                state.idle -= 1
                return state.pop()
            }
            next?()
        }
    }
}
