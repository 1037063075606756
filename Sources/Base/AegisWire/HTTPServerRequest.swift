package import AegisCore
package import AegisIO
internal import Synchronization

/// A request as a handler gets it; the head is whole, the body comes when it is asked for.
package struct HTTPServerRequest: Sendable {
    /// The head.
    package let head: HTTPRequestHead
    /// Who sent it.
    package let peer: HTTPPeer
    /// Whether the client offers to change the protocol; which ones stands in `Upgrade`.
    package let wantsUpgrade: Bool
    /// The body; it is gone when the handler returns.
    package let body: HTTPRequestBody

    /// What to do.
    package var method: HTTPMethod { head.method }
    /// The decoded segments of the path.
    package var path: [String] { head.target.path }
    /// The decoded parameters.
    package var query: HTTPQuery { head.target.query }
    /// The fields.
    package var headers: HTTPHeaders { head.headers }
}

/// The body of a request, read from the connection while the handler runs.
///
/// A client that waits for `100 Continue` gets it at the first read. One task at a time may read.
package struct HTTPRequestBody: Sendable {
    let connection: HTTPServerConnection
    let number: Int

    /// Waits for bytes of the body and appends them to a buffer.
    ///
    /// - Parameters:
    ///   - buffer: gets the bytes.
    ///   - atMost: the most to append; at least 1.
    /// - Returns: how many came; 0 at the end of the body.
    /// - Throws: `.malformed`, `.timeout`, `.closed`, `.cancelled`; an uncaught one becomes the answer.
    package func read(into buffer: inout ByteBuffer, atMost: Int = 64 << 10) async throws(HTTPError) -> Int {
        try await connection.readBody(number, into: &buffer, atMost: atMost)
    }

    /// Reads the whole body into memory.
    ///
    /// - Parameter limit: the most bytes; an announced length beyond it is refused before anything is read.
    /// - Returns: the body, of `limit` bytes at most.
    /// - Throws: `body-too-large` (413), or what `read` throws.
    package func collect(upTo limit: Int) async throws(AegisError) -> [UInt8] {
        let announced = connection.state.withLock { state -> Int in
            guard state.exchange?.number == number, case .length(let count)? = state.exchange?.start.framing else {
                return 0
            }
            return count
        }
        guard announced <= limit else { throw Self.tooLarge(limit) }
        connection.arm(connection.limits.bodyTime)
        defer { connection.arm(nil) }
        var buffer = ByteBuffer()
        do throws(HTTPError) {
            while try await connection.readBody(number, into: &buffer, atMost: 256 << 10, timed: false) > 0 {
                guard buffer.readableBytes <= limit else { break }
            }
        } catch {
            throw error.aegisError
        }
        guard buffer.readableBytes <= limit else { throw Self.tooLarge(limit) }
        return buffer.takeAll()
    }

    /// The trailer fields; empty until the body has been read to its end.
    package var trailers: HTTPHeaders {
        connection.state.withLock { $0.exchange?.number == number ? $0.exchange?.trailers ?? [:] : [:] }
    }

    private static func tooLarge(_ limit: Int) -> AegisError {
        AegisError(.tooLarge, "body-too-large", "the request body has more than \(limit) bytes")
    }
}
