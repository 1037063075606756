internal import AegisIO
internal import Synchronization

/// A server's connection after its protocol has changed: bytes that came with the request are read first.
final class HTTPUpgradedStream: ByteStream {
    private let connection: HTTPServerConnection

    init(_ connection: HTTPServerConnection) { self.connection = connection }

    func read(into buffer: inout ByteBuffer, atMost: Int) async throws(IOError) -> Int {
        while true {
            enum Found { case bytes(Int), end(HTTPServerConnection.Ending), wait }
            let found = connection.state.withLock { state -> Found in
                let count = min(state.buffer.readableBytes, atMost)
                if count == 0 { return state.ending.map { .end($0) } ?? .wait }
                buffer.move(count, from: &state.buffer)
                return .bytes(count)
            }
            switch found {
            case .bytes(let count):
                connection.room.set()
                return count
            case .end(.endOfStream): return 0
            case .end: throw .closed
            case .wait:
                await connection.input.wait()
                if Task.isCancelled { throw .cancelled }
            }
        }
    }

    func write(_ bytes: ArraySlice<UInt8>) async throws(IOError) { try await connection.stream.write(bytes) }

    func closeWrite() throws(IOError) { try connection.stream.closeWrite() }

    func close() {
        connection.end(.failed)
        connection.stream.close()
    }
}
