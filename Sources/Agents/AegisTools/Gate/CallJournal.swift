package import AegisCore
package import AegisJSON

/// What is known of a call when a run is resumed.
package enum CallState: Sendable, Hashable {
    /// It was not begun.
    case unknown
    /// It was begun; whether it happened is not known.
    case begun
    /// It ended so.
    case ended(ToolReply)
}

/// Where a run saves its calls (decision D34): each function has saved when it returns.
package protocol CallJournal: Sendable {
    /// Whether the daemon ends and another one goes on with the run: what can be done again is left to it.
    var isLeft: Bool { get }
    /// Whether the run is only to end: nothing that was begun is begun again for it.
    var isStopped: Bool { get }
    /// What is known of a call.
    ///
    /// - Throws: when it cannot be read; then the call does not run.
    func state(of callID: String) throws(AegisError) -> CallState
    /// Saves that a call is about to have its effect.
    ///
    /// - Throws: when it cannot be saved; then it has none.
    func begin(_ callID: String, tool: String, input: JSONValue) throws(AegisError)
    /// Saves how a call ended.
    ///
    /// - Throws: when it cannot be saved; then the agent stops.
    func end(_ callID: String, with reply: ToolReply) throws(AegisError)
}
