package import AegisCore
package import AegisStore
internal import Synchronization

/// The budgets of all agents and trees, kept in the database: a `kill -9` gives nobody anything back.
///
/// What a call may use is taken before the call (*saved*), and what it has used is booked after it (*saved*; `sync` makes it *synced* at
/// a turn's end). A call that was under way when the daemon died is booked in full at the next start.
package final class BudgetBook: Sendable {
    /// The tables; the composition root puts it into its list.
    package static let migration = Migration("inference: budgets", sql: BudgetTables.schema)
    /// Accounts of grants that were derived from others.
    package static let grantMigration = Migration("inference: grants of grants", sql: BudgetTables.grantSchema)

    private struct State {
        var machine: BudgetMachine
        var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var nextWaiter: UInt64 = 0
        /// Counts settlements, so that none is missed between a refusal and the wait.
        var settlements: UInt64 = 0
    }
    private let database: Database
    private let time: InferenceTime
    private let state: Mutex<State>
    /// What was under way when the daemon last stopped, each booked in full now.
    package let recovered: [BudgetReservation]

    /// Opens the book and settles what was left open.
    ///
    /// - Throws: what the database throws.
    package init(_ database: Database, time: InferenceTime) throws(AegisError) {
        self.database = database
        self.time = time
        var machine = try BudgetTables.load(database)
        let open = machine.reservations.values.sorted { $0.id < $1.id }
        for reservation in open {
            guard
                let change = machine.settle(
                    reservation.id, usage: reservation.inFull, microUSD: reservation.microUSD, isCall: true,
                    at: time.wall)
            else { continue }
            try BudgetTables.write(change, to: database)
            machine.apply(change)
        }
        recovered = open
        state = Mutex(State(machine: machine))
    }

    /// Opens an account or changes its limit; what was used stays used, unless it is opened anew. Synced.
    ///
    /// - Parameters:
    ///   - owner: whose it is.
    ///   - parent: the account that pays as well: of the agent that spawned this one, or of the grant by which it did.
    ///   - above: of a grant, the account of the one that it was derived from, which pays as well.
    ///   - limit: what may be used.
    ///   - isNew: whether one that could not be closed before counts no more.
    /// - Throws: what the database throws.
    package func open(
        _ owner: BudgetOwner, parent: BudgetOwner? = nil, above: BudgetOwner? = nil, limit: BudgetLimit = .none,
        isNew: Bool = false
    ) throws(AegisError) {
        try change(.synced) {
            $0.open(owner, parent: parent, above: above, limit: limit, isNew: isNew, at: time.wall)
        }
    }

    /// Says that a part of what an account has used is counted elsewhere, and its limit is to be without it: of a grant, some of
    /// whose calls are over. Saved.
    ///
    /// - Throws: what the database throws; it counts at both then.
    package func count(tokens: Int, microUSD: Int, at owner: BudgetOwner) throws(AegisError) {
        try change(.saved) { $0.count(tokens: tokens, microUSD: microUSD, at: owner) }
    }

    /// Removes an account, and what it has used with it.
    package func close(_ owner: BudgetOwner) throws(AegisError) {
        try change(.saved) { _ in BudgetMachine.Change(closed: [owner]) }
    }

    /// Takes what a call may use from the accounts of its caller. Saved when it returns.
    ///
    /// - Parameters:
    ///   - caller: who pays.
    ///   - input: the question's tokens, counted on the safe side.
    ///   - wantedOutput: how many tokens the answer may have if the budget has them; 0 for what has no answer in tokens.
    ///   - price: the model's price; nil when it is not known.
    /// - Returns: the reservation, or why the call is not paid for.
    /// - Throws: what the database throws.
    package func reserve(
        _ caller: CallerID, input: Int, wantedOutput: Int, price: ModelPrice?
    ) throws(AegisError) -> Result<BudgetReservation, BudgetRefusal> {
        let now = time.wall
        let result: Result<Result<BudgetReservation, BudgetRefusal>, AegisError> = state.withLock { state in
            do throws(BudgetRefusal) {
                let change = try state.machine.reserve(
                    caller, input: input, wantedOutput: wantedOutput, price: price, at: now)
                do throws(AegisError) { try BudgetTables.write(change, to: database) } catch { return .failure(error) }
                state.machine.apply(change)
                guard let added = change.added else { preconditionFailure("a reservation adds one") }
                return .success(.success(added))
            } catch {
                if error.kind == .exhausted { state.machine.refused(error.owner) }
                return .success(.failure(error))
            }
        }
        return try result.get()
    }

    /// Books what a call has used. Saved when it returns; a second time changes nothing.
    ///
    /// - Throws: what the database throws; the reservation then stays open and is settled in full at the next start.
    package func settle(_ reservation: BudgetReservation, usage: TokenUsage, microUSD: Int) throws(AegisError) {
        try change(.saved) {
            $0.settle(reservation.id, usage: usage, microUSD: microUSD, isCall: true, at: time.wall)
        }
        wake()
    }

    /// Gives everything back: the call was not made, or not billed.
    package func release(_ reservation: BudgetReservation) throws(AegisError) {
        try change(.saved) { $0.settle(reservation.id, usage: .zero, microUSD: 0, isCall: false, at: time.wall) }
        wake()
    }

    /// Makes everything that was settled outlast a loss of power: at a turn's end.
    package func sync() throws(AegisError) { try database.transaction(.synced) { try BudgetTables.touch($0) } }

    /// What an owner has used and may use yet; nil for one that is not known.
    package func report(_ owner: BudgetOwner) -> BudgetAccount? {
        let now = time.wall
        return state.withLock { state in
            guard var account = state.machine.accounts[owner] else { return nil }
            account.renew(at: now)
            return account
        }
    }

    /// What is left for a caller's calls: the least of its own account and of all those that its calls are taken from.
    ///
    /// - Parameter caller: who would ask.
    /// - Returns: tokens and millionths of a dollar; nil where nothing limits them.
    package func rest(of caller: CallerID) -> (tokens: Int?, microUSD: Int?) {
        let now = time.wall
        return state.withLock { $0.machine.rest(of: caller, at: now) }
    }

    /// All accounts, trees first, by id.
    package func reports() -> [BudgetAccount] {
        let now = time.wall
        var accounts = state.withLock { Array($0.machine.accounts.values) }
        for index in accounts.indices { accounts[index].renew(at: now) }
        return accounts.sorted { ($0.owner.order, $0.owner.description) < ($1.owner.order, $1.owner.description) }
    }

    /// A mark for `settlement(after:)`.
    package var settlements: UInt64 { state.withLock { $0.settlements } }

    /// Waits until a call is settled that was not when the mark was taken; returns early when the task is cancelled.
    package func settlement(after mark: UInt64) async {
        let id = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.settlements != mark || Task.isCancelled { return true }
                    state.waiters[id] = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
        }
    }

    private func wake() {
        let waiters = state.withLock { state in
            state.settlements += 1
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    private func change(
        _ durability: Durability, _ step: (borrowing BudgetMachine) -> BudgetMachine.Change?
    ) throws(AegisError) {
        let result: Result<Void, AegisError> = state.withLock { state in
            guard let change = step(state.machine) else { return .success(()) }
            do throws(AegisError) { try BudgetTables.write(change, to: database, durability) } catch {
                return .failure(error)
            }
            state.machine.apply(change)
            return .success(())
        }
        try result.get()
    }
}

extension BudgetOwner {
    fileprivate var order: Int { if case .tree = self { 0 } else { 1 } }
}
