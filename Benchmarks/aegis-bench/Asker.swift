import AegisIO
import Glibc
import LinuxSys

/// `aegis-bench --ask PORT...`: asks each server in turn, over one kept connection each. Prints p50 and p99 of each in
/// microseconds, in the order of the ports.
struct Asker: Sendable {
    let ports: [UInt16]

    static let rounds = 40
    /// Requests to one server before it is the next one's turn: a few milliseconds.
    static let batch = 50
    /// At the beginning of each turn, to warm caches; they are not counted.
    private static let warm = 10

    private static let request = Array("GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".utf8)
    private static let end = Array("world\n".utf8)

    func run(on loop: EventLoop) async throws {
        var sockets: [Int32] = []
        for port in ports { sockets.append(try await Self.socket(to: port, on: loop)) }
        var samples = [Samples](repeating: Samples(), count: ports.count)
        for round in 0...Self.rounds {
            // By chance: whoever always followed the same one would have what that one leaves behind in the processor.
            for index in ports.indices.shuffled() {
                let times = Self.batch(sockets[index])
                guard times.count == Self.batch else {
                    throw Runner.Failure(description: "port \(ports[index]) gave no answer")
                }
                // The first round is for connections to the server, and whatever else is made once.
                if round > 0 { for time in times { samples[index].add(time) } }
            }
        }
        for all in samples { writeOutput("\(all.p50) \(all.p99)\n") }
    }

    /// A connection for calls that block: nothing else runs in this process, and a client of one connection does no more.
    private static func socket(to port: UInt16, on loop: EventLoop) async throws -> Int32 {
        let stream = try await Connect.tcp(host: "127.0.0.1", port: port, on: loop)
        defer { stream.close() }
        return try stream.withDescriptor("taking the socket") { descriptor throws(Errno) in
            let own = try descriptor.duplicate()
            try own.setNonblocking(false)
            return own.take()
        }
    }

    /// One turn.
    ///
    /// - Returns: how long each request took, in microseconds; fewer than it should be when one failed.
    private static func batch(_ socket: Int32) -> [Double] {
        var times: [Double] = []
        times.reserveCapacity(batch)
        var answer = [UInt8](repeating: 0, count: 4096)
        for number in 0..<(warm + batch) {
            let start = SystemTime.monotonic
            guard unsafe send(socket, request, request.count, 0) == request.count else { break }
            var count = 0
            repeat {
                let got = unsafe answer.withUnsafeMutableBytes { room in
                    let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: room[count...])
                    return unsafe recv(socket, rest.baseAddress, rest.count, 0)
                }
                guard got > 0 else { return times }
                count += got
            } while answer[..<count].suffix(end.count) != end[...]
            if number >= warm { times.append(Double(SystemTime.monotonic - start) / 1000) }
        }
        return times
    }
}
