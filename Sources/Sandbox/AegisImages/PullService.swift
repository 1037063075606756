import AegisCore
import AegisIO
import AegisSandboxTypes
import Synchronization

/// One thing to bring into the store.
struct PullJob: Sendable {
    var reference: ImageReference
    /// What may be used for it.
    var standing = ImageCaller.Standing.administrator
    /// An image of this machine, as the caller opened it.
    var source: LocalSource?
    /// Who wants it, if it is a user.
    var user: UInt32?
    /// The caller's own credentials.
    var credentials: RegistryCredentials?

    /// Two jobs of one key come to the same: one of them is done for both.
    var key: String {
        guard reference != .base else { return reference.description }
        // What comes with somebody's own credentials is not shared, unless it is the same ones.
        let own = credentials.map { own in
            let secrets = [own.auth ?? "", own.identityToken ?? ""].joined(separator: " ")
            return "\(user.map(String.init) ?? "") \(Digest(of: secrets.utf8))"
        }
        return "\(standing.rawValue) \(own ?? "") \(source?.identity ?? "") \(reference)"
    }

    /// The user that alone may have what comes, beside administrators; nil when it is not for one.
    var owner: UInt32? { credentials == nil || standing != .user ? nil : user }

    /// Whether everybody may have what comes: nothing of the node's own was used for it, and nothing of a user's.
    func isForEverybody(with credentials: Credentials?) -> Bool {
        guard case .registry = reference else { return standing.isForEverybody }
        guard owner == nil else { return false }
        return standing.isForEverybody || credentials == nil
    }

    /// The image of this machine that the job is to read.
    func opened() throws(AegisError) -> LocalSource {
        guard let source else { throw .failed("pull-failed", "'\(reference)' was not opened") }
        return source
    }
}

/// Runs pulls for those who wait for them: the shell around `PullTable`.
final class PullService: Sendable {
    private struct Waiter {
        var answer: CheckedContinuation<Handover, any Error>
        var progress: @Sendable (ImageProgress) -> Void
    }
    private struct State {
        var table: PullTable
        var waiters: [Int: Waiter] = [:]
        /// Cancelled before they could join.
        var early: Set<Int> = []
        var jobs: [Int: PullJob] = [:]
        var cancels: [Int: CancelSignal] = [:]
        var starting: [Int] = []
        var wake: CheckedContinuation<Bool, Never>?
        var next = 0
        var ended = false
    }
    private let state: Mutex<State>

    init(limit: Int, waiting: Int) {
        state = Mutex(State(table: PullTable(limit: limit, waiting: waiting)))
    }

    /// How many callers wait, and how many pulls run or wait for their turn.
    var counts: (waiters: Int, jobs: Int) { state.withLock { ($0.waiters.count, $0.table.jobCount) } }

