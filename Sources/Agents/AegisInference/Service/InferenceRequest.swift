package import AegisCore
package import AegisJSON

/// A question of an agent.
package struct InferenceRequest: Sendable {
    /// An alias of the configuration, `provider/model`, or a model's id.
    package var alias: String
    /// Standing instructions.
    package var system: String
    /// The conversation, oldest first.
    package var messages: [ModelMessage]
    /// The tools that may be asked for.
    package var tools: [ModelTool]
    /// How long the answer may be; nil is as long as the model allows. Budget and window cut it further.
    package var maxOutputTokens: Int?
    /// How freely the model chooses.
    package var temperature: Double?
    /// Texts at which it stops.
    package var stopSequences: [String]
    /// Who pays.
    package var caller: CallerID
    /// The agent's name, for scenarios, recordings and records.
    package var agentName: String
    /// How urgent it is.
    package var priority: InferencePriority
    /// How long all of it may take from now; nil is what the configuration says.
    package var timeLimit: Duration?
    /// Takes down what each attempt has used.
    package var bill: ModelBill?
    /// What allows it; nil for what nobody has to allow.
    package var leave: InferenceLeave?

    /// Makes a question.
    package init(
        alias: String, system: String = "", messages: [ModelMessage], tools: [ModelTool] = [],
        maxOutputTokens: Int? = nil, temperature: Double? = nil, stopSequences: [String] = [], caller: CallerID,
        agentName: String = "", priority: InferencePriority = .normal, timeLimit: Duration? = nil
    ) {
        self.alias = alias
        self.system = system
        self.messages = messages
        self.tools = tools
        self.maxOutputTokens = maxOutputTokens
        self.temperature = temperature
        self.stopSequences = stopSequences
        self.caller = caller
        self.agentName = agentName
        self.priority = priority
        self.timeLimit = timeLimit
    }

    /// The question in the form that a provider gets.
    func forModel(_ model: String, maxOutputTokens: Int) -> ModelRequest {
        ModelRequest(
            model: model, system: system, messages: messages, tools: tools, maxOutputTokens: maxOutputTokens,
            temperature: temperature, stopSequences: stopSequences, agent: agentName)
    }
}

/// What allows a question: it may be taken back, end or be used up while the question waits for its turn, or to be asked again.
package struct InferenceLeave: Sendable {
    /// Called when a turn has come: throws when nothing may be sent any more.
    let check: @Sendable () throws(AegisError) -> Void
    /// Called before each attempt but the first: throws when nothing is left for it, and says how many tokens its answer may have.
    let again: @Sendable () throws(AegisError) -> Int
    /// Returns true when it is taken back, and false when the waiting task is cancelled first.
    let isRevoked: @Sendable () async -> Bool

    /// Makes it.
    ///
    /// - Parameters:
    ///   - check: throws when nothing may be sent any more.
    ///   - again: throws when nothing is left for one more attempt, and says how many tokens its answer may have.
    ///   - isRevoked: returns true when it is taken back, and false when the waiting task is cancelled first.
    package init(
        check: @escaping @Sendable () throws(AegisError) -> Void,
        again: @escaping @Sendable () throws(AegisError) -> Int,
        isRevoked: @escaping @Sendable () async -> Bool
    ) {
        self.check = check
        self.again = again
        self.isRevoked = isRevoked
    }
}

/// An answer, and what it took.
package struct InferenceReply: Sendable, Hashable {
    /// The answer.
    package var reply: ModelReply
    /// The provider that gave it.
    package var provider: String
    /// The provider's id of the model.
    package var model: String
    /// What it cost; nil when the model has no price.
    package var costMicroUSD: Int?
    /// How many calls were made for it, those that failed included.
    package var attempts: Int
}

/// What is told of a question on its way.
package struct InferenceStep: Sendable, Hashable {
    /// What happened.
    package enum Kind: String, Sendable, Hashable, CaseIterable {
        /// A provider is about to be asked; nothing has been sent yet.
        case started = "model_call_started"
        /// It has answered, and that is booked.
        case answered = "model_call_answered"
        /// It has not, and what that may have cost is booked.
        case failed = "model_call_failed"
        /// The same model will be asked again.
        case retried = "model_call_retried"
        /// The next model will be asked.
        case fellBack = "model_fell_back"
        /// A budget does not pay for it.
        case budgetRefused = "budget_refused"
        /// The queue does not take it, or its time is over.
        case queueRefused = "inference_refused"
    }
    /// What happened.
    package var kind: Kind
    /// Who pays; nil for what a person asks for.
    package var caller: CallerID?
    /// The agent's name.
    package var agentName: String
    /// The provider.
    package var provider: String
    /// The model's id there.
    package var model: String
    /// Which attempt for this question it is, from 1.
    package var attempt: Int
    /// Numbers and words beside it.
    package var fields: [JSONValue.Field]
}

/// Whoever keeps record of questions: the ledger.
package protocol InferenceObserver: Sendable {
    /// Keeps one step.
    ///
    /// - Throws: when it cannot be kept. What has not been sent then is not sent.
    func record(_ step: InferenceStep) throws(AegisError)
}
