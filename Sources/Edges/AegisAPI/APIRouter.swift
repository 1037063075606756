internal import AegisCore
package import AegisInstances
package import AegisWire

/// Finds the route of a request and runs it.
package struct APIRouter: Sendable {
    /// Which door a request came through.
    package enum Door: Sendable, Equatable {
        /// The daemon's own socket: the kernel says who the caller is.
        case socket
        /// TCP: a bearer token is needed, and requests of web pages are refused (decision D26).
        case tcp(token: String, hosts: [String], openMetrics: Bool)
        /// From inside an instance, which is known by its door; a page in a browser there is refused (decision D21).
        case guest
    }

    package let routes: [Route]
    private let owner: Caller

    /// Makes a router; `owner` is who a holder of the token acts as.
    package init(routes: [Route], owner: Caller) {
        self.routes = routes
        self.owner = owner
    }

    /// The handler that an HTTP server of a door uses.
    package func handler(for door: Door) -> HTTPServer.Handler {
        { request, writer in
            try checkSource(of: request, at: door)
            let (route, parameters) = try find(request)
            let caller = try admit(request, at: door, to: route)
            let context = RequestContext(
                caller: caller, request: request, parameters: parameters, query: try query(request),
                isAdministrator: door != .guest && (caller.uid == 0 || caller.uid == owner.uid))
            try context.checkQuery(route.query)
            try await route.handler(context, writer)
        }
    }

    private func find(_ request: HTTPServerRequest) throws -> (Route, [String: String]) {
        let path = request.path
        // The answer to HEAD is that to GET, without its body.
        let wanted = request.method == .head ? .get : request.method
        var allowed: [String] = []
        var instead: String?
        for route in routes {
            guard let parameters = route.match(path) else { continue }
            if route.method == wanted { return (route, parameters) }
            allowed.append(route.method.rawValue)
            instead = instead ?? route.instead
            if route.method == .get { allowed.append(HTTPMethod.head.rawValue) }
        }
        let text = "/" + path.joined(separator: "/")
        guard allowed.isEmpty else {
            let list = allowed.joined(separator: ", ")
            throw HTTPRefusal(
                405, headers: ["Allow": list],
                AegisError(
                    .usage, "method-not-allowed", "\(request.method) is not allowed on \(text)",
                    hint: (instead.map { "\($0); " } ?? "") + "allowed: \(list)"))
        }
        throw AegisError.notFound(
            "route-not-found", "there is no \(text)",
            hint: nearest(text, in: routes.map(\.path)).map { "did you mean \($0)?" } ?? "see /v1/openapi.json")
    }

    /// Refuses what a web page could make a browser send to TCP.
    private func checkSource(of request: HTTPServerRequest, at door: Door) throws(AegisError) {
        let hosts: [String]
        switch door {
        case .socket: return
        case .tcp(_, let served, _): hosts = served
        case .guest: hosts = ["localhost", "127.0.0.1"]
        }
        if let origin = request.headers.first("origin") {
            throw AegisError(
                .denied, "origin-refused", "requests of web pages are refused (origin '\(origin)')",
                hint: "call the API from a program, not from a page")
        }
        // RFC 9112, 3.2.2: "a server MUST ignore the received Host header field (if any) and instead use the host
        // information of the request-target" when that is in absolute form.
        let host = hostName(request.head.target.authority ?? request.headers.first("host") ?? "")
        guard hosts.contains(host) else {
            throw AegisError(
                .denied, "host-refused", "host '\(host)' is not served",
                hint: door == .guest ? "use 127.0.0.1" : "use 127.0.0.1, or add it to network.hosts")
        }
    }

    private func admit(_ request: HTTPServerRequest, at door: Door, to route: Route) throws -> Caller {
        switch door {
        case .socket:
            guard case .unix(let user, let group, _) = request.peer else {
                throw AegisError(.denied, "no-credentials", "the socket does not say who asks")
            }
            return Caller(uid: user, gid: group)
        case .guest:
            // Nobody: routes of this door know the instance, and act for it alone.
            return Caller(uid: .max, gid: .max)
        case .tcp(let token, _, let openMetrics):
            if route.isOpen || (openMetrics && route.path == "/metrics") { return owner }
            let given = request.headers.first("authorization")
            guard let offered = given.flatMap(bearerToken), same(offered, token) else {
                let challenge = "Bearer realm=\"aegis\"" + (given == nil ? "" : ", error=\"invalid_token\"")
                throw HTTPRefusal(
                    401, headers: ["WWW-Authenticate": challenge],
                    AegisError(
                        .denied, "token-needed", "the API on TCP needs a bearer token",
                        hint: "send 'Authorization: Bearer' with the content of the file 'token' in AEGIS_HOME"))
            }
            return owner
        }
    }

    /// The token of `Bearer TOKEN`; the scheme's case does not matter (RFC 9110, 11.1).
    private func bearerToken(_ field: String) -> String? {
        let parts = field.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return String(parts[1].drop { $0 == " " })
    }

    /// Compares in a time that does not depend on where two texts differ.
    private func same(_ a: String, _ b: String) -> Bool {
        let (a, b) = (Array(a.utf8), Array(b.utf8))
        guard a.count == b.count else { return false }
        return zip(a, b).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }

    private func hostName(_ host: String) -> String {
        if host.hasPrefix("[") { return String(host.prefix { $0 != "]" }) + "]" }
        return String(host.prefix { $0 != ":" }).lowercased()
    }

    private func query(_ request: HTTPServerRequest) throws(AegisError) -> [String: String] {
        var query: [String: String] = [:]
        for name in request.query.names {
            guard query.updateValue(request.query.first(name) ?? "", forKey: name) == nil else {
                throw AegisError.usage("query parameter '\(name)' is given twice")
            }
        }
        return query
    }
}
