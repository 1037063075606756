package import AegisCore

extension AgentManifest {
    /// What happens when a turn of a persistent agent does not come to its end by itself.
    package struct Restart: Sendable, Equatable {
        /// After which ends it is started anew.
        package enum Policy: String, Sendable, CaseIterable {
            /// After none: whoever sent the message is told.
            case never
            /// After an error, and when a step could not be saved.
            case onFailure = "on-failure"
            /// Also when a turn was cut: by its answer's length, its number of model calls or its tokens.
            case always
        }
        package var policy = Policy.never
        /// How often one turn is started anew, 0 to 100; 0 is never.
        package var attempts = 3
        /// The pause before the first time; it doubles each time, up to 32 times of it.
        package var pause = TimeSpan.seconds(1)
        /// Never; where only the policy is said, three times after 1, 2 and 4 seconds.
        package init() {}

        /// How long to wait before a turn is started anew.
        ///
        /// - Parameters:
        ///   - stop: how it ended; nil is that a step could not be saved.
        ///   - restarts: how often it was started anew before.
        /// - Returns: nil when it is not.
        package func pause(after stop: TurnStop?, restarts: Int) -> Duration? {
            let isMeant =
                switch (policy, stop) {
                case (.never, _): false
                // A person wanted the end, and a budget that is used up is still so in a moment.
                case (_, .complete), (_, .cancelled), (_, .budgetExceeded): false
                case (_, .error), (_, nil): true
                case (.onFailure, _): false
                case (.always, _): true
                }
            guard isMeant, restarts < attempts else { return nil }
            return pause.duration * (1 << min(restarts, 5))
        }
    }
}
