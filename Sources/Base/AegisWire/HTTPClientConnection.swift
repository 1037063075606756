package import AegisIO
internal import Synchronization

/// The client's side of one HTTP/1.1 connection: requests one after the other, over any stream.
///
/// A request may begin when the body of the previous response has been read to its end. A request that fails midway
/// leaves the connection unusable; `isReusable` tells.
package final class HTTPClientConnection: Sendable {
    private enum Phase: Equatable {
        case idle
        /// A request is being sent, or its response read.
        case active
        case upgraded
        case dead(HTTPError)
    }

    private struct State: ~Copyable {
        var phase = Phase.idle
        var number = 0
        var buffer = ByteBuffer()
        var parser: HTTPResponseParser
        /// A task waits in the stream's read; the buffer is with it.
        var isReading = false
        var keepAlive = true
        /// Sending is over, whole or not.
        var sent = false
        /// The response has been read to its end.
        var ended = false
        var trailers = HTTPHeaders()

        /// Frees the connection for the next request, or for nothing, once both directions are done.
        mutating func settle() {
            guard phase == .active, sent, ended else { return }
            phase = keepAlive ? .idle : .dead(HTTPError(.closed, "the connection ended with the previous response"))
        }
    }

    private let stream: any ByteStream
    private let host: String
    private let state: Mutex<State>

    /// A connection that has just been made.
    ///
    /// - Parameters:
    ///   - stream: belongs to the connection from now on.
    ///   - host: the value of `Host`.
    ///   - limits: bounds on heads, chunk lines and trailers of responses.
    package init(_ stream: any ByteStream, host: String = "localhost", limits: HTTPLimits = HTTPLimits()) {
        self.stream = stream
        self.host = host
        state = Mutex(State(parser: HTTPResponseParser(limits: limits)))
    }

    deinit { if state.withLock({ $0.phase != .upgraded }) { stream.close() } }

    /// Whether another request can be sent now. The server may have closed meanwhile: then the request fails.
    package var isReusable: Bool { state.withLock { $0.phase == .idle } }

    /// Ends the connection.
    package func close() {
        fail(HTTPError(.closed, "the connection was closed here"))
    }

    // MARK: Requests

    /// Sends a request whose body is in memory and waits for the head of the response.
    ///
    /// - Parameters:
    ///   - request: without the fields that frame the message; `Host` is added where it is missing.
    ///   - body: sent with its length; nil sends none.
    /// - Returns: the response, whose body has still to be read.
    /// - Throws: `.busy` while the previous exchange goes on, `.closed`, `.malformed`, `.cancelled`, `.misuse`.
    package func send(_ request: HTTPRequestHead, body: [UInt8]? = nil) async throws(HTTPError) -> HTTPClientResponse {
        let start = try await exchange(request, body: body, upgrade: nil)
        guard !start.isUpgrade else { throw fail(.malformed("the server changed the protocol without being asked")) }
        return response(start)
    }

    /// Sends a request whose body is made while it is sent.
    ///
    /// An answer of 300 or more that comes before the body is whole ends the sending; the connection is not reused then.
    ///
    /// - Parameters:
    ///   - request: without the fields that frame the message.
    ///   - length: the exact number of bytes; nil sends chunks.
    ///   - body: writes the body; it may run while the response is already coming.
    /// - Returns: the response, whose body has still to be read.
    /// - Throws: `HTTPError`, or what `body` threw.
    package func send(
        _ request: HTTPRequestHead, length: Int?,
        body: @escaping @Sendable (inout HTTPClientBodyWriter) async throws -> Void
    ) async throws -> HTTPClientResponse {
        let coding: HTTPBodyCoding = length.map { .length($0) } ?? .chunked
        let head = try begin(request, coding, upgrade: nil)
        let start = try await upload(head, coding, body)
        guard !start.isUpgrade else { throw fail(.malformed("the server changed the protocol without being asked")) }
        return response(start)
    }

    /// Asks for another protocol.
    ///
    /// - Parameters:
    ///   - request: as for `send`; `Connection` and `Upgrade` are added.
    ///   - name: the protocol, for example `aegis-stream/1`.
    ///   - body: sent with its length; nil sends none.
    /// - Returns: the stream that speaks the new protocol, or the response of a server that did not agree.
    /// - Throws: as `send`.
    package func upgrade(
        _ request: HTTPRequestHead, to name: String, body: [UInt8]? = nil
    ) async throws(HTTPError) -> HTTPClientUpgrade {
        let start = try await exchange(request, body: body, upgrade: name)
        guard start.isUpgrade else { return .refused(response(start)) }
        guard start.head.headers.contains("upgrade", token: name) else {
            throw fail(.malformed("the server changed to another protocol than '\(name)'"))
        }
        let early = state.withLock { state in
            state.phase = .upgraded
            defer { state.buffer = ByteBuffer() }
            return state.buffer
        }
        return .switched(start.head, HTTPClientUpgradedStream(stream, early: early))
    }

    private func response(_ start: HTTPResponseStart) -> HTTPClientResponse {
        HTTPClientResponse(head: start.head, connection: self, number: state.withLock { $0.number })
    }

    private func exchange(
        _ request: HTTPRequestHead, body: [UInt8]?, upgrade: String?
    ) async throws(HTTPError) -> HTTPResponseStart {
        let coding: HTTPBodyCoding = body.map { .length($0.count) } ?? .none
        var head = try begin(request, coding, upgrade: upgrade)
        guard let body, body.count > 64 << 10 else {
            head.append(contentsOf: body ?? [])
            do throws(HTTPError) {
                try await write(head[...])
                endSending(whole: true)
            } catch {
                guard error.code == .closed else { throw fail(error) }
                // A server that refuses may answer and close before it has read anything.
                endSending(whole: false)
                return try await readHead()
            }
            return try await readHead()
        }
        do {
            return try await upload(head, coding) { try await $0.write(body[...]) }
        } catch {
            throw error as? HTTPError ?? HTTPError(.cancelled, "the exchange was cancelled")
        }
    }

    private func begin(
        _ request: HTTPRequestHead, _ coding: HTTPBodyCoding, upgrade: String?
    ) throws(HTTPError) -> [UInt8] {
        var request = request
        for name in ["content-length", "transfer-encoding"] where request.headers.contains(name) {
            throw HTTPError(.misuse, "\(name) is not for callers to set")
        }
        if !request.headers.contains("host") { request.headers.add("Host", host) }
        switch coding {
        case .length(let count): request.headers.add("Content-Length", String(count))
        case .chunked: request.headers.add("Transfer-Encoding", "chunked")
        case .none, .untilClose: break
        }
        if let upgrade {
            request.headers.add("Connection", "Upgrade")
            request.headers.add("Upgrade", upgrade)
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(256)
        try request.encode(into: &bytes)
        let method = request.method
        try state.withLock { state throws(HTTPError) in
            switch state.phase {
            case .idle: break
            case .dead(let error): throw error
            case .active, .upgraded: throw HTTPError(.busy, "the previous exchange on this connection goes on")
            }
            state.phase = .active
            state.number += 1
            state.sent = false
            state.ended = false
            state.keepAlive = true
            state.trailers = [:]
            state.parser.expect(method)
        }
        return bytes
    }

    // MARK: Sending

    /// Notes that nothing more of the request will be sent.
    private func endSending(whole: Bool) {
        state.withLock { state in
            state.sent = true
            if !whole { state.keepAlive = false }
            state.settle()
        }
        closeIfDead()
    }

    private func closeIfDead() {
        let dead = state.withLock { if case .dead = $0.phase { true } else { false } }
        if dead { stream.close() }
    }

    func write(_ bytes: ArraySlice<UInt8>) async throws(HTTPError) {
        do throws(IOError) {
            try await stream.write(bytes)
        } catch {
            throw HTTPError(error)
        }
    }

    private enum Progress: Sendable {
        case sent((any Error)?)
        case head(Result<HTTPResponseStart, HTTPError>)
    }

    /// Sends a long body while it watches for the answer, which may come before the body is whole.
    private func upload(
        _ head: [UInt8], _ coding: HTTPBodyCoding,
        _ body: @escaping @Sendable (inout HTTPClientBodyWriter) async throws -> Void
    ) async throws -> HTTPResponseStart {
        try await withThrowingTaskGroup(of: Progress.self) { group in
            group.addTask {
                do {
                    try await self.write(head[...])
                    var writer = HTTPClientBodyWriter(self, coding)
                    try await body(&writer)
                    try await writer.finish()
                    return .sent(nil)
                } catch { return .sent(error) }
            }
            group.addTask {
                do throws(HTTPError) { return .head(.success(try await self.readHead())) } catch {
                    return .head(.failure(error))
                }
            }
            var start: HTTPResponseStart?
            var failure: (any Error)?
            for try await progress in group {
                switch progress {
                case .sent(nil): endSending(whole: true)
                case .sent(let error?):
                    failure = failure ?? error
                    if (error as? HTTPError)?.code != .closed { group.cancelAll() }
                case .head(.success(let found)):
                    start = found
                    if found.head.status >= 300 { group.cancelAll() }
                case .head(.failure(let error)):
                    failure = failure ?? error
                    group.cancelAll()
                }
            }
            if let start, failure == nil || start.head.status >= 300 {
                endSending(whole: failure == nil)
                return start
            }
            let error = failure ?? HTTPError(.closed, "the connection was lost")
            fail(error as? HTTPError ?? HTTPError(.cancelled, "the body could not be made"))
            throw error
        }
    }

    // MARK: Receiving

    /// Waits for the head of the final response, or of 101.
    private func readHead() async throws(HTTPError) -> HTTPResponseStart {
        var none = ByteBuffer()
        while true {
            guard case .head(let start) = try await event(into: &none, atMost: 1) else { continue }
            if start.isUpgrade { return start }
            guard start.head.status >= 200 else { continue }
            state.withLock { $0.keepAlive = $0.keepAlive && start.keepAlive }
            // Without a body the connection is free at once, whether or not anybody reads to the end.
            if start.framing == .none { _ = try await event(into: &none, atMost: 1) }
            return start
        }
    }

    private enum Event {
        case head(HTTPResponseStart)
        case read(Int)
        case end
        case wait
    }

    /// Bytes of the body; 0 at its end.
    func readBody(_ number: Int, into buffer: inout ByteBuffer, atMost: Int) async throws(HTTPError) -> Int {
        let open = try state.withLock { state throws(HTTPError) -> Bool in
            guard state.number == number, !state.ended else { return false }
            if case .dead(let error) = state.phase { throw error }
            return true
        }
        guard open else { return 0 }
        guard case .read(let count) = try await event(into: &buffer, atMost: max(1, atMost)) else { return 0 }
        return count
    }

    func trailers(_ number: Int) -> HTTPHeaders {
        state.withLock { $0.number == number ? $0.trailers : [:] }
    }

    private func event(into buffer: inout ByteBuffer, atMost: Int) async throws(HTTPError) -> Event {
        try state.withLock { state throws(HTTPError) in
            guard !state.isReading else { throw HTTPError(.busy, "the response is being read by another task") }
            state.isReading = true
        }
        defer { state.withLock { $0.isReading = false } }
        while true {
            let found: Event
            do throws(HTTPError) {
                found = try state.withLock { state throws(HTTPError) in
                    try Self.parse(&state, into: &buffer, atMost: atMost)
                }
            } catch { throw fail(error) }
            if case .end = found { closeIfDead() }
            guard case .wait = found else { return found }
            if try await readMore() { return .end }
        }
    }

    private static func parse(_ state: inout State, into buffer: inout ByteBuffer, atMost: Int) throws(HTTPError)
        -> Event
    {
        var cursor = 0
        let event = try state.parser.next(state.buffer.readable.span, &cursor, atMost: atMost)
        if case .body(let range) = event {
            buffer.move(range.count, after: range.lowerBound, from: &state.buffer)
            return .read(range.count)
        }
        state.buffer.consume(cursor)
        switch event {
        case .needMore: return .wait
        case .head(let start): return .head(start)
        case .body: return .wait
        case .end(let trailers):
            state.trailers = trailers
            state.ended = true
            state.settle()
            return .end
        }
    }

    /// - Returns: whether the stream has ended and the body with it.
    private func readMore() async throws(HTTPError) -> Bool {
        var buffer = state.withLock { state in
            defer { state.buffer = ByteBuffer() }
            return state.buffer
        }
        var count = 0
        var failure: IOError?
        do throws(IOError) { count = try await stream.read(into: &buffer, atMost: 64 << 10) } catch { failure = error }
        state.withLock { $0.buffer = buffer }
        if let failure {
            // A cancelled read has taken nothing: somebody else may go on.
            if failure.kind == .cancelled { throw HTTPError(failure) }
            throw fail(HTTPError(failure))
        }
        guard count == 0 else { return false }
        let whole = state.withLock { state in
            state.ended = state.parser.streamEnded()
            state.keepAlive = false
            state.settle()
            return state.ended
        }
        guard whole else { throw fail(HTTPError(.closed, "the server closed the connection before the end")) }
        closeIfDead()
        return true
    }

    /// Marks the connection as lost and closes it.
    @discardableResult
    private func fail(_ error: HTTPError) -> HTTPError {
        state.withLock { state in
            guard state.phase != .upgraded else { return }
            if case .dead = state.phase { return }
            state.phase = .dead(error)
        }
        stream.close()
        return error
    }
}
