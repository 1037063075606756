internal import LinuxSys

/// The program that opens one path as the user who named it: `aegisd --helper open`.
///
/// A process of its own because ids belong to processes; it ends after one answer. Reads one request from a socket, becomes
/// the user for good, opens, and sends the descriptor back.
package enum OpenHelper {
    /// The descriptor number under which the helper gets its socket.
    package static let socketNumber: Int32 = 3

    /// Runs the helper; the process must be single-threaded. Returns its exit code: 0 when an answer was sent.
    package static func main(socket number: Int32 = socketNumber) -> Int32 {
        let socket = FileDescriptor(owning: number)
        do throws(Errno) {
            guard let request = try receive(from: socket) else { return 2 }
            let outcome = perform(request)
            try send(outcome, over: socket)
            return 0
        } catch { return 1 }
    }

    /// What was opened, or why not.
    struct Outcome: ~Copyable {
        var answer: OpenAnswer
        var descriptor: FileDescriptor?
    }

    private static func perform(_ request: OpenRequest) -> Outcome {
        do throws(Errno) {
            let groups: [UInt32] =
                if let given = request.groups { given } else {
                    try CurrentProcess.groups(ofUser: request.user, group: request.group)
                }
            try CurrentProcess.become(UserIdentity(user: request.user, group: request.group, groups: groups))
        } catch { return Outcome(answer: OpenAnswer(step: .become, errno: error.code)) }
        return open(request)
    }

    /// Opens with the rights that the process has now.
    static func open(_ request: OpenRequest) -> Outcome {
        let descriptor: FileDescriptor
        do throws(Errno) {
            descriptor = try FileDescriptor.open("/", [.pathOnly, .directory]).open(
                request.path, .pathOnly, resolve: .noMagicLinks)
        } catch {
            return Outcome(
                answer: OpenAnswer(step: .open, errno: error.code, nearest: nearestDirectory(above: request.path)))
        }
        do throws(Errno) {
            let type = try descriptor.status().type
            guard type == .directory || (type == .regular && !request.needsDirectory) else {
                return Outcome(answer: OpenAnswer(step: .type, errno: type == .regular ? 20 : 22))
            }
            // A path-only descriptor asks for no right on the file itself: ask for it here, as the user.
            var access: FileAccess = type == .directory ? [.read, .execute] : .read
            if request.writes { access.insert(.write) }
            do throws(Errno) { try descriptor.checkAccess(access) } catch {
                return Outcome(answer: OpenAnswer(step: .access, errno: error.code))
            }
        } catch { return Outcome(answer: OpenAnswer(step: .open, errno: error.code)) }
        return Outcome(answer: OpenAnswer(step: .none), descriptor: descriptor)
    }

    private static func nearestDirectory(above path: String) -> String {
        var parts = path.split(separator: "/")
        while !parts.isEmpty {
            parts.removeLast()
            let candidate = "/" + parts.joined(separator: "/")
            if let status = try? Files.status(candidate), status.type == .directory { return candidate }
        }
        return "/"
    }

    private static func receive(from socket: borrowing FileDescriptor) throws(Errno) -> OpenRequest? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            if bytes.count >= 4 {
                let length = Int(bytes.big(0))
                guard length <= OpenRequest.maximum else { return nil }
                if bytes.count >= 4 + length { return OpenRequest(bytes[4..<(4 + length)]) }
            }
            let count = try socket.read(into: &chunk)
            guard count > 0 else { return nil }
            bytes += chunk[..<count]
        }
    }

    // The outcome is borrowed as a whole: its descriptor must stay open until it was sent.
    private static func send(_ outcome: borrowing Outcome, over socket: borrowing FileDescriptor) throws(Errno) {
        let bytes = outcome.answer.encode()
        var sent = 0
        switch outcome.descriptor {
        // The socket is fresh and empty: the first send takes at least one byte.
        case .some(let descriptor): sent = try socket.send(bytes[...], descriptors: [descriptor.raw])
        case .none: break
        }
        try socket.writeAll(bytes[sent...])
    }
}
