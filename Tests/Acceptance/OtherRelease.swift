import AegisIO
import LinuxSys

/// Stands between a daemon and the keeper of one sandbox, and makes each look to the other as if it were of another release.
final class OtherRelease: Sendable {
    /// What becomes of the messages that pass.
    enum Form: Sendable {
        /// Both claim to be newer, and every message has fields at its end that the other does not know.
        case newer
        /// The keeper claims to be older than everything that can be talked to.
        case ancient
    }
    private let form: Form
    private let listener: Listener
    private let keeper: String
    private let loop: EventLoop

    /// Takes the place of a keeper's socket. The daemon must be away.
    init(before socket: String, as form: Form, on loop: EventLoop) throws {
        self.form = form
        self.loop = loop
        keeper = socket + ".own"
        try Files.rename(socket, to: keeper)
        listener = try Listener.unix(path: socket, on: loop)
    }

    /// Relays every connection, until the task is cancelled.
    func serve() async {
        await withDiscardingTaskGroup { group in
            while let daemon = try? await listener.accept() {
                group.addTask { await self.relay(daemon) }
            }
        }
    }

    func close() { listener.close() }

    private func relay(_ daemon: FileStream) async {
        guard let keeper = try? await Connect.unix(path: keeper, on: loop) else { return daemon.close() }
        await withDiscardingTaskGroup { group in
            group.addTask { await self.pass(from: daemon, to: keeper, isDaemon: true) }
            group.addTask { await self.pass(from: keeper, to: daemon, isDaemon: false) }
        }
    }

    private func pass(from: FileStream, to: FileStream, isDaemon: Bool) async {
        defer {
            from.close()
            to.close()
        }
        var buffer = ByteBuffer()
        while let isThere = try? await from.fill(&buffer, to: 8), isThere {
            var header = buffer.take(8)
            let length = header[4...].reduce(0) { $0 << 8 | Int($1) }
            guard let isWhole = try? await from.fill(&buffer, to: length), isWhole else { return }
            let payload = changed(buffer.take(length), type: header[0], isDaemon: isDaemon)
            for place in 0..<4 { header[4 + place] = UInt8(truncatingIfNeeded: payload.count >> (24 - 8 * place)) }
            guard (try? await to.write((header + payload)[...])) != nil else { return }
        }
    }

    /// The numbers are those of docs/channel.md: bytes of streams (0 to 2) and `health` (23, 24) have no fields to grow.
    private func changed(_ payload: [UInt8], type: UInt8, isDaemon: Bool) -> [UInt8] {
        let isVersioned = [16, 64, 65, 66].contains(type)
        switch form {
        case .newer:
            guard ![0, 1, 2, 23, 24].contains(type) else { return payload }
            return (isVersioned ? [0, 3] + payload.dropFirst(2) : payload) + [0xde, 0xad, 0xbe, 0xef]
        case .ancient: return isVersioned && !isDaemon ? [0, 0] + payload.dropFirst(2) : payload
        }
    }
}
