internal import AegisCore
internal import AegisLogs
internal import AegisSecrets
internal import Synchronization

/// The values of secrets that one run of an instance was given: at its start, and by each exec after a rotation. All of them
/// are hidden in what is stored, until the run ends (decision D20).
final class RunSecrets: Sendable {
    private struct State {
        var values: [InjectedSecret] = []
        var mask = SecretMask([])
        /// Nobody knows any more what the run was given.
        var isLost = false
    }
    private let state = Mutex(State())

    /// What was given so far; of a name that comes more than once the last value is the one in use.
    var values: [InjectedSecret] { state.withLock { $0.values } }
    /// What hides them; nil when they are not known, so that everything must be hidden.
    var mask: SecretMask? { state.withLock { $0.isLost ? nil : $0.mask } }

    /// Takes further values.
    ///
    /// - Returns: whether there was one that is new.
    func add(_ secrets: [InjectedSecret]) -> Bool {
        state.withLock { state in
            let fresh = secrets.filter { secret in
                !state.values.contains {
                    $0.name == secret.name && $0.value.reveal() == secret.value.reveal()
                }
            }
            guard !fresh.isEmpty else { return false }
            state.values += fresh
            state.mask = SecretMask(state.values.map(\.value))
            return true
        }
    }

    /// Bytes without the values; nil when nobody knows what to look for.
    func masked(_ bytes: [UInt8]) -> [UInt8]? {
        guard let mask else { return nil }
        guard !mask.isEmpty else { return bytes }
        var stream = SecretMaskStream(mask)
        var safe: [UInt8] = []
        stream.write(bytes, into: &safe)
        stream.finish(into: &safe)
        return safe
    }

    /// The values of this run cannot be found out.
    func lose() { state.withLock { $0.isLost = true } }
}

/// Hides the values of a run in what is stored of one stream (decision D20).
struct SecretLogMask: LogMask {
    private let secrets: RunSecrets
    private var mask: SecretMask
    private var stream: SecretMaskStream
    /// What stands for output that may hold a secret which nobody can name.
    private static let withheld = Array("*** (withheld: the secrets of this run are not known)\n".utf8)

    init(_ secrets: RunSecrets) {
        self.secrets = secrets
        mask = secrets.mask ?? SecretMask([])
        stream = SecretMaskStream(mask)
    }

    mutating func push(_ bytes: Span<UInt8>, into out: inout [UInt8]) -> Int {
        guard let current = secrets.mask else {
            out += Self.withheld
            return 0
        }
        if current !== mask {
            mask = current
            stream.change(to: current)
        }
        var copy: [UInt8] = []
        copy.reserveCapacity(bytes.count)
        for index in bytes.indices { copy.append(bytes[index]) }
        guard !mask.isEmpty else {
            out += copy
            return 0
        }
        stream.write(copy, into: &out)
        return stream.heldCount
    }
    mutating func flush(into out: inout [UInt8]) { stream.finish(into: &out) }
}
