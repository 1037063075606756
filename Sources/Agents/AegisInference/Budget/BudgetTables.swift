internal import AegisCore
internal import AegisStore

/// How budgets stand in the database.
enum BudgetTables {
    static let schema = """
        CREATE TABLE inference_accounts (
          owner TEXT PRIMARY KEY, parent TEXT, max_tokens INTEGER, max_micro_usd INTEGER, period_ms INTEGER NOT NULL,
          period_start INTEGER NOT NULL, used_tokens INTEGER NOT NULL, used_micro_usd INTEGER NOT NULL,
          input INTEGER NOT NULL, output INTEGER NOT NULL, cache_read INTEGER NOT NULL, cache_write INTEGER NOT NULL,
          estimated INTEGER NOT NULL, total_micro_usd INTEGER NOT NULL, calls INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE inference_reservations (
          id INTEGER PRIMARY KEY, agent TEXT NOT NULL, tree TEXT NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
          micro_usd INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE inference_sync (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL) STRICT;
        INSERT INTO inference_sync VALUES (1, 0);
        """

    /// Whose budget holds beside the parent's.
    static let grantSchema = "ALTER TABLE inference_accounts ADD COLUMN above TEXT"

    static func write(
        _ change: BudgetMachine.Change, to database: Database, _ durability: Durability = .saved
    ) throws(AegisError) {
        try database.transaction(durability) { transaction in
            for account in change.accounts { try put(account, transaction) }
            for owner in change.closed {
                try transaction.run("DELETE FROM inference_accounts WHERE owner = ?", owner.description)
            }
            if let added = change.added {
                try transaction.run(
                    "INSERT INTO inference_reservations VALUES (?,?,?,?,?,?)", added.id, added.caller.agent,
                    added.caller.tree, added.inputTokens, added.outputTokens, added.microUSD)
            }
            if let settled = change.settled {
                try transaction.run("DELETE FROM inference_reservations WHERE id = ?", settled)
            }
        }
    }

    private static func put(_ account: BudgetAccount, _ transaction: borrowing Transaction) throws(SQLiteError) {
        try transaction.run(
            "INSERT OR REPLACE INTO inference_accounts VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            account.owner.description, account.parent?.description, account.limit.maxTokens, account.limit.maxMicroUSD,
            account.limit.period.milliseconds, account.periodStart.milliseconds, account.usedTokens,
            account.usedMicroUSD, account.total.input, account.total.output, account.total.cacheRead,
            account.total.cacheWrite, account.total.isEstimated, account.totalMicroUSD, account.calls,
            account.above?.description)
    }

    /// A commit of its own: the one that is synced takes all before it along.
    static func touch(_ transaction: borrowing Transaction) throws(SQLiteError) {
        try transaction.run("UPDATE inference_sync SET number = number + 1")
    }

    /// Everything as it was written, open reservations counted in the accounts that they were taken from.
    static func load(_ database: Database) throws(AegisError) -> BudgetMachine {
        let (accounts, open) = try database.read { transaction in
            (
                try transaction.all("SELECT * FROM inference_accounts") { row throws(SQLiteError) in try account(row) },
                try transaction.all("SELECT * FROM inference_reservations") { row throws(SQLiteError) in
                    BudgetReservation(
                        id: try row.get(0), caller: CallerID(agent: try row.get(1), tree: try row.get(2)),
                        inputTokens: try row.get(3), outputTokens: try row.get(4), microUSD: try row.get(5), owners: [])
                }
            )
        }
        let bare = BudgetMachine(accounts: accounts)
        var byOwner = bare.accounts
        let reservations = open.map { reservation in
            let owners = bare.owners(of: reservation.caller)
            for owner in owners {
                byOwner[owner]?.reservedTokens += reservation.tokens
                byOwner[owner]?.reservedMicroUSD += reservation.microUSD
            }
            return BudgetReservation(
                id: reservation.id, caller: reservation.caller, inputTokens: reservation.inputTokens,
                outputTokens: reservation.outputTokens, microUSD: reservation.microUSD, owners: owners)
        }
        return BudgetMachine(
            accounts: Array(byOwner.values), reservations: reservations, lastID: reservations.map(\.id).max() ?? 0)
    }

    private static func account(_ row: borrowing Row) throws(SQLiteError) -> BudgetAccount {
        guard let owner = BudgetOwner(try row.get(0, as: String.self)) else { throw row.invalid(0, "it is no owner") }
        let parent = try row.get(1, as: String?.self)
        var account = BudgetAccount(
            owner: owner, parent: parent.flatMap { BudgetOwner($0) },
            limit: BudgetLimit(
                maxTokens: try row.get(2), maxMicroUSD: try row.get(3), period: TimeSpan(milliseconds: try row.get(4))),
            at: Timestamp(milliseconds: try row.get(5)))
        account.usedTokens = try row.get(6)
        account.usedMicroUSD = try row.get(7)
        account.total = TokenUsage(
            input: try row.get(8), output: try row.get(9), cacheRead: try row.get(10), cacheWrite: try row.get(11),
            isEstimated: try row.get(12))
        account.totalMicroUSD = try row.get(13)
        account.calls = try row.get(14)
        account.above = try row.get(15, as: String?.self).flatMap { BudgetOwner($0) }
        return account
    }
}
