internal import LinuxSys
internal import Synchronization

/// A child from its start to its reaping, and those who wait for it. The loop keeps it until the child has ended.
final class ChildLife: PollTarget {
    enum End: Sendable {
        case ended(ExitStatus)
        case cancelled
        case timedOut
        case loopEnded
        /// Something else reaped it: how it ended is not known.
        case lost
    }

    private struct State: ~Copyable {
        /// Gone once the child is reaped.
        var handle: ProcessHandle?
        var token: PollToken?
        var end: End?
        var waiters: [UInt64: OneShot<End>] = [:]
        var nextWaiter: UInt64 = 0
    }

    let loop: EventLoop
    private let state: Mutex<State>

    init(_ process: consuming ProcessHandle, on loop: EventLoop) {
        self.loop = loop
        state = Mutex(State(handle: process))
    }

    /// Starts to wait for the end; a child that cannot be watched is killed and reaped here.
    func watch() throws(IOError) {
        let failure = state.withLock { state -> Errno? in
            switch state.handle {
            case .some(let handle):
                do throws(Errno) {
                    state.token = try loop.add(handle.descriptor.raw, self)
                    return nil
                } catch {
                    try? handle.signal(9)
                    _ = try? handle.reapWaiting()
                    return error
                }
            case .none: return nil
            }
        }
        guard let failure else { return }
        throw .system(failure, "watching a child")
    }

    var status: ExitStatus? {
        state.withLock { state in
            if case .ended(let status) = state.end { return status }
            return nil
        }
    }

    /// Waits for the end, a time of `SystemTime.monotonic`, or the task's cancellation where that counts.
    func wait(honoursCancellation: Bool, until deadline: UInt64?) async -> End {
        let shot = OneShot<End>()
        let id = state.withLock { state -> UInt64 in
            if let end = state.end { shot.finish(end) } else { state.waiters[state.nextWaiter] = shot }
            state.nextWaiter += 1
            return state.nextWaiter - 1
        }
        let timer = deadline.map { loop.schedule(at: $0) { _ in shot.finish(.timedOut) } }
        let end: End
        if honoursCancellation {
            end = await withTaskCancellationHandler {
                await shot.value()
            } onCancel: {
                shot.finish(.cancelled)
            }
        } else {
            end = await shot.value()
        }
        if let timer { loop.cancelTimer(timer) }
        state.withLock { $0.waiters[id] = nil }
        return end
    }

    func signal(_ number: Int32) -> Bool {
        state.withLock { state in
            switch state.handle {
            case .some(let handle): return (try? handle.signal(number)) != nil
            case .none: return false
            }
        }
    }

    /// Under the lock the leader is unreaped, so its number cannot belong to somebody else's group.
    func signalGroup(_ number: Int32, _ pid: Int32) -> Bool {
        state.withLock { state in
            guard state.end == nil else { return false }
            return (try? signalProcessGroup(pid, number)) != nil
        }
    }

    func becameReady(_ readiness: Readiness) {
        let waiters = state.withLock { state -> (End, [OneShot<End>])? in
            switch state.handle {
            case .some(let handle):
                do throws(Errno) {
                    guard let status = try handle.reap() else { return nil }
                    state.end = .ended(status)
                } catch { state.end = .lost }
                if let token = state.token { loop.remove(handle.descriptor.raw, token) }
            case .none: return nil
            }
            state.handle = nil
            return Self.takeWaiters(&state)
        }
        if let (end, waiters) = waiters { for waiter in waiters { waiter.finish(end) } }
    }

    func loopEnded() {
        let waiters = state.withLock { state -> (End, [OneShot<End>])? in
            if state.end == nil { state.end = .loopEnded }
            return Self.takeWaiters(&state)
        }
        if let (end, waiters) = waiters { for waiter in waiters { waiter.finish(end) } }
    }

    private static func takeWaiters(_ state: inout State) -> (End, [OneShot<End>])? {
        guard let end = state.end else { return nil }
        defer { state.waiters = [:] }
        return (end, Array(state.waiters.values))
    }
}
