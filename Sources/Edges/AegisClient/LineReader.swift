package import AegisCore
internal import AegisIO
package import AegisJSON
package import AegisWire

/// The JSON objects of an NDJSON answer, one after the other.
package struct LineReader: Sendable {
    private let response: HTTPClientResponse
    private var buffer = ByteBuffer()
    private var searched = 0
    private var ended = false
    private let limit: Int

    /// The most that one line may hold: 1 MiB (the daemon cuts the lines of logs at 64 KiB).
    package static let lineLimit = 1 << 20

    /// Reads an answer; a line of it holds so much at most.
    package init(_ response: HTTPClientResponse, limit: Int = lineLimit) {
        self.response = response
        self.limit = limit
    }

    /// The next object; nil at the end.
    ///
    /// - Throws: `connection-lost`, or `unreadable-answer` for a line that is no JSON.
    package mutating func next() async throws(AegisError) -> JSONValue? {
        while true {
            if let line = takeLine() {
                guard !line.isEmpty else { continue }
                do throws(JSONError) { return try JSONValue(parsing: line) } catch {
                    throw .failed("unreadable-answer", "the daemon sent a line that cannot be read: \(error)")
                }
            }
            guard !ended else { return nil }
            guard buffer.readableBytes <= limit else {
                throw .failed("unreadable-answer", "the daemon sent a line of more than \(limit) bytes")
            }
            do throws(HTTPError) { ended = try await response.read(into: &buffer) == 0 } catch {
                throw APIClient.failure(error)
            }
        }
    }

    private mutating func takeLine() -> [UInt8]? {
        if let end = buffer.firstOffset(of: 10, from: searched) {
            searched = 0
            let line = buffer.take(end)
            buffer.consume(1)
            return line
        }
        searched = buffer.readableBytes
        guard ended, searched > 0 else { return nil }
        searched = 0
        return buffer.takeAll()
    }
}
