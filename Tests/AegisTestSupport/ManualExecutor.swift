internal import Synchronization

/// A task executor that runs nothing until a test says so, on the test's own thread.
package final class ManualExecutor: TaskExecutor, Sendable {
    private let jobs = Mutex<[UnownedJob]>([])

    /// An executor with nothing to do.
    package init() {}

    /// How many jobs wait.
    package var waitingCount: Int { jobs.withLock { $0.count } }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
    }

    /// Runs jobs, and those that they enqueue, until none is left.
    package func drain() {
        while true {
            let ready = jobs.withLock { jobs in
                defer { jobs = [] }
                return jobs
            }
            if ready.isEmpty { return }
            for job in ready { unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
        }
    }
}
