package import AegisIO
internal import Synchronization

/// The one answer to a request. Each way to give it consumes the writer, so that a second answer does not compile.
package struct HTTPResponseWriter: ~Copyable, Sendable {
    let connection: HTTPServerConnection
    let number: Int

    init(connection: HTTPServerConnection, number: Int) {
        self.connection = connection
        self.number = number
    }

    /// Sends a whole answer with its length. `HEAD` gets the same head and no body.
    ///
    /// - Throws: `.misuse` for a head that cannot be sent, `.closed` or `.cancelled` when the client is gone.
    package consuming func respond(
        _ status: Int, headers: HTTPHeaders = [:], body: [UInt8] = []
    ) async throws(HTTPError) {
        try await connection.respond(HTTPResponseHead(status, headers: headers), body: body, number: number)
    }

    /// Sends the head at once and lets the body follow.
    ///
    /// - Parameters:
    ///   - status: 200 to 599.
    ///   - headers: all but the fields that frame the message.
    ///   - length: the exact number of bytes, if it is known; else the body goes in chunks.
    /// - Returns: the writer of the body; it must be finished.
    /// - Throws: as `respond`.
    package consuming func stream(
        _ status: Int, headers: HTTPHeaders = [:], length: Int? = nil
    ) async throws(HTTPError) -> HTTPBodyWriter {
        let head = HTTPResponseHead(status, headers: headers)
        let (bytes, coding) = try connection.begin(head, length.map { .known($0) } ?? .unknown, number: number)
        try await connection.send(bytes[...])
        return HTTPBodyWriter(connection: connection, number: number, coding: coding)
    }

    /// Agrees to change the protocol; what the client has sent already is read first.
    ///
    /// The stream lives until the handler returns. From now on the end of the client's bytes is for the handler to
    /// see and does not cancel it.
    ///
    /// - Throws: `.misuse` when the client did not offer the protocol or its body was not read.
    package consuming func upgrade(
        to name: String, headers: HTTPHeaders = [:]
    ) async throws(HTTPError) -> any ByteStream {
        let bytes = try connection.beginUpgrade(to: name, headers, number: number)
        try await connection.send(bytes[...])
        connection.state.withLock { $0.exchange?.finishUpgrade() }
        return HTTPUpgradedStream(connection)
    }
}

/// The body of an answer whose head was sent. It must be finished: else the connection is cut, and the client knows.
package struct HTTPBodyWriter: ~Copyable, Sendable {
    private let connection: HTTPServerConnection
    private let number: Int
    private let coding: HTTPBodyCoding
    private var encoder: HTTPBodyEncoder

    init(connection: HTTPServerConnection, number: Int, coding: HTTPBodyCoding) {
        self.connection = connection
        self.number = number
        self.coding = coding
        encoder = HTTPBodyEncoder(coding)
    }

    /// Sends bytes at once; waits while the client is slow.
    ///
    /// - Throws: `.misuse` for more bytes than were announced, `.closed` or `.cancelled` when the client is gone.
    package mutating func write(_ bytes: ArraySlice<UInt8>) async throws(HTTPError) {
        do throws(HTTPError) {
            for piece in try encoder.encode(bytes) { try await connection.send(piece) }
        } catch {
            connection.state.withLock { $0.exchange?.breakResponse() }
            throw error
        }
    }

    /// Sends bytes to a reader for as long as it reads, however slowly: an answer without an end must not wait for ever.
    ///
    /// - Parameters:
    ///   - bytes: what to send.
    ///   - limit: how long it may take the client to take a part of them, of 16 KiB at most.
    ///   - clock: whose time.
    /// - Throws: `.timeout` when it did not; the connection is cut then.
    package mutating func write(
        _ bytes: [UInt8], within limit: Duration, clock: any Clock<Duration>
    ) async throws(HTTPError) {
        try await write(bytes, patience: { try await clock.sleep(for: limit) })
    }

    /// Sends bytes to a reader who may take its time for as long as something else goes on.
    ///
    /// - Parameters:
    ///   - bytes: what to send.
    ///   - patience: returns when the client may not take longer for a part of them, of 16 KiB at most; begun anew for each.
    /// - Throws: `.timeout` when it did; the connection is cut then.
    package mutating func write(
        _ bytes: [UInt8], patience: @escaping @Sendable () async throws -> Void
    ) async throws(HTTPError) {
        let connection = connection
        do {
            for piece in try encoder.encode(bytes[...]) {
                var rest = piece
                while !rest.isEmpty {
                    let part = rest.prefix(Self.part)
                    try await withDeadline(when: patience) { try await connection.send(part) }
                    rest = rest.dropFirst(part.count)
                }
            }
        } catch {
            connection.state.withLock { $0.exchange?.breakResponse() }
            if let error = error as? HTTPError { throw error }
            throw (error as? IOError).map { HTTPError($0) } ?? HTTPError(.closed, "\(error)")
        }
    }

    private static let part = 16 << 10

    /// Sends an array.
    package mutating func write(_ bytes: [UInt8]) async throws(HTTPError) { try await write(bytes[...]) }

    /// Ends the body.
    ///
    /// - Parameter trailers: fields after a body in chunks; not sent with other codings.
    /// - Throws: `.misuse` when fewer bytes were written than announced.
    package consuming func finish(trailers: HTTPHeaders = [:]) async throws(HTTPError) {
        do throws(HTTPError) {
            let end = try encoder.end(trailers)
            if !end.isEmpty { try await connection.send(end[...]) }
        } catch {
            connection.state.withLock { $0.exchange?.breakResponse() }
            throw error
        }
        connection.state.withLock { $0.exchange?.finishResponse() }
    }
}

extension HTTPServerConnection {
    /// The head to send, if this request is still the one to answer.
    func begin(
        _ head: HTTPResponseHead, _ length: HTTPResponseLength, number: Int
    ) throws(HTTPError) -> (head: [UInt8], coding: HTTPBodyCoding) {
        try state.withLock { state throws(HTTPError) in
            guard state.exchange?.number == number, let exchange = state.exchange else { throw Self.tooLate }
            var changed = exchange
            let begun = try changed.begin(head, length, closing: state.stopping, drain: limits.drain)
            state.exchange = changed
            return begun
        }
    }

    func beginUpgrade(to name: String, _ headers: HTTPHeaders, number: Int) throws(HTTPError) -> [UInt8] {
        try state.withLock { state throws(HTTPError) in
            guard state.exchange?.number == number, var changed = state.exchange else { throw Self.tooLate }
            let bytes = try changed.beginUpgrade(to: name, headers)
            state.exchange = changed
            state.upgraded = true
            return bytes
        }
    }

    /// Sends head and body as one piece; only a large body goes by itself instead of being copied.
    func respond(_ head: HTTPResponseHead, body: [UInt8], number: Int) async throws(HTTPError) {
        var (bytes, coding) = try begin(head, .known(body.count), number: number)
        if case .length = coding {
            if body.count <= 64 << 10 {
                bytes.append(contentsOf: body)
                try await send(bytes[...])
            } else {
                try await send(bytes[...])
                try await send(body[...])
            }
        } else {
            try await send(bytes[...])
        }
        state.withLock { $0.exchange?.finishResponse() }
    }

    private static var tooLate: HTTPError { HTTPError(.misuse, "the request was answered after its handler returned") }
}
