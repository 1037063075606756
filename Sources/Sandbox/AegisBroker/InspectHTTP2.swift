import AegisCapabilities
import AegisCore
import AegisIO
import AegisProxy
import AegisTLS

/// Decides about the requests of a guest's HTTP/2 connection, as `InspectConnection` does for HTTP/1.1.
final class InspectPolicy: HTTP2Policy {
    private let rules: InspectRules

    init(_ rules: InspectRules) { self.rules = rules }

    func admit(_ request: HTTP2Fields) -> HTTP2Verdict {
        let asked = asked(request)
        do throws(InspectRefusal) {
            try rules.check(asked, authority: request.text(":authority"), host: request.text("host"))
            try checkTarget(request, asked)
            let secrets = rules.secrets()
            var rewriter = HeadRewriter(secrets, host: rules.host, method: asked.method, path: asked.path)
            let fields: HTTP2Fields
            do throws(BrokerRefusal) { fields = try rewriter.rewrite(request) } catch { throw InspectRefusal(error) }
            try rules.use(rewriter.used, in: asked)
            return .pass(fields, secrets.map { InspectScreen($0, asked, rules) })
        } catch {
            rules.report(.refused(error, asked))
            // A client that took one connection for two hosts makes another one then (RFC 9110, 15.5.20).
            return .refuse(error.asAegisError, status: error.reason == InspectRules.otherHost ? 421 : 403)
        }
    }

    /// The extended CONNECT (RFC 8441) was not offered, so it is none that `admit` sees.
    func malformed(_ request: HTTP2Fields) {
        guard request.text(":method") == "CONNECT" else { return }
        let asked = asked(request)
        do throws(InspectRefusal) {
            try rules.check(asked, authority: request.text(":authority"), host: request.text("host"))
        } catch { rules.report(.refused(error, asked)) }
    }

    /// What is judged is what is sent: no form of a target that some server would read as another one, such as a whole address
    /// in `:path` under a scheme of its own (RFC 9113, 8.3.1).
    private func checkTarget(_ request: HTTP2Fields, _ asked: InspectedRequest) throws(InspectRefusal) {
        let (scheme, path) = (request.text(":scheme") ?? "", request.text(":path") ?? "")
        let isVisible = path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
        let isPath = path.hasPrefix("/") || path == "*" && asked.method == "OPTIONS"
        guard ["https", "http"].contains(scheme), isVisible, isPath else {
            throw InspectRefusal(
                reason: "target-invalid",
                message: "'\(rules.host):\(rules.port)': the request has no path of that host",
                hint: "ask for a path that begins with '/', under the scheme https")
        }
    }

    private func asked(_ request: HTTP2Fields) -> InspectedRequest {
        let path = request.text(":path") ?? ""
        return InspectedRequest(
            host: rules.host, port: rules.port, method: request.text(":method") ?? "",
            path: path.hasPrefix("/") || path == "*" ? path : "/" + path)
    }

    func failed(_ error: AegisError) { rules.report(.failed(error)) }
}

extension InspectRefusal {
    /// The same as an answer says it.
    var asAegisError: AegisError { AegisError(.denied, reason, message, hint: hint) }
}

/// The server of a guest's HTTP/2 connection.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class InspectTarget: HTTP2Target, @unchecked Sendable {
    private let inspector: Inspector
    private let rules: InspectRules
    /// What came of connecting before the guest was answered.
    private var prepared: Result<InspectServer, any Error>?

    init(_ prepared: Result<InspectServer, any Error>?, _ rules: InspectRules, _ inspector: Inspector) {
        self.prepared = prepared
        self.rules = rules
        self.inspector = inspector
    }

    var isOpen: Bool { true }
    func entered() {}
    func left() {}
    func ready() async throws {}

    func dial() async throws -> HTTP2Transport {
        switch prepared.take() {
        case .success(let server) where server.below.peer == .open: return try transport(server)
        case .success(let server): server.stream.close()
        case .failure(let error): throw error
        case nil: break
        }
        return try transport(try await inspector.connect(rules, speaking: ["h2"]))
    }

    private func transport(_ server: InspectServer) throws -> HTTP2Transport {
        guard server.stream.applicationProtocol == "h2" else {
            server.stream.close()
            throw AegisError.malformed("it spoke HTTP/2 before, and does no more")
        }
        return server.stream.http2(over: server.below)
    }

    /// Gives up what was never used.
    func close() {
        if case .success(let server) = prepared.take() { server.stream.close() }
    }

    var lost: AegisError { .upstreamLost }
    func malformed(_ what: String) -> AegisError { .malformed(what) }
}

extension TLSStream {
    /// This stream for HTTP/2 to run over.
    func http2(over below: FileStream) -> HTTP2Transport {
        HTTP2Transport(self, over: below, sayLast: { self.writeLast($0) })
    }
}
