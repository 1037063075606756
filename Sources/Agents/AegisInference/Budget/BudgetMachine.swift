internal import AegisCore

/// The arithmetic of budgets. Pure: each step answers a change, which is applied once it is stored.
struct BudgetMachine: Sendable {
    /// What a step changes.
    struct Change: Sendable {
        var accounts: [BudgetAccount] = []
        var closed: [BudgetOwner] = []
        var added: BudgetReservation?
        var settled: Int64?
    }

    private(set) var accounts: [BudgetOwner: BudgetAccount] = [:]
    private(set) var reservations: [Int64: BudgetReservation] = [:]
    private var lastID: Int64

    init(accounts: [BudgetAccount] = [], reservations: [BudgetReservation] = [], lastID: Int64 = 0) {
        for account in accounts { self.accounts[account.owner] = account }
        for reservation in reservations { self.reservations[reservation.id] = reservation }
        self.lastID = lastID
    }

    mutating func apply(_ change: Change) {
        for account in change.accounts { accounts[account.owner] = account }
        for owner in change.closed { accounts[owner] = nil }
        if let added = change.added {
            reservations[added.id] = added
            lastID = max(lastID, added.id)
        }
        if let settled = change.settled { reservations[settled] = nil }
    }

    /// The accounts that a caller's calls are taken from: its own, those of its ancestors and of the grants by which they were
    /// started, its tree's.
    func owners(of caller: CallerID) -> [BudgetOwner] {
        var owners: [BudgetOwner] = []
        var pending = [BudgetOwner.agent(caller.agent)]
        while let owner = pending.popLast() {
            guard !owners.contains(owner) else { continue }
            owners.append(owner)
            guard let account = accounts[owner] else { continue }
            pending += [account.parent, account.above].compactMap(\.self)
        }
        let tree = BudgetOwner.tree(caller.tree)
        return owners.contains(tree) ? owners : owners + [tree]
    }

    /// What is left for a caller's calls: the least that any of those accounts has, nil where none has a limit.
    func rest(of caller: CallerID, at now: Timestamp) -> (tokens: Int?, microUSD: Int?) {
        let accounts = owners(of: caller).map { current($0, at: now) }
        return (
            accounts.compactMap { $0.restTokens(withReserved: true) }.min().map { max(0, $0) },
            accounts.compactMap { $0.restMicroUSD(withReserved: true) }.min().map { max(0, $0) }
        )
    }

    private func current(_ owner: BudgetOwner, at now: Timestamp) -> BudgetAccount {
        var account = accounts[owner] ?? BudgetAccount(owner: owner, at: now)
        account.renew(at: now)
        return account
    }

    /// Opens an account or gives it another limit; what it has used stays, unless it is opened anew.
    func open(
        _ owner: BudgetOwner, parent: BudgetOwner?, above: BudgetOwner? = nil, limit: BudgetLimit, isNew: Bool = false,
        at now: Timestamp
    ) -> Change {
        var account = isNew ? BudgetAccount(owner: owner, at: now) : current(owner, at: now)
        if account.limit.period != limit.period { account.periodStart = now }
        account.limit = limit
        account.parent = parent ?? account.parent
        account.above = above ?? account.above
        return Change(accounts: [account])
    }

    /// Takes from what an account has used, and from its limit, what is counted elsewhere. Nil where there is no such account.
    func count(tokens: Int, microUSD: Int, at owner: BudgetOwner) -> Change? {
        guard var account = accounts[owner] else { return nil }
        let (tokens, microUSD) = (min(tokens, account.usedTokens), min(microUSD, account.usedMicroUSD))
        account.usedTokens -= tokens
        account.usedMicroUSD -= microUSD
        account.limit.maxTokens = account.limit.maxTokens.map { max(0, $0 - tokens) }
        account.limit.maxMicroUSD = account.limit.maxMicroUSD.map { max(0, $0 - microUSD) }
        return Change(accounts: [account])
    }

