package import AegisCore

/// Who pays for a call: the agent, and the tree that it belongs to.
package struct CallerID: Sendable, Hashable, Codable {
    /// The agent's id.
    package var agent: String
    /// The id of the tree's root: a goal, or the agent that a person started.
    package var tree: String
    /// Makes a caller.
    package init(agent: String, tree: String) {
        self.agent = agent
        self.tree = tree
    }
}

/// What may be used, and in which time.
package struct BudgetLimit: Sendable, Hashable, Codable {
    /// Tokens of questions and answers together; nil is any number.
    package var maxTokens: Int?
    /// Money in micro US dollars; nil is any amount.
    package var maxMicroUSD: Int?
    /// After how long what was used no longer counts; zero is never.
    package var period: TimeSpan

    /// Makes a limit.
    package init(maxTokens: Int? = nil, maxMicroUSD: Int? = nil, period: TimeSpan = TimeSpan(milliseconds: 0)) {
        self.maxTokens = maxTokens.map { max(0, $0) }
        self.maxMicroUSD = maxMicroUSD.map { max(0, $0) }
        self.period = TimeSpan(milliseconds: max(0, period.milliseconds))
    }
    /// No limit.
    package static let none = BudgetLimit()
}

/// Whose account it is.
package enum BudgetOwner: Sendable, Hashable, CustomStringConvertible {
    case agent(String)
    case tree(String)
    /// The children that are started by a grant which limits what they use together; while one of them runs.
    case grant(String)

    /// `agent:ID`, `tree:ID` or `grant:ID`.
    package var description: String {
        switch self {
        case .agent(let id): "agent:\(id)"
        case .tree(let id): "tree:\(id)"
        case .grant(let id): "grant:\(id)"
        }
    }
    /// What is used up, as people are told.
    var limitWords: String {
        guard case .grant(let id) = self else { return "the budget of \(self)" }
        return "the limit of the grant \(id), by which this agent was started or one above it,"
    }
    /// Reads what `description` wrote.
    init?(_ text: String) {
        if text.hasPrefix("agent:") {
            self = .agent(String(text.dropFirst(6)))
        } else if text.hasPrefix("tree:") {
            self = .tree(String(text.dropFirst(5)))
        } else if text.hasPrefix("grant:") {
            self = .grant(String(text.dropFirst(6)))
        } else {
            return nil
        }
    }
}

/// What an owner may use and has used. An agent's account counts what its children use as well: nobody gains by spawning.
package struct BudgetAccount: Sendable, Hashable {
    /// Whose it is.
    package let owner: BudgetOwner
    /// The account of the agent that spawned this one.
    package internal(set) var parent: BudgetOwner?
    /// The account of the grant that this one's was derived from.
    package internal(set) var above: BudgetOwner?
    /// What may be used.
    package internal(set) var limit: BudgetLimit
    /// When the period began in which `usedTokens` and `usedMicroUSD` were used.
    package internal(set) var periodStart: Timestamp
    /// Tokens of this period.
    package internal(set) var usedTokens = 0
    /// Money of this period.
    package internal(set) var usedMicroUSD = 0
    /// What calls that are under way may use yet.
    package internal(set) var reservedTokens = 0
    /// What calls that are under way may cost yet.
    package internal(set) var reservedMicroUSD = 0
    /// Everything ever used, children included.
    package internal(set) var total = TokenUsage.zero
    /// Everything ever paid, children included.
    package internal(set) var totalMicroUSD = 0
    /// How many calls were settled, children's included.
    package internal(set) var calls = 0
    /// How many calls were refused for this account's limit, since the daemon's start.
    package internal(set) var refusals = 0

    init(owner: BudgetOwner, parent: BudgetOwner? = nil, limit: BudgetLimit = .none, at now: Timestamp) {
        self.owner = owner
        self.parent = parent
        self.limit = limit
        periodStart = now
    }

    /// What is left of the tokens when `reserved` counts as used; nil is any number.
    package func restTokens(withReserved: Bool) -> Int? {
        limit.maxTokens.map { $0.saturatingAdd(-usedTokens).saturatingAdd(withReserved ? -reservedTokens : 0) }
    }
    /// What is left of the money.
    package func restMicroUSD(withReserved: Bool) -> Int? {
        limit.maxMicroUSD.map { $0.saturatingAdd(-usedMicroUSD).saturatingAdd(withReserved ? -reservedMicroUSD : 0) }
    }

    /// Begins a new period when the last one is over: its beginnings are whole periods apart.
    mutating func renew(at now: Timestamp) {
        let period = limit.period.milliseconds
        guard period > 0, now.milliseconds >= periodStart.milliseconds.saturatingAdd(period) else { return }
        let passed = (now.milliseconds - periodStart.milliseconds) / period
        periodStart = Timestamp(milliseconds: periodStart.milliseconds + passed * period)
        usedTokens = 0
        usedMicroUSD = 0
    }
}

/// What a call may use, taken from its accounts before it is made.
package struct BudgetReservation: Sendable, Hashable {
    /// Its number, the same after a restart.
    package let id: Int64
    /// Who pays.
    package let caller: CallerID
    /// The question's tokens, as counted.
    package let inputTokens: Int
    /// How many tokens the answer may have: what was asked for, or less when the budget has less.
    package let outputTokens: Int
    /// What that may cost.
    package let microUSD: Int
    /// The accounts that it was taken from.
    let owners: [BudgetOwner]

    /// Everything that it may use.
    package var tokens: Int { inputTokens.saturatingAdd(outputTokens) }
    /// What is booked when nobody can say what was used.
    package var inFull: TokenUsage { TokenUsage(input: inputTokens, output: outputTokens, isEstimated: true) }
}

/// Why a call is not paid for.
package struct BudgetRefusal: Error, Sendable, Hashable {
    /// The family.
    package enum Kind: Sendable, Hashable {
        /// The budget is used up: the question alone does not fit any more.
        case exhausted
        /// It would fit, were other calls not under way that may use the rest.
        case occupied
        /// A budget of money, and a model without a price.
        case priceUnknown
    }
    /// Why.
    package let kind: Kind
    /// The account that it does not fit.
    package let owner: BudgetOwner
    /// The numbers behind it.
    package let message: String
}
