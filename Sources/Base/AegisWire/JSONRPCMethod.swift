package import AegisCore
package import AegisJSON

/// Who calls, as the kernel tells it.
package struct JSONRPCCaller: Sendable, Equatable {
    /// User id.
    package var user: UInt32
    /// Group id.
    package var group: UInt32
    /// Process id when it connected.
    package var process: Int32
    /// Makes a caller.
    package init(user: UInt32, group: UInt32, process: Int32) {
        (self.user, self.group, self.process) = (user, group, process)
    }
}

/// What a method knows beside its parameters.
package struct JSONRPCContext: Sendable {
    /// Who calls.
    package var caller: JSONRPCCaller
    /// Whether nobody waits for a result.
    package var isNotification: Bool
    let follows: JSONRPCFollows

    /// Goes on after the answer, until the body returns or the client has gone, which cancels it: what a subscription does.
    ///
    /// - Parameter body: gets what sends notifications to the client.
    /// - Throws: `too-many-subscriptions`; `invalid-request` where nobody waits for the answer.
    package func follow(_ body: @escaping @Sendable (JSONRPCNotifier) async -> Void) throws(AegisError) {
        guard !isNotification else {
            throw .usage("a notification has no answer to go on after", hint: "send it with an id")
        }
        try follows.take(body)
    }
}

/// A method that clients may call.
package struct JSONRPCMethod: Sendable {
    /// Runs it: gets the parameters (an object, an array, or null where there were none) and gives the result.
    package typealias Call = @Sendable (JSONValue, JSONRPCContext) async throws -> JSONValue

    /// As in `agent.spawn`.
    package let name: String
    /// Its parameters for the docs, as in `agent_id, capability?`.
    package let params: String
    /// What it does; is cancelled when the client has gone.
    package let call: Call

    /// Makes a method.
    package init(_ name: String, params: String, call: @escaping Call) {
        (self.name, self.params, self.call) = (name, params, call)
    }
}

/// What a server allows its clients.
package struct JSONRPCLimits: Sendable, Equatable {
    /// The longest line in bytes.
    package var line = 4 << 20
    /// Elements of one batch.
    package var batch = 100
    /// Requests of one connection that run at the same time.
    package var inFlight = 32
    /// Bytes of answers that a client has not taken; with more nothing new is run for it.
    package var unsent = 1 << 20
    /// How long a client may take nothing of an answer before its connection is closed.
    package var writeTime = Duration.seconds(60)
    /// Calls of one connection that go on after their answers.
    package var follows = 8
    /// Connections at the same time.
    package var connections = 256

    /// The limits that Aegis uses unless told otherwise.
    package init() {}
}
