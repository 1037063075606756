internal import AegisCore
package import AegisIO
internal import AegisJSON
internal import LinuxSys
internal import Synchronization

/// JSON-RPC 2.0 over streams: one JSON text a line in both directions.
///
/// The requests of a connection run at the same time and are answered as they end: a client tells the answers apart by
/// their ids. A client that only stops sending still gets its answers; one that has gone loses its calls, which are
/// cancelled, but not its notifications, which nobody waits for anyway.
package final class JSONRPCServer: Sendable {
    private let methods: [String: JSONRPCMethod]
    private let limits: JSONRPCLimits
    private let clock: any Clock<Duration>
    private let connections = Mutex(0)

    /// A server of methods, whose names must differ.
    package init(methods: [JSONRPCMethod], limits: JSONRPCLimits = JSONRPCLimits(), clock: any Clock<Duration>) {
        self.methods = Dictionary(methods.map { ($0.name, $0) }) { first, _ in
            preconditionFailure("two methods are called \(first.name)")
        }
        self.limits = limits
        self.clock = clock
    }

    /// How many connections are being served.
    package var connectionCount: Int { connections.withLock { $0 } }

    /// Serves one client until it has gone, or the task is cancelled; then the stream is closed.
    package func serve(_ stream: FileStream) async {
        let admitted = connections.withLock { count in
            guard count < limits.connections else { return false }
            count += 1
            return true
        }
        defer { stream.close() }
        guard admitted else {
            return refuse(
                stream,
                AegisError(
                    .unavailable, "too-many-connections",
                    "the server has \(limits.connections) connections, which is its limit",
                    hint: "send several requests over one connection"))
        }
        defer { connections.withLock { $0 -= 1 } }
        // Without knowing who calls, nothing can be decided for them.
        guard let peer = try? stream.peerCredentials() else {
            return refuse(stream, AegisError(.denied, "unknown-caller", "the kernel does not tell who calls"))
        }
        let caller = JSONRPCCaller(user: peer.user, group: peer.group, process: peer.pid)
        await JSONRPCConnection(stream, caller: caller, limits: limits, clock: clock, run: run).serve()
    }

    private func refuse(_ stream: FileStream, _ error: AegisError) {
        let answer: JSONValue = ["jsonrpc": "2.0", "id": .null, "error": JSONRPCFault(error).json]
        // Into the socket's own buffer, which is empty: nobody waits for a client that is turned away.
        _ = try? stream.writeNow((answer.compact + [10])[...])
    }

    /// Runs one request; what it throws becomes the fault of its answer.
    private func run(_ request: JSONRPCRequest, _ context: JSONRPCContext) async -> Result<JSONValue, JSONRPCFault> {
        guard let method = methods[request.method] else {
            return .failure(.unknownMethod(request.method, known: methods.keys.sorted()))
        }
        do {
            return .success(try await method.call(request.params, context))
        } catch {
            return .failure(JSONRPCFault(error))
        }
    }
}
