/// Who waits for which pull: a pure state machine.
///
/// One pull serves all who want the same image; at most `limit` pulls run, the others wait in order. A pull whose last
/// waiter has left is cancelled, and no longer joined by newcomers.
struct PullTable: Sendable {
    /// What has to be done after an event.
    enum Action: Equatable, Sendable {
        /// Begin the work of this job.
        case start(Int)
        /// Cancel the work of this running job.
        case cancel(Int)
        /// Answer these waiters with the job's result.
        case answer([Int])
        /// Tell the waiter that it was cancelled.
        case abandon(Int)
        /// Too many wait: refuse the waiter.
        case refuse(Int)
    }

    private struct Job {
        var key: String
        var waiters: Set<Int>
        var running: Bool
        var cancelled = false
    }

    private let limit: Int
    private let waiting: Int
    private var jobs: [Int: Job] = [:]
    private var byKey: [String: Int] = [:]
    private var queue: [Int] = []
    private var running = 0
    private var nextJob = 0

    /// Makes a table for `limit` pulls at a time and `waiting` waiters in all.
    init(limit: Int, waiting: Int) {
        self.limit = limit
        self.waiting = waiting
    }

    /// The jobs that wait for their turn or run.
    var jobCount: Int { jobs.count }
    /// What a job is for.
    func key(_ job: Int) -> String? { jobs[job]?.key }
    /// Who waits for a job.
    func waiters(_ job: Int) -> Set<Int> { jobs[job]?.waiters ?? [] }
    /// The job of this waiter.
    func job(of waiter: Int) -> Int? { jobs.first { $0.value.waiters.contains(waiter) }?.key }

    /// A waiter wants what `key` names.
    mutating func join(_ waiter: Int, _ key: String) -> [Action] {
        guard jobs.values.reduce(0, { $0 + $1.waiters.count }) < waiting else { return [.refuse(waiter)] }
        if let job = byKey[key] {
            jobs[job]?.waiters.insert(waiter)
            return []
        }
        let job = nextJob
        nextJob += 1
        jobs[job] = Job(key: key, waiters: [waiter], running: false)
        byKey[key] = job
        queue.append(job)
        return startNext()
    }

    /// A waiter no longer wants it. One that has had its answer, or never joined, is no event.
    mutating func leave(_ waiter: Int) -> [Action] {
        guard let (id, job) = jobs.first(where: { $0.value.waiters.contains(waiter) }) else { return [] }
        jobs[id]?.waiters.remove(waiter)
        guard job.waiters.count == 1 else { return [.abandon(waiter)] }
        byKey[job.key] = nil
        guard job.running else {
            jobs[id] = nil
            queue.removeAll { $0 == id }
            return [.abandon(waiter)]
        }
        jobs[id]?.cancelled = true
        return [.abandon(waiter), .cancel(id)]
    }

    /// The work of a job has ended, well or not.
    mutating func finished(_ id: Int) -> [Action] {
        guard let job = jobs.removeValue(forKey: id), job.running else { return [] }
        running -= 1
        if byKey[job.key] == id { byKey[job.key] = nil }
        return (job.waiters.isEmpty ? [] : [.answer(job.waiters.sorted())]) + startNext()
    }

    private mutating func startNext() -> [Action] {
        var actions: [Action] = []
        while running < limit, !queue.isEmpty {
            let id = queue.removeFirst()
            jobs[id]?.running = true
            running += 1
            actions.append(.start(id))
        }
        return actions
    }
}
