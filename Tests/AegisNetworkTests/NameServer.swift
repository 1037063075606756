import AegisIO
import AegisTestSupport
import Glibc
import LinuxSys
import Synchronization
import Testing

@testable import AegisNetwork

/// A name server on loopback, over UDP and TCP on one port. The first label of a name says what it does.
final class NameServer: Sendable {
    /// The address and port, as `HostResolver` takes them.
    let place: String
    private let questions: FileStream
    private let conversations: AegisIO.Listener
    private let state = Mutex(State())

    private struct State {
        var asked: [Question] = []
        var waiters: [(count: Int, kind: String, CheckedContinuation<Void, Never>)] = []
    }
    /// A question that came, and how.
    struct Question: Sendable, Equatable {
        var name: String
        var isIPv4: Bool
        var isTCP = false
    }
    private enum Kind { case udp, tcp }

    init(on loop: EventLoop) throws {
        // The port that the kernel gave for one protocol may be taken for the other.
        for _ in 0..<20 {
            let raw = socket(AF_INET, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
            let descriptor = try FileDescriptor(checking: raw)
            try descriptor.bind(to: #require(SocketAddress(ip: "127.0.0.1", port: 0)))
            let stream = try FileStream(descriptor, on: loop)
            let port = try stream.localPort()
            guard let listener = try? AegisIO.Listener.tcp(address: "127.0.0.1", port: port, on: loop) else { continue }
            (questions, conversations, place) = (stream, listener, "127.0.0.1:\(port)")
            return
        }
        throw IOError(.closed, "no port is free for both protocols")
    }

    /// Serves until the body is over.
    static func with(_ body: @escaping @Sendable (NameServer, EventLoop) async throws -> Void) async throws {
        try await onLoop { loop in
            let server = try NameServer(on: loop)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { await server.answer() }
                group.addTask { await server.converse() }
                defer {
                    server.questions.close()
                    server.conversations.close()
                }
                try await body(server, loop)
            }
        }
    }

    /// What was asked so far.
    var asked: [Question] { state.withLock { $0.asked } }

    /// Waits until so many different names of a kind were asked for.
    func hasHeard(_ count: Int, of kind: String) async {
        await withCheckedContinuation { continuation in
            state.withLock { $0.waiters.append((count, kind, continuation)) }
            tell()
        }
    }

    private func tell() {
        let ready = state.withLock { state in
            let names = Set(state.asked.map(\.name))
            func isMet(_ waiter: (count: Int, kind: String, CheckedContinuation<Void, Never>)) -> Bool {
                names.count { $0.hasPrefix(waiter.kind) } >= waiter.count
            }
            defer { state.waiters.removeAll(where: isMet) }
            return state.waiters.filter(isMet).map(\.2)
        }
        for one in ready { one.resume() }
    }

    private func answer() async {
        var memory = [UInt8](repeating: 0, count: 4096)
        while (try? await questions.waitUntilReadable()) != nil {
            while let (count, address, port) = try? questions.withDescriptor(
                "reading", { descriptor throws(Errno) in try descriptor.receiveDatagram(into: &memory) })
            {
                for response in responses(to: memory[..<count], .udp) {
                    try? questions.withDescriptor("answering") { descriptor throws(Errno) in
                        descriptor.sendDatagram(response, to: address, port)
                    }
                }
            }
        }
    }

    private func converse() async {
        await withDiscardingTaskGroup { group in
            while let client = try? await conversations.accept() {
                group.addTask {
                    var buffer = ByteBuffer()
                    while let count = try? await client.read(into: &buffer, atMost: 4096), count > 0 {
                        while buffer.readableBytes > 2,
                            buffer.readableBytes >= 2 + (Int(buffer[0]) << 8 | Int(buffer[1]))
                        {
                            let length = buffer.take(2)
                            let question = buffer.take(Int(length[0]) << 8 | Int(length[1]))
                            for response in self.responses(to: question[...], .tcp) {
                                // In pieces, as a network may deliver them.
                                let bytes = [UInt8(response.count >> 8), UInt8(response.count & 0xff)] + response
                                try? await client.write(bytes[..<2])
                                try? await client.write(bytes[2..<20])
                                try? await client.write(bytes[20...])
                            }
                        }
                    }
                    client.close()
                }
            }
        }
    }

    /// What is sent back: nothing, or some answers.
    private func responses(to bytes: ArraySlice<UInt8>, _ kind: Kind) -> [[UInt8]] {
        guard let query = try? DNSQuery(bytes) else { return [] }
        let isIPv4 = query.kind == .address
        state.withLock { $0.asked.append(Question(name: query.name, isIPv4: isIPv4, isTCP: kind == .tcp)) }
        defer { tell() }
        let address: [UInt8] = isIPv4 ? [203, 0, 113, 7] : [0x20, 1, 0x0d, 0xb8] + [UInt8](repeating: 7, count: 12)
        func response(_ addresses: [[UInt8]] = [], code: UInt8 = 0, cut: Bool = false) -> [UInt8] {
            var out = Array(bytes)
            out[2] = 0x81 | (cut ? 2 : 0)
            (out[3], out[7]) = (0x80 | code, UInt8(addresses.count))
            for one in addresses {
                out += [0xc0, 12, 0, isIPv4 ? 1 : 28, 0, 1, 0, 0, 0, 60, 0, UInt8(one.count)] + one
            }
            return out
        }
        switch query.name.split(separator: ".").first?.prefix(4) {
        case "hang": return []
        case "none": return [response(code: 3)]
        case "nine": return [response()]
        case "six": return [response(isIPv4 ? [] : [address])]
        case "half": return isIPv4 ? [response([address])] : []
        case "long" where kind == .udp: return [response(cut: true)]
        case "long": return [response((0..<10).map { Array(address.dropLast()) + [UInt8($0)] })]
        // A stranger's guess, a torn answer, and the real one.
        case "odd":
            var guess = response([[198, 51, 100, 66]])
            guess[0] ^= 0xff
            return [guess, Array(response([address]).prefix(14)), response([address])]
        default: return [response([address])]
        }
    }
}
