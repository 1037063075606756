package import AegisIO
internal import Synchronization

/// A response whose head has come; the body is read from the connection.
package struct HTTPClientResponse: Sendable {
    /// The head.
    package let head: HTTPResponseHead
    let connection: HTTPClientConnection
    let number: Int

    init(head: HTTPResponseHead, connection: HTTPClientConnection, number: Int) {
        self.head = head
        self.connection = connection
        self.number = number
    }

    /// The status, 200 to 599.
    package var status: Int { head.status }
    /// The fields.
    package var headers: HTTPHeaders { head.headers }

    /// Waits for bytes of the body and appends them to a buffer.
    ///
    /// - Parameters:
    ///   - buffer: gets the bytes.
    ///   - atMost: the most to append; at least 1.
    /// - Returns: how many came; 0 at the end of the body.
    /// - Throws: `.closed` when the body is cut short, `.malformed`, `.cancelled`.
    package func read(into buffer: inout ByteBuffer, atMost: Int = 64 << 10) async throws(HTTPError) -> Int {
        try await connection.readBody(number, into: &buffer, atMost: atMost)
    }

    /// Reads the whole body into memory.
    ///
    /// - Parameter limit: the most bytes; a longer body is `.tooLarge`, and the connection is closed.
    /// - Returns: the body, of `limit` bytes at most.
    /// - Throws: as `read`.
    package func collect(upTo limit: Int) async throws(HTTPError) -> [UInt8] {
        var buffer = ByteBuffer()
        while try await read(into: &buffer, atMost: 256 << 10) > 0 {
            guard buffer.readableBytes <= limit else {
                connection.close()
                throw HTTPError(.tooLarge, "the response has more than \(limit) bytes")
            }
        }
        return buffer.takeAll()
    }

    /// The trailer fields; empty until the body has been read to its end.
    package var trailers: HTTPHeaders { connection.trailers(number) }
}

/// How a server answered a request to change the protocol.
package enum HTTPClientUpgrade: Sendable {
    /// The stream speaks the new protocol; bytes that came with the head are read first.
    case switched(HTTPResponseHead, any ByteStream)
    /// The server gave an ordinary answer.
    case refused(HTTPClientResponse)
}

/// Sends the body of a request while it is made.
package struct HTTPClientBodyWriter: ~Copyable, Sendable {
    private let connection: HTTPClientConnection
    private var encoder: HTTPBodyEncoder

    init(_ connection: HTTPClientConnection, _ coding: HTTPBodyCoding) {
        self.connection = connection
        encoder = HTTPBodyEncoder(coding)
    }

    /// Sends bytes; waits while the server is slow.
    ///
    /// - Throws: `.misuse` for more than was announced, `.closed` or `.cancelled`.
    package mutating func write(_ bytes: ArraySlice<UInt8>) async throws(HTTPError) {
        for piece in try encoder.encode(bytes) { try await connection.write(piece) }
    }

    /// Ends the body; fails when bytes are missing.
    consuming func finish() async throws(HTTPError) {
        let end = try encoder.end([:])
        if !end.isEmpty { try await connection.write(end[...]) }
    }
}

/// A client's connection after its protocol has changed.
final class HTTPClientUpgradedStream: ByteStream {
    private let stream: any ByteStream
    private let early: Mutex<ByteBuffer>

    init(_ stream: any ByteStream, early: ByteBuffer) {
        self.stream = stream
        self.early = Mutex(early)
    }

    deinit { stream.close() }

    func read(into buffer: inout ByteBuffer, atMost: Int) async throws(IOError) -> Int {
        let count = early.withLock { early in
            let count = min(early.readableBytes, atMost)
            if count > 0 { buffer.move(count, from: &early) }
            return count
        }
        return count > 0 ? count : try await stream.read(into: &buffer, atMost: atMost)
    }

    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) { try await stream.write(bytes) }
    func closeWrite() throws(IOError) { try stream.closeWrite() }
    func close() { stream.close() }
}
