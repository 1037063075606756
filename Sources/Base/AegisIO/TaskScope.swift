internal import Synchronization

/// Tasks that outlive the call which starts them but not the scope: the daemon's composition root owns one, ends it
/// at shutdown and waits for it. It is the only place that starts unstructured tasks.
package final class TaskScope: Sendable {
    /// A task of the scope.
    package struct Handle: Sendable {
        fileprivate let task: Task<Void, Never>
        /// Cancels the task.
        package func cancel() { task.cancel() }
        /// Waits until the task has ended.
        package func wait() async { await task.value }
    }

    private struct State {
        var tasks: [UInt64: Task<Void, Never>] = [:]
        var next: UInt64 = 0
        var ended = false
    }
    private let state = Mutex(State())
    private let executor: any TaskExecutor

    /// Makes a scope whose tasks run on an executor.
    package init(on executor: any TaskExecutor) { self.executor = executor }

    /// Starts a task. After `end` the task is started cancelled, so that what it owns is still released.
    @discardableResult
    package func spawn(_ name: String, _ body: @escaping @Sendable () async -> Void) -> Handle {
        // The entry is made before the task can end, so the task always finds its entry to remove.
        let (number, cancelled) = state.withLock { state in
            state.next += 1
            return (state.next, state.ended)
        }
        let gate = Gate()
        // Unstructured: `end` cancels and awaits every task of the scope.
        let task = Task(name: name, executorPreference: executor) {
            await gate.wait()
            await body()
            self.state.withLock { _ = $0.tasks.removeValue(forKey: number) }
        }
        state.withLock { $0.tasks[number] = task }
        if cancelled { task.cancel() }
        gate.open()
        return Handle(task: task)
    }

    /// Cancels every task and waits for all of them.
    package func end() async {
        let tasks = state.withLock { state in
            state.ended = true
            return Array(state.tasks.values)
        }
        for task in tasks { task.cancel() }
        while let task = state.withLock({ $0.tasks.values.first }) { await task.value }
    }
}

/// Lets one task through once it is open.
private final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    func wait() async {
        await withCheckedContinuation { continuation in
            let open = state.withLock { state in
                if !state.isOpen { state.waiter = continuation }
                return state.isOpen
            }
            if open { continuation.resume() }
        }
    }

    func open() {
        let waiter = state.withLock { state in
            state.isOpen = true
            return state.waiter
        }
        waiter?.resume()
    }
}