    /// Waits for an image that somebody has to bring.
    func request(_ job: PullJob, _ progress: @escaping @Sendable (ImageProgress) -> Void) async throws -> ResolvedImage
    {
        let waiter = state.withLock { state in
            state.next += 1
            return state.next
        }
        // A cancellation that comes after the answer leaves a mark that nobody else takes away.
        defer { _ = state.withLock { $0.early.remove(waiter) } }
        let answer = try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { answer in
                join(waiter, job, Waiter(answer: answer, progress: progress))
            }
        } onCancel: {
            leave(waiter)
        }
        return answer.take()
    }

    private func join(_ id: Int, _ job: PullJob, _ waiter: Waiter) {
        perform { state in
            if state.early.remove(id) != nil || state.ended {
                state.waiters[id] = waiter
                return [.abandon(id)]
            }
            state.waiters[id] = waiter
            let actions = state.table.join(id, job.key)
            if let made = state.table.job(of: id), state.jobs[made] == nil { state.jobs[made] = job }
            return actions
        }
    }

    private func leave(_ id: Int) {
        perform { state in
            if state.waiters[id] == nil { state.early.insert(id) }
            let job = state.table.job(of: id)
            let actions = state.table.leave(id)
            if let job, state.table.key(job) == nil { state.jobs[job] = nil }
            return actions
        }
    }

    /// Changes the state, then does what follows from it outside of the lock.
    private func perform(result: Result<ResolvedImage, any Error>? = nil, _ change: (inout State) -> [PullTable.Action])
    {
        let effects = state.withLock { state -> [@Sendable () -> Void] in
            var effects: [@Sendable () -> Void] = []
            for action in change(&state) {
                switch action {
                case .start(let job): state.starting.append(job)
                case .cancel(let job):
                    if let cancel = state.cancels[job] { effects.append { cancel.fire() } }
                case .answer(let ids):
                    let waiters = ids.compactMap { state.waiters.removeValue(forKey: $0) }
                    let answer = result.map { $0.map { Handover($0, to: waiters.count) } }
                    for waiter in waiters { if let answer { effects.append { waiter.answer.resume(with: answer) } } }
                case .abandon(let id):
                    guard let waiter = state.waiters.removeValue(forKey: id) else { continue }
                    effects.append { waiter.answer.resume(throwing: CancellationError()) }
                case .refuse(let id):
                    guard let waiter = state.waiters.removeValue(forKey: id) else { continue }
                    let error = AegisError(
                        .unavailable, "too-many-pulls", "too many callers wait for images", hint: "try again later")
                    effects.append { waiter.answer.resume(throwing: error) }
                }
            }
            if !state.starting.isEmpty, let wake = state.wake {
                state.wake = nil
                effects.append { wake.resume(returning: true) }
            }
            return effects
        }
        for effect in effects { effect() }
    }

    // MARK: The working side

    /// Does the work of all jobs until the task is cancelled.
    func run(
        _ work: @escaping @Sendable (PullJob, @escaping @Sendable (ImageProgress) -> Void) async throws -> ResolvedImage
    ) async {
        await withDiscardingTaskGroup { group in
            while await awaken() {
                for (id, job, cancel) in takeStarting() {
                    group.addTask(name: "pull \(job.reference)") { [self] in
                        let result = await cancellable(cancel) { [self] in
                            try await work(job) { [self] in tell(id, $0) }
                        }
                        finish(id, result)
                    }
                }
            }
            group.cancelAll()
        }
        perform { state in
            state.ended = true
            return state.waiters.keys.map { .abandon($0) }
        }
    }

    /// Waits until there is a job to start; false when the task is cancelled.
    private func awaken() async -> Bool {
        await withTaskCancellationHandler {
            await withCheckedContinuation { wake in
                let now: Bool? = state.withLock { state in
                    if Task.isCancelled { return false }
                    if !state.starting.isEmpty { return true }
                    state.wake = wake
                    return nil
                }
                if let now { wake.resume(returning: now) }
            }
        } onCancel: {
            let wake = state.withLock { state in
                defer { state.wake = nil }
                return state.wake
            }
            wake?.resume(returning: false)
        }
    }

    private func takeStarting() -> [(Int, PullJob, CancelSignal)] {
        state.withLock { state in
            defer { state.starting = [] }
            return state.starting.compactMap { id in
                guard let job = state.jobs.removeValue(forKey: id) else { return nil }
                let cancel = CancelSignal()
                state.cancels[id] = cancel
                // The last waiter may have left between the start and now.
                if state.table.waiters(id).isEmpty { cancel.fire() }
                return (id, job, cancel)
            }
        }
    }

    private func finish(_ id: Int, _ result: Result<ResolvedImage, any Error>) {
        perform(result: result) { state in
            state.cancels[id] = nil
            return state.table.finished(id)
        }
    }

    private func tell(_ job: Int, _ event: ImageProgress) {
        let listeners = state.withLock { state in state.table.waiters(job).compactMap { state.waiters[$0]?.progress } }
        for listener in listeners { listener(event) }
    }

    /// Runs `body` until it ends, cancelling it when `cancel` is fired.
    private func cancellable(
        _ cancel: CancelSignal, _ body: @escaping @Sendable () async throws -> ResolvedImage
    ) async -> Result<ResolvedImage, any Error> {
        await withTaskGroup(of: Result<ResolvedImage, any Error>?.self) { group in
            group.addTask {
                await cancel.wait()
                return nil
            }
            group.addTask {
                do { return .success(try await body()) } catch { return .failure(error) }
            }
            var result: Result<ResolvedImage, any Error>?
            while let next = await group.next() {
                if let next {
                    result = next
                    cancel.fire()
                } else {
                    group.cancelAll()
                }
            }
            return result ?? .failure(CancellationError())
        }
    }
}

/// An image on its way to all who waited for it, each of whom takes it once.
private final class Handover: Sendable {
    private let image: ResolvedImage
    private let left: Mutex<Int>

    init(_ image: ResolvedImage, to count: Int) {
        self.image = image
        left = Mutex(count)
    }

    func take() -> ResolvedImage {
        left.withLock { left in
            left -= 1
            return ImageLease.handingOver(image, isLast: left == 0)
        }
    }
}

/// Something that happens once, and one task waits for.
private final class CancelSignal: Sendable {
    private let state = Mutex<(fired: Bool, waiter: CheckedContinuation<Void, Never>?)>((false, nil))

    func fire() {
        let waiter = state.withLock { state in
            state.fired = true
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }

    func wait() async {
        await withCheckedContinuation { continuation in
            let fired = state.withLock { state in
                if !state.fired { state.waiter = continuation }
                return state.fired
            }
            if fired { continuation.resume() }
        }
    }
}
