package import AegisCapabilities
package import AegisCore
package import AegisInference
package import AegisTools

/// A question of an agent to the model that it thinks with.
package struct ModelQuestion: Sendable {
    /// The alias or provider's id, as the manifest has it.
    package var alias: String
    package var system: String
    package var messages: [ModelMessage]
    package var tools: [ModelTool]
    /// Tokens of the answer at most.
    package var maxOutputTokens: Int
    /// Who asks.
    package var agent: String
    /// The name of whoever asks.
    package var name: String
    /// The agent at the top of its tree, whose budget holds, too.
    package var tree: String
    /// How urgent it is among all that wait for the same provider.
    package var priority: InferencePriority = .normal
    /// When its answer is of no use any more; nil for one that may take as long as the configuration says.
    package var deadline: Timestamp?
    /// Is told of the answer while it is written; nil for one that nobody is to see.
    package var live: LiveAnswer?
    /// What allows it, asked at each attempt.
    package var leave: InferenceLeave?
    /// Takes down what all attempts have used.
    package let bill = ModelBill()
}

/// What a tree of agents has used of models.
package struct ModelSpending: Sendable, Hashable {
    package var inputTokens: Int
    package var outputTokens: Int
    /// In millionths of a dollar, as far as the models have prices.
    package var microUSD: Int

    /// Describes what was used.
    package init(inputTokens: Int, outputTokens: Int, microUSD: Int) {
        (self.inputTokens, self.outputTokens, self.microUSD) = (inputTokens, outputTokens, microUSD)
    }
}

/// Who answers agents' questions: scheduling, budgets, retries and prices are behind it.
package protocol ModelDesk: Sendable {
    /// How many tokens the model of an alias takes, question and answer together.
    func window(of alias: String) -> Int

    /// What a question may take, before it is asked.
    ///
    /// - Throws: `model-unknown`.
    func quote(_ question: ModelQuestion) throws(AegisError) -> ModelQuote

    /// Opens the account of an agent that has come, or that is back; what it has used stays used.
    ///
    /// - Throws: when it cannot be kept.
    func admit(_ record: AgentRecord, _ budget: AgentManifest.Budget?) throws(AegisError)

    /// Opens accounts that bound what the children of one grant's calls use together with all others who work by grants that the same
    /// limits hold for, for as long as one of them runs.
    ///
    /// - Parameter bound: the grant and those that it was derived from, and what is left of each; it counts where none of its
    ///   calls runs yet.
    /// - Throws: when they cannot be kept.
    func open(_ bound: SpendingBound) throws(AegisError)

    /// Says that a call is over for which `open` was called.
    ///
    /// - Parameters:
    ///   - bound: what it was opened with.
    ///   - amounts: what the call has counted at those grants.
    func close(_ bound: SpendingBound, counted amounts: Amounts)

    /// What an agent and all below it have used so far; nil where that is not known, or its account is closed.
    func spending(of agent: String) -> ModelSpending?

    /// Closes the account of an agent that is gone.
    func dismiss(_ record: AgentRecord) throws(AegisError)

    /// Asks a model, and tells `question.live` what it says while it says it.
    ///
    /// - Throws: `budget-exceeded` when there is too little left; what the provider said otherwise. Cancellation closes the
    ///   connection.
    func answer(_ question: ModelQuestion) async throws(AegisError) -> ModelReply
}
