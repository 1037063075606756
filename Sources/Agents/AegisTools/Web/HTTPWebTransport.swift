package import AegisHTTPClient
internal import AegisWire

/// The web by way of the HTTP client: each address is asked for before it is connected to, and connections are not shared
/// between tools' requests, so that nobody uses one that was made for somebody else.
package struct HTTPWebTransport: WebTransport {
    private let client: HTTPClient

    /// A transport.
    ///
    /// - Parameter client: what does the work.
    package init(_ client: HTTPClient) { self.client = client }

    package func get(_ request: WebRequest) async throws -> WebAnswer {
        do {
            var outgoing = ClientRequest(.get, try WebURL(request.url), headers: HTTPHeaders(request.headers))
            outgoing.timeouts = ClientTimeouts(
                connect: min(request.timeLimit, .seconds(10)), firstByte: request.timeLimit, idle: request.timeLimit,
                total: request.timeLimit)
            outgoing.admits = request.admits
            outgoing.reusesConnection = false
            outgoing.maximumBody = .max
            return try await client.send(outgoing) { response in
                var most = request.mostBytes
                let type = response.headers.first { $0.name.lowercased() == "content-type" }?.value ?? ""
                if let pages = request.mostPageBytes, WebContent(type) == .page { most = pages }
                var body: [UInt8] = []
                var isTruncated = false
                // One byte more than is wanted tells whether there is more.
                while !isTruncated, let piece = try await response.read() {
                    let room = most - body.count
                    body += piece.prefix(room)
                    isTruncated = piece.count > room
                }
                return WebAnswer(
                    status: response.status, headers: response.headers.map { $0 }, body: body, isTruncated: isTruncated)
            }
        } catch let error as HTTPClientError {
            switch error.kind {
            case .cancelled: throw CancellationError()
            case .resolve: throw WebFailure(.unresolved, error.message)
            case .refusedAddress: throw WebFailure(.refusedAddress, error.message)
            case .tls: throw WebFailure(.certificate, error.message)
            case .timeout: throw WebFailure(.timeout, error.message)
            default: throw WebFailure(.connection, error.message)
            }
        }
    }
}
