import AegisIO
import AegisWire

/// Memory and pipes that the connections of one loop take turns with, so that idle ones have none.
///
/// Touched on the loop's thread only; that is what makes it `@unchecked Sendable`.
package final class ProxyPools: @unchecked Sendable {
    private var buffers: [ByteBuffer] = []
    private var pipes: [SplicePipe] = []
    private var requests: [ProxyRequest] = []

    private static var bufferLimit: Int { 256 }
    private static var bufferSize: Int { 128 << 10 }
    private static var pipeLimit: Int { 64 }
    private static var requestLimit: Int { 64 }

    /// Nothing is kept yet.
    package init() {}

    /// An empty buffer, often one with memory.
    func takeBuffer() -> ByteBuffer { buffers.popLast() ?? ByteBuffer() }

    /// Takes a buffer back and leaves an empty one without memory.
    func give(_ buffer: inout ByteBuffer) {
        guard buffer.capacity > 0 else { return }
        var taken = ByteBuffer()
        swap(&taken, &buffer)
        guard buffers.count < Self.bufferLimit, taken.capacity <= Self.bufferSize else { return }
        taken.removeAll()
        buffers.append(taken)
    }

    /// A request of which nothing is known but who sends it.
    func takeRequest(of client: ProxyClient, limits: HTTPLimits) -> ProxyRequest {
        guard let request = requests.popLast() else { return ProxyRequest(client: client, limits: limits) }
        request.client = client
        return request
    }

    /// Takes back a request, and its buffer's memory.
    func give(_ request: ProxyRequest) {
        give(&request.buffer)
        guard requests.count < Self.requestLimit else { return }
        request.index.release()
        requests.append(request)
    }

    /// An empty pipe.
    func takePipe() throws(IOError) -> SplicePipe {
        if let pipe = pipes.popLast() { return pipe }
        return try SplicePipe()
    }

    /// Takes back a pipe that is empty; one with bytes in it must be dropped instead.
    func give(empty pipe: SplicePipe) {
        if pipes.count < Self.pipeLimit { pipes.append(pipe) }
    }
}

extension FileStream {
    /// Sends all of it; only for the one task that writes, which ends when the stream is closed.
    func send(_ bytes: ArraySlice<UInt8>) async throws(IOError) {
        var rest = bytes
        while !rest.isEmpty {
            if let count = try writeNow(rest) {
                rest = rest.dropFirst(count)
            } else {
                try await waitPlainlyUntilWritable()
            }
        }
    }
}
