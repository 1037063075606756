package import AegisIO
internal import LinuxSys

/// What a client may hold at once.
package struct HTTPClientLimits: Sendable {
    /// Requests under way; one more is refused.
    package var transfers = 256
    /// Connections; a request that finds none free waits for one, in its time for connecting.
    package var connections = 64
    /// Connections kept for later requests.
    package var idleConnections = 16

    /// The usual limits.
    package init() {}
}

/// An HTTP client (1.1, and 2 where TLS offers it) on an event loop: libcurl without a thread for its transfers.
///
/// Certificates are always checked. curl looks names up on a thread of its own per lookup; giving up does not wait for it.
package final class HTTPClient: Sendable {
    private let engine: CurlEngine
    private let loop: EventLoop

    /// A client without connections.
    ///
    /// - Parameters:
    ///   - loop: who does the work.
    ///   - limits: what it may hold at once.
    ///   - authorities: certificates (PEM) of authorities that count beside the system's.
    /// - Throws: `.closed` when libcurl or the loop cannot be used.
    package init(
        on loop: EventLoop, limits: HTTPClientLimits = HTTPClientLimits(), authorities: [UInt8]? = nil
    ) throws(HTTPClientError) {
        self.loop = loop
        engine = try CurlEngine(on: loop, limits: limits, authorities: authorities)
    }

    deinit { close() }

    /// Ends all requests with `.closed`, and all connections. Idempotent.
    package func close() {
        loop.call { [engine] _ in engine.close() }
    }

    /// How many requests are under way.
    package var activeCount: Int {
        get async { await loop.run { [engine] in engine.count } }
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// - Returns: the answer; its body is still to be read.
    /// - Throws: `HTTPClientError`.
    package func open(_ request: ClientRequest) async throws(HTTPClientError) -> ClientResponse {
        try request.check()
        let (engine, loop) = (engine, loop)
        return try await onLoop(loop) { () async throws(HTTPClientError) in
            var rest = request.timeouts.connect
            var candidates = (request.addresses?.map(Optional.some) ?? [nil])[...]
            while let address = candidates.popFirst() {
                // An address that stays silent must leave time for the next.
                let part = candidates.isEmpty ? rest : rest / 2
                let begun = SystemTime.monotonic
                let transfer = try CurlTransfer(request, address: address, connectLimit: part, engine: engine)
                do throws(HTTPClientError) {
                    let head = try await transfer.begin()
                    return ClientResponse(head, transfer, on: loop)
                } catch {
                    let mayGoOn = error.kind == .connect || error.kind == .timeout(.connect)
                    rest -= .nanoseconds(Int64(clamping: SystemTime.monotonic - begun))
                    guard mayGoOn, !candidates.isEmpty, rest > .zero else { throw error }
                }
            }
            throw HTTPClientError(.connect, "\(request.url.origin) has no address")
        }
    }

    /// Sends a request and gives its answer to `body`; the exchange has ended when this returns. Cancelling the task ends
    /// the connection at once, also while `body` is busy with something else.
    ///
    /// - Returns: what `body` returns.
    /// - Throws: `HTTPClientError`, and what `body` throws.
    package func send<R>(_ request: ClientRequest, _ body: (ClientResponse) async throws -> R) async throws -> R {
        let response = try await open(request)
        defer { response.cancel() }
        return try await withTaskCancellationHandler {
            try await body(response)
        } onCancel: {
            response.cancel()
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// - Returns: head and body.
    /// - Throws: `HTTPClientError`.
    package func fetch(
        _ request: ClientRequest
    ) async throws(HTTPClientError) -> (head: ClientResponseHead, body: [UInt8]) {
        let response = try await open(request)
        return (response.head, try await response.readAll())
    }
}
