package import AegisCapabilities
package import AegisCore
package import AegisJSON
package import AegisSandboxTypes

/// What an agent is: what its manifest says, with the defaults filled in.
package struct AgentManifest: Sendable, Equatable {
    /// When it lives.
    package enum Lifecycle: Sendable, Equatable {
        /// From spawn until it is stopped or its caller has the result; it works when it is run.
        case onDemand
        /// Until it is stopped, over restarts of the daemon; it has a mailbox and keeps its conversation.
        case persistent
        /// As a persistent one, and the schedule sends it a message.
        case scheduled(CronSchedule)

        /// The word of the manifest.
        package var word: String {
            switch self {
            case .onDemand: "on-demand"
            case .persistent: "persistent"
            case .scheduled: "scheduled"
            }
        }
    }

    /// How its conversation and what it remembers are kept.
    package struct Memory: Sendable, Equatable {
        /// Tokens; nil is what its model has. Never more than that.
        package var contextWindow: Int?
        /// Messages that stay in the conversation, 4 to 100,000.
        package var maxHistoryMessages = 1000
        /// Who summarises; nil is the agent's own model.
        package var summarizationModel: String?
        /// The part of the window at which the conversation is summarised, 0.1 to 0.95.
        package var summarizationThreshold = 0.7
        /// For how many days summarised originals are kept; nil is as long as the agent.
        package var archiveTTLDays: Int?
        /// Whether the memory tools work for it.
        package var episodicEnabled = true
        /// Whether its memory is kept for the next agent of its name and user.
        package var isPersistent = false
        /// Memories that are kept, 1 to 1,000,000; the one unused longest goes first.
        package var episodicMaxRecords = 10_000
        /// The longest memory in bytes, 1 to 65,536.
        package var episodicMaxContentBytes = 4096
        /// The settings of a manifest that says nothing.
        package init() {}
    }

    /// What it may use up (beside what its grants limit).
    package struct Budget: Sendable, Equatable {
        /// Tokens of a period, in and out; nil is without limit.
        package var maxTokens: UInt64?
        /// Millionths of a dollar of a period; nil is without limit.
        package var maxMicroUSD: UInt64?
        /// The length of a period in seconds; 0 is one without end.
        package var resetPeriodSeconds: UInt64 = 3600
        /// A budget of so many tokens an hour.
        package init(maxTokens: UInt64?) { self.maxTokens = maxTokens }
    }

    /// Where its programs run (decision D46).
    package struct Sandbox: Sendable, Equatable {
        package var image: String?
        package var kit: String?
        package var isolation: String?
        package var minIsolation: String?
        package var limits = AegisSandboxTypes.Limits()
        package var mounts: [MountSpec] = []
        /// How long it may stay unused before it is stopped; the next program starts it again.
        package var idle: TimeSpan?
        /// What the manifest does not say.
        package init() {}
    }

    /// Its name; several live agents may have the same.
    package var name: String
    /// The alias or provider's id of the model that it thinks with.
    package var model: String
    /// What it is told before everything else.
    package var systemPrompt = ""
    /// What it asks for, with what that implies (decision D13).
    package var capabilities: [GrantSpec] = []
    /// Tools whose every call somebody has to approve.
    package var approvalRequired: [String] = []
    package var lifecycle = Lifecycle.onDemand
    package var memory = Memory()
    /// nil is no budget of its own; that of its parent holds in any case.
    package var budget: Budget?
    /// For people and programs that look at it; Aegis does not.
    package var metadata: [JSONValue.Field] = []
    package var sandbox: Sandbox?
    /// The JSON Schema of messages that other agents may send it; nil is any text.
    package var accepts: JSONValue?
    package var restart = Restart()
    /// Model calls of one turn, 1 to 10,000; nil is what the node's configuration has for all.
    package var maxIterations: Int?
    /// Tokens of the model calls of one turn, in and out, 1 to 10^12; nil is what `turnTokens` makes of the budget.
    package var maxTurnTokens: Int?
    /// The longest answer of the model in tokens, 1 to 1,000,000.
    package var maxOutputTokens = 16_384

    /// A manifest with nothing but a name and a model.
    package init(name: String, model: String) {
        self.name = name
        self.model = model
    }

    /// Tokens that the model calls of one turn may take. Whoever gives it a larger budget means that to be used.
    package var turnTokens: Int {
        maxTurnTokens ?? max(TurnLimits.usualTokens, Int(clamping: budget?.maxTokens ?? 0))
    }

    /// Whether it lives on when it has nothing to do.
    package var isPersistent: Bool { lifecycle != .onDemand }
}
