internal import AegisIO
package import AegisWire
internal import Synchronization

/// An answer whose head has come; the body comes as it is read, and no faster.
///
/// One task reads it. What is not read to its end is ended with its connection when this goes, or by `cancel`.
package final class ClientResponse: Sendable {
    /// The head.
    package let head: ClientResponseHead
    /// The numeric address that has answered (a proxy's, when there is one).
    package let peer: String
    private let transfer: CurlTransfer
    private let loop: EventLoop
    /// The answer may come to its end without this.
    private let isReleased = Atomic(false)

    /// 200 to 599; redirects are for the caller to follow.
    package var status: Int { head.status }
    /// The fields of the head.
    package var headers: HTTPHeaders { head.headers }

    init(_ head: ClientResponseHead, _ transfer: CurlTransfer, on loop: EventLoop) {
        self.head = head
        self.transfer = transfer
        self.loop = loop
        peer = transfer.peer?.address ?? ""
    }

    deinit { if !isReleased.load(ordering: .relaxed) { cancel() } }

    /// Waits for bytes of the body.
    ///
    /// - Returns: at least one byte; nil at the end.
    /// - Throws: `HTTPClientError`, after what came before.
    package func read() async throws(HTTPClientError) -> [UInt8]? {
        let transfer = transfer
        return try await onLoop(loop) { () async throws(HTTPClientError) in try await transfer.read() }
    }

    /// Reads the rest of the body.
    ///
    /// - Parameter limit: the most bytes; more is `.tooLarge`.
    /// - Returns: all of it.
    /// - Throws: `HTTPClientError`; then nothing of the body is returned.
    package func readAll(limit: Int = .max) async throws(HTTPClientError) -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = try await read() {
            guard bytes.count <= limit - all.count else {
                cancel()
                throw HTTPClientError(.tooLarge, "the answer has more than \(limit) bytes")
            }
            all += bytes
        }
        return all
    }

    /// Reads no more. An answer that comes to its end within a moment leaves its connection for the next request; another one
    /// is ended with its connection. Does not wait.
    ///
    /// - Parameters:
    ///   - time: how long the moment is.
    ///   - bytes: how much of the body may still come.
    package func finishSoon(within time: Duration = .milliseconds(500), upTo bytes: Int = 64 << 10) {
        let isFirst = isReleased.exchange(true, ordering: .relaxed) == false
        if isFirst { loop.call { [transfer] _ in transfer.discard(within: time, upTo: bytes) } }
    }

    /// Ends the exchange unless it is over, and its connection with it.
    package func cancel() {
        loop.call { [transfer] _ in transfer.cancel() }
    }
}

/// Runs `body` on a loop's thread, where curl's objects live; at once when the caller is there.
func onLoop<T: Sendable>(
    _ loop: EventLoop, _ body: @escaping @Sendable () async throws(HTTPClientError) -> T
) async throws(HTTPClientError) -> T {
    let result: Result<T, HTTPClientError> = await loop.run {
        do throws(HTTPClientError) { return .success(try await body()) } catch { return .failure(error) }
    }
    return try result.get()
}
