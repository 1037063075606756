import AegisIO
import LinuxSys
import Synchronization

/// Stands between a daemon and the keeper of one sandbox, and makes each look to the other as if it were of another release.
final class OtherRelease: Sendable {
    /// What becomes of the messages that pass.
    enum Form: Sendable {
        /// Both claim to be newer, and every message has fields at its end that the other does not know.
        case newer
        /// The keeper claims to be older than everything that can be talked to.
        case ancient
        /// Keeper and harness are of version 1, which has no door: what this one's did is shut, and nobody hears of it.
        case former
    }
    private let form: Form
    private let listener: Listener
    private let keeper: String
    private let loop: EventLoop
    private let unknown = Mutex<[String]>([])

    /// What the daemon has said to a keeper of version 1 that such a one does not know.
    var misunderstood: [String] { unknown.withLock { $0 } }

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
            if form == .former, isDoor(header, payload) {
                if isDaemon { unknown.withLock { $0.append("\(header)") } }
                continue
            }
            guard (try? await to.write((header + payload)[...])) != nil else { return }
            // After `attach`: a signal to the door that the harness has.
            guard form == .former, isDaemon, header[0] == 64 else { continue }
            guard (try? await to.write([21, 1, 0xff, 0xff, 0, 0, 0, 1, 9])) != nil else { return }
        }
    }

    /// Whether a frame is about a door: its process number, or the kind of a start.
    private func isDoor(_ header: [UInt8], _ payload: [UInt8]) -> Bool {
        Int(header[2]) << 8 | Int(header[3]) >= 0xfffe || header[0] == 17 && payload.first == 5
    }

    /// A keeper's state as one of version 1 says it: it has processes and no doors.
    private func withoutDoors(_ state: [UInt8]) -> [UInt8] {
        let entries = stride(from: 9, to: state.count, by: 26).map { Array(state[$0..<$0 + 26]) }
        let known = entries.filter { !($0[0] == 0xff && $0[1] >= 0xfe) }
        return [0, 1] + state[2..<7] + [UInt8(known.count >> 8), UInt8(known.count & 0xff)] + known.flatMap { $0 }
    }

    /// The numbers are those of docs/channel.md: bytes of streams (0 to 2) and `health` (23, 24) have no fields to grow.
    private func changed(_ payload: [UInt8], type: UInt8, isDaemon: Bool) -> [UInt8] {
        let isVersioned = [16, 64, 65, 66].contains(type)
        switch form {
        case .newer:
            guard ![0, 1, 2, 23, 24].contains(type) else { return payload }
            return (isVersioned ? [0, 3] + payload.dropFirst(2) : payload) + [0xde, 0xad, 0xbe, 0xef]
        case .former:
            guard !isDaemon, isVersioned else { return payload }
            return type == 65 ? withoutDoors(payload) : [0, 1] + payload.dropFirst(2)
        case .ancient: return isVersioned && !isDaemon ? [0, 0] + payload.dropFirst(2) : payload
        }
    }
}
