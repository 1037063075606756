package import AegisCore
package import AegisIO
package import AegisJSON
package import AegisWire
internal import LinuxSys
internal import Synchronization

/// A client of one daemon, over its socket. Calls reuse one connection; streams have their own.
package final class APIClient: Sendable {
    /// The socket that answered.
    package let socket: String
    private let loop: EventLoop
    private let idle: Mutex<HTTPClientConnection?>

    /// The most that an answer may hold: 64 MiB.
    package static let answerLimit = 64 << 20

    private init(socket: String, loop: EventLoop, first: HTTPClientConnection) {
        self.socket = socket
        self.loop = loop
        idle = Mutex(first)
    }

    /// Connects to the first socket of a location where somebody listens.
    ///
    /// - Throws: `daemon-not-running` when nobody does, `permission-denied` when the socket is not for this user.
    package static func connect(_ location: DaemonLocation, on loop: EventLoop) async throws(AegisError) -> APIClient {
        var denied: String?
        for path in location.candidates {
            do throws(IOError) {
                let stream = try await Connect.unix(path: path, on: loop)
                return APIClient(socket: path, loop: loop, first: HTTPClientConnection(stream))
            } catch {
                switch error.errno {
                case .noSuchFile?, .connectionRefused?, .notDirectory?: continue
                case .accessDenied?, .notPermitted?: denied = denied ?? path
                default:
                    throw AegisError(.daemonNotRunning, "daemon-not-reachable", "\(error)", hint: "see 'aegis status'")
                }
            }
        }
        if let denied {
            throw AegisError(
                .denied, "permission-denied", "this user may not use the daemon at \(denied)",
                hint: "ask to be added to the group 'aegis', or start your own daemon with AEGIS_HOME set")
        }
        throw AegisError(
            .daemonNotRunning, "daemon-not-running",
            "aegisd is not running (nobody listens on \(location.candidates.joined(separator: " or ")))",
            hint: "start it with: aegis up")
    }

    /// A new connection to the same socket.
    private func open() async throws(AegisError) -> HTTPClientConnection {
        do throws(IOError) {
            return HTTPClientConnection(try await Connect.unix(path: socket, on: loop))
        } catch {
            throw AegisError(.daemonNotRunning, "daemon-not-running", "\(error)", hint: "start it with: aegis up")
        }
    }

    /// The idle connection if there is one, taken away from others.
    private func connection() async throws(AegisError) -> HTTPClientConnection {
        if let known = idle.withLock({ $0.take() }), known.isReusable { return known }
        return try await open()
    }

    private func giveBack(_ connection: HTTPClientConnection) {
        if connection.isReusable { idle.withLock { $0 = connection } }
    }

    private static func head(_ method: HTTPMethod, _ route: Route, type: String?) -> HTTPRequestHead {
        let query = HTTPQuery(route.query.map { (name: $0.0, value: $0.1) })
        var head = HTTPRequestHead(method, HTTPTarget(path: route.path, query: query))
        if let type { head.headers.add("Content-Type", type) }
        return head
    }

    // MARK: Requests

    /// Where a request goes.
    package struct Route: Sendable {
        package var path: [String]
        package var query: [(String, String)]
        /// The decoded segments below `/v1`, and parameters.
        package init(_ path: String..., query: [(String, String)] = []) {
            self.path = ["v1"] + path
            self.query = query
        }
    }

    /// Sends a request and reads its JSON answer; `null` when the answer is empty.
    ///
    /// - Throws: the daemon's own error, `connection-lost`, `unreadable-answer`.
    @discardableResult
    package func call(
        _ method: HTTPMethod, _ route: Route, body: JSONValue? = nil
    ) async throws(AegisError) -> JSONValue {
        let connection = try await connection()
        let head = Self.head(method, route, type: body == nil ? nil : "application/json")
        let status: Int
        let bytes: [UInt8]
        do throws(HTTPError) {
            let response = try await connection.send(head, body: body?.compact)
            status = response.status
            bytes = try await response.collect(upTo: Self.answerLimit)
        } catch { throw Self.failure(error) }
        giveBack(connection)
        return try Self.json(bytes, status: status)
    }

    /// All items of a list, page after page.
    package func list(_ route: Route) async throws(AegisError) -> [JSONValue] {
        var items: [JSONValue] = []
        var route = route
        let base = route.query
        while true {
            let page = try await call(.get, route)
            guard let more = page["items"]?.elements else { throw Self.unreadable("a list was expected") }
            items += more
            guard let next = page["next"]?.text, !more.isEmpty else { return items }
            route.query = base + [("cursor", next)]
        }
    }

    /// Sends a request whose answer is read while it comes.
    ///
    /// - Throws: the daemon's own error when the status is not a success.
    package func stream(
        _ method: HTTPMethod, _ route: Route, body: JSONValue? = nil
    ) async throws(AegisError) -> HTTPClientResponse {
        let connection = try await open()
        let head = Self.head(method, route, type: body == nil ? nil : "application/json")
        let response: HTTPClientResponse
        do throws(HTTPError) { response = try await connection.send(head, body: body?.compact) } catch {
            throw Self.failure(error)
        }
        return try await Self.success(response)
    }

    /// Sends a body while it is made.
    ///
    /// - Throws: the daemon's own error, or what `body` threw.
    package func upload(
        _ method: HTTPMethod, _ route: Route, type: String,
        body: @escaping @Sendable (inout HTTPClientBodyWriter) async throws -> Void
    ) async throws -> JSONValue {
        let connection = try await open()
        do {
            let response = try await connection.send(Self.head(method, route, type: type), length: nil, body: body)
            return try Self.json(try await response.collect(upTo: Self.answerLimit), status: response.status)
        } catch let error as HTTPError { throw Self.failure(error) }
    }

    /// Asks for aegis-stream/1.
    ///
    /// - Throws: the daemon's own error when it does not agree.
    package func upgrade(_ route: Route, body: JSONValue) async throws(AegisError) -> any ByteStream {
        let connection = try await connection()
        let head = Self.head(.post, route, type: "application/json")
        let answer: HTTPClientUpgrade
        do throws(HTTPError) {
            answer = try await connection.upgrade(head, to: StreamProtocol.name, body: body.compact)
        } catch { throw Self.failure(error) }
        switch answer {
        case .switched(_, let stream): return stream
        case .refused(let response):
            _ = try await Self.success(response)
            throw Self.unreadable("the daemon does not speak \(StreamProtocol.name)")
        }
    }

    // MARK: Answers

    private static func success(_ response: HTTPClientResponse) async throws(AegisError) -> HTTPClientResponse {
        guard !(200..<300).contains(response.status) else { return response }
        let bytes: [UInt8]
        do throws(HTTPError) { bytes = try await response.collect(upTo: 1 << 20) } catch { throw failure(error) }
        throw error(bytes, status: response.status)
    }

    private static func json(_ bytes: [UInt8], status: Int) throws(AegisError) -> JSONValue {
        guard (200..<300).contains(status) else { throw error(bytes, status: status) }
        guard !bytes.isEmpty else { return .null }
        do throws(JSONError) { return try JSONValue(parsing: bytes) } catch { throw unreadable("\(error)") }
    }

    private static func error(_ bytes: [UInt8], status: Int) -> AegisError {
        StreamJSON.error(String(decoding: bytes, as: UTF8.self), kind: ErrorKind(httpStatus: status))
    }

    private static func unreadable(_ why: String) -> AegisError {
        AegisError(
            .failed, "unreadable-answer", "the daemon's answer cannot be read: \(why)",
            hint: "compare 'aegis version' with 'aegis status'; restart the daemon after an upgrade")
    }

    /// A broken connection, for callers that cannot tell HTTP's cases apart.
    package static func failure(_ error: HTTPError) -> AegisError {
        let lost = error.code == .closed
        return AegisError(
            lost ? .unavailable : .failed, lost ? "connection-lost" : error.code.description,
            "the connection to the daemon failed: \(error.message)",
            hint: lost ? "see 'aegis status' and aegisd.log" : nil)
    }
}
