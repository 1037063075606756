internal import AegisCore
package import AegisJSON
internal import Synchronization

/// Sends notifications to one client: lines with a method and without an id.
package struct JSONRPCNotifier: Sendable {
    let send: @Sendable ([UInt8]) async -> Bool

    /// Sends one; waits while the client is slow.
    ///
    /// - Returns: false when the client has gone.
    package func notify(_ method: String, _ params: JSONValue) async -> Bool {
        let message: JSONValue = ["jsonrpc": "2.0", "method": .string(method), "params": params]
        return await send(message.compact + [10])
    }
}

/// What one call wants to do after its answer, if its connection has room for that.
final class JSONRPCFollows: Sendable {
    typealias Body = @Sendable (JSONRPCNotifier) async -> Void
    private let body = Mutex<Body?>(nil)
    private let admit: @Sendable () -> Bool
    private let limit: Int

    init(limit: Int, admit: @escaping @Sendable () -> Bool) {
        self.limit = limit
        self.admit = admit
    }

    func take(_ body: @escaping Body) throws(AegisError) {
        guard self.body.withLock({ $0 == nil }), admit() else {
            throw .conflict(
                "too-many-subscriptions", "this connection has \(limit) subscriptions, which is the limit",
                hint: "end some, or use another connection")
        }
        self.body.withLock { $0 = body }
    }

    func begun() -> Body? { body.withLock { $0.take() } }
}