    /// Takes what a call may use from all accounts, or says why it cannot.
    ///
    /// The answer's length is cut to what they have; only a question that does not fit is refused (with room for one token of an answer,
    /// where there is to be any).
    func reserve(
        _ caller: CallerID, input: Int, wantedOutput: Int, price: ModelPrice?, at now: Timestamp
    ) throws(BudgetRefusal) -> Change {
        let owners = owners(of: caller)
        var accounts = owners.map { current($0, at: now) }
        var output = max(0, wantedOutput)
        let least = min(1, output)
        for account in accounts {
            if let (free, rest) = pair(account.restTokens(withReserved: true), account.restTokens(withReserved: false))
            {
                let needed = input.saturatingAdd(least)
                guard free >= needed else {
                    throw refusal(
                        account, rest >= needed,
                        "\(needed) tokens are needed, \(max(0, rest)) of \(account.limit.maxTokens ?? 0) are left")
                }
                output = min(output, free - input)
            }
            guard
                let (free, rest) = pair(
                    account.restMicroUSD(withReserved: true), account.restMicroUSD(withReserved: false))
            else { continue }
            guard let price else {
                throw BudgetRefusal(kind: .priceUnknown, owner: account.owner, message: "the model has no price")
            }
            let question = price.mostForInput(input)
            let needed = question.saturatingAdd(price.cost(of: TokenUsage(output: least)))
            guard free >= needed, rest > 0 || needed == 0 else {
                throw refusal(
                    account, rest >= needed,
                    "\(dollars(needed)) USD are needed, \(dollars(max(0, rest))) of \(dollars(account.limit.maxMicroUSD ?? 0)) are left"
                )
            }
            output = min(output, price.outputTokens(for: free - question) ?? output)
        }
        let cost = price.map { $0.mostForInput(input).saturatingAdd($0.cost(of: TokenUsage(output: output))) } ?? 0
        let reservation = BudgetReservation(
            id: lastID + 1, caller: caller, inputTokens: input, outputTokens: output, microUSD: cost, owners: owners)
        for index in accounts.indices {
            accounts[index].reservedTokens = accounts[index].reservedTokens.saturatingAdd(reservation.tokens)
            accounts[index].reservedMicroUSD = accounts[index].reservedMicroUSD.saturatingAdd(cost)
        }
        return Change(accounts: accounts, added: reservation)
    }

    /// Books what a call has really used, more than was reserved if need be, and gives the rest back. Nil when it was settled before.
    func settle(_ id: Int64, usage: TokenUsage, microUSD: Int, isCall: Bool, at now: Timestamp) -> Change? {
        guard let reservation = reservations[id] else { return nil }
        // An account that was closed meanwhile stays closed.
        let changed = reservation.owners.filter { accounts[$0] != nil }.map { owner in
            var account = current(owner, at: now)
            account.reservedTokens = max(0, account.reservedTokens - reservation.tokens)
            account.reservedMicroUSD = max(0, account.reservedMicroUSD - reservation.microUSD)
            account.usedTokens = account.usedTokens.saturatingAdd(usage.total)
            account.usedMicroUSD = account.usedMicroUSD.saturatingAdd(microUSD)
            account.total += usage
            account.totalMicroUSD = account.totalMicroUSD.saturatingAdd(microUSD)
            if isCall { account.calls += 1 }
            return account
        }
        return Change(accounts: changed, settled: id)
    }

    /// Counts a refusal.
    mutating func refused(_ owner: BudgetOwner) { accounts[owner]?.refusals += 1 }

    private func refusal(_ account: BudgetAccount, _ occupied: Bool, _ numbers: String) -> BudgetRefusal {
        BudgetRefusal(kind: occupied ? .occupied : .exhausted, owner: account.owner, message: numbers)
    }

    private func pair(_ a: Int?, _ b: Int?) -> (Int, Int)? {
        guard let a, let b else { return nil }
        return (a, b)
    }
}
