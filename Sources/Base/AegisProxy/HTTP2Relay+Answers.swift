package import AegisCore
import AegisIO
import AegisWire

extension HTTP2Relay {
    func interim(_ exchange: HTTP2Exchange, _ section: HTTP2Fields) {
        link.session.submit(.interim, exchange.id, section)
        link.flush()
    }

    func respond(_ exchange: HTTP2Exchange, _ section: HTTP2Fields, ends: Bool) {
        exchange.isAnswered = true
        link.session.submit(.response, exchange.id, section, ends: ends)
        link.flush()
    }

    func resume(_ exchange: HTTP2Exchange) {
        link.session.resume(exchange.id)
        link.flush()
    }

    /// The server has closed its stream; what it sent before still goes to the client.
    func serverEnded(_ exchange: HTTP2Exchange, _ code: HTTP2Code) {
        guard exchange.down.isWhole else {
            link.session.reset(exchange.id, code == .none ? .internalError : code)
            return link.flush()
        }
        stopUpload(exchange)
    }

    /// The response is over and nobody reads the rest of the request: the client may stop sending it.
    func stopUpload(_ exchange: HTTP2Exchange) {
        guard exchange.isFinished, !exchange.up.isWhole, exchange.isServerDone || exchange.isOurs else { return }
        link.session.reset(exchange.id, .none)
        link.flush()
    }

    /// Ends an exchange whose server is gone, in a way that its client understands.
    func fail(_ exchange: HTTP2Exchange, _ error: AegisError) {
        policy?.failed(error)
        giveUp(exchange, error)
    }

    /// Lets nothing more of a request through; what the server has of it is taken back.
    func refuse(_ exchange: HTTP2Exchange, _ error: AegisError) {
        waiting[exchange.id] = nil
        let owed = exchange.up.drop(proxy)
        if owed > 0 { link.session.consume(owed) }
        if let server = exchange.server, !exchange.isServerDone { server.abandon(exchange, .cancel) }
        exchange.isServerDone = true
        giveUp(exchange, error)
    }

    private func giveUp(_ exchange: HTTP2Exchange, _ error: AegisError) {
        guard exchange.isAnswered else { return answer(exchange, error) }
        if exchange.down.isWhole { return stopUpload(exchange) }
        if exchange.isGRPC {
            exchange.down.trailers = HTTP2Fields(GRPC.status(error))
            exchange.down.isWhole = true
            exchange.isOurs = true
            return resume(exchange)
        }
        link.session.reset(exchange.id, .internalError)
        link.flush()
    }

    /// Answers a request that goes nowhere: a call with its status, others with the error of the API.
    func answer(_ exchange: HTTP2Exchange, _ error: AegisError, status: Int? = nil) {
        exchange.isOurs = true
        exchange.down.isWhole = true
        let owed = exchange.up.drop(proxy)
        if owed > 0 { link.session.consume(owed) }
        var head: HTTP2Fields
        if exchange.isGRPC {
            head = HTTP2Fields([":status": "200", "content-type": "application/grpc"])
            for (name, value) in GRPC.status(error) { head.add(name, value) }
            respond(exchange, head, ends: true)
        } else {
            let body = error.jsonBody
            let code = status ?? Self.status(error)
            let isHead = exchange.request.text(":method") == "HEAD"
            head = HTTP2Fields([
                ":status": "\(code)", "content-type": "application/json", "content-length": "\(body.count)",
                "cache-control": "no-store",
            ])
            if !isHead { _ = exchange.down.append(body.span, proxy) }
            respond(exchange, head, ends: isHead)
        }
    }

    private static func status(_ error: AegisError) -> Int {
        switch error.kind {
        case .denied: 403
        case .timeout: 504
        case .failed: 502
        default: 503
        }
    }
}

extension AegisError {
    /// The server took the request and gave no answer.
    package static let lost = AegisError(
        .failed, "backend-lost", "the server in the sandbox closed the connection before it answered")
}
