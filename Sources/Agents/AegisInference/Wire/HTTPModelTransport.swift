package import AegisHTTPClient
internal import AegisWire

/// Reaches providers over HTTP with libcurl.
package struct HTTPModelTransport: ModelTransport {
    private let client: HTTPClient
    private let usesEnvironmentProxy: Bool

    /// Makes a transport.
    ///
    /// - Parameters:
    ///   - client: does the work; one for all providers.
    ///   - usesEnvironmentProxy: whether `https_proxy` and the like count.
    package init(_ client: HTTPClient, usesEnvironmentProxy: Bool = false) {
        self.client = client
        self.usesEnvironmentProxy = usesEnvironmentProxy
    }

    package func post(
        _ url: String, headers: [(String, String)], body: [UInt8], timeouts: TransportTimeouts,
        onHead: (_ status: Int, _ headers: [(String, String)]) throws -> Void,
        onBody: (ArraySlice<UInt8>) async throws -> Void
    ) async throws(TransportError) {
        let response: ClientResponse
        do throws(HTTPClientError) {
            response = try await client.open(request(url, headers, body, timeouts))
        } catch {
            throw TransportError(error)
        }
        // The caller has all it wants, or is cancelled: then the connection is of no use to anybody.
        func stop() -> TransportError {
            if Task.isCancelled { response.cancel() } else { response.finishSoon() }
            return TransportError(.stopped, "the answer was read no further")
        }
        do { try onHead(response.status, response.headers.map { ($0.name.lowercased(), $0.value) }) } catch {
            throw stop()
        }
        while true {
            let piece: [UInt8]?
            do throws(HTTPClientError) { piece = try await response.read() } catch { throw TransportError(error) }
            guard let piece else { return }
            do { try await onBody(piece[...]) } catch { throw stop() }
        }
    }

    private func request(
        _ url: String, _ headers: [(String, String)], _ body: [UInt8], _ timeouts: TransportTimeouts
    ) throws(HTTPClientError) -> ClientRequest {
        var request = ClientRequest(
            .post, try WebURL(url), headers: HTTPHeaders(headers.map { ($0.0, $0.1) }), body: body)
        request.timeouts = ClientTimeouts(
            connect: timeouts.connect, firstByte: timeouts.firstByte, idle: timeouts.idle, total: timeouts.total)
        request.maximumBody = ReplyLimits.bytes
        request.usesEnvironmentProxy = usesEnvironmentProxy
        return request
    }
}

extension TransportError {
    /// What a failure of the client means for an exchange.
    init(_ error: HTTPClientError) {
        let kind: Kind =
            switch error.kind {
            case .invalidRequest: .badAddress
            case .resolve: .name
            case .connect, .refusedAddress, .busy: .connect
            case .tls: .tls
            case .timeout(.connect): .timeout(.connect)
            case .timeout(.firstByte): .timeout(.firstByte)
            case .timeout(.idle): .timeout(.idle)
            case .timeout(.total): .timeout(.total)
            case .cut, .closed: .closed
            case .badAnswer: .badAnswer
            case .tooLarge: .tooLarge
            case .cancelled: .cancelled
            }
        self.init(kind, error.message)
    }
}
