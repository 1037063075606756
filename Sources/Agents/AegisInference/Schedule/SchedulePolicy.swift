/// How much a provider may be asked.
package struct SchedulePolicy: Sendable, Hashable {
    /// How many calls may run at once.
    package var concurrent: Int
    /// How many calls may begin in a minute; nil is any number.
    package var requestsPerMinute: Int?
    /// How many tokens, question and answer, a minute has; nil is any number.
    package var tokensPerMinute: Int?
    /// How many calls may wait.
    package var maxWaiting: Int
    /// After how long a wait a call counts as one priority higher.
    package var ageing: Duration

    /// Makes a policy; every number is at least 1.
    package init(
        concurrent: Int = 3, requestsPerMinute: Int? = nil, tokensPerMinute: Int? = nil, maxWaiting: Int = 1000,
        ageing: Duration = .seconds(10)
    ) {
        self.concurrent = max(1, concurrent)
        self.requestsPerMinute = requestsPerMinute.map { max(1, $0) }
        self.tokensPerMinute = tokensPerMinute.map { max(1, $0) }
        self.maxWaiting = max(1, maxWaiting)
        self.ageing = max(.milliseconds(1), ageing)
    }
}

/// How urgent a call is.
package enum InferencePriority: Int, Sendable, Hashable, Codable, CaseIterable, Comparable {
    case low, normal, high
    package static func < (a: InferencePriority, b: InferencePriority) -> Bool { a.rawValue < b.rawValue }
}

/// A call that wants to run.
package struct ScheduleTicket: Sendable, Hashable {
    /// Whose call it is; agents get equal turns.
    package var agent: String
    /// How urgent it is.
    package var priority: InferencePriority
    /// How many tokens it may use, question and answer.
    package var tokens: Int
    /// When it must have begun; nil is whenever.
    package var deadline: Duration?

    /// Makes a ticket.
    package init(
        agent: String, priority: InferencePriority = .normal, tokens: Int = 0, deadline: Duration? = nil
    ) {
        self.agent = agent
        self.priority = priority
        self.tokens = max(0, tokens)
        self.deadline = deadline
    }
}

/// Why a call is not run.
package enum ScheduleRefusal: Error, Sendable, Hashable {
    /// So many calls wait already.
    case full(Int)
    /// It could not begin in time: after this long at the earliest.
    case late(Duration)
    /// Its deadline came while it waited.
    case expired
    /// The caller gave up.
    case cancelled
}
