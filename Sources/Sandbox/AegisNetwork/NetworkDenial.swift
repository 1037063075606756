import AegisCapabilities
import AegisCore

/// A connection or a question of an instance that was refused.
package struct NetworkDenial: Error, Sendable, Equatable {
    /// The instance.
    package var instance: String
    /// Where it wanted to go: a name or an address.
    package var host: String
    /// The port; nil for a question to the resolver.
    package var port: UInt16?
    /// A stable word, as `capability-denied`.
    package var reason: String
    /// What was refused, and why.
    package var message: String
    /// What may be done about it.
    package var hint: String?

    init(
        _ instance: String, _ host: String, _ port: UInt16? = nil, reason: String, _ message: String,
        hint: String? = nil
    ) {
        self.instance = instance
        self.host = host
        self.port = port
        self.reason = reason
        self.message = message
        self.hint = hint
    }

    init(_ instance: String, _ destination: Destination, _ denial: Denial) {
        let error = denial.asAegisError
        self.init(
            instance, destination.hostText, destination.port, reason: error.code, error.message, hint: error.hint)
    }

    init(_ instance: String, _ destination: Destination, reason: String, _ message: String, hint: String? = nil) {
        self.init(instance, destination.hostText, destination.port, reason: reason, message, hint: hint)
    }

    /// One line for the instance's log.
    package var text: String { "network: \(message) (\(reason))" }
}

extension Destination {
    /// The host alone.
    var hostText: String {
        switch host {
        case .name(let name): name.description
        case .address(let address): address.description
        }
    }
}

/// Lets each distinct denial through once a minute: an instance must not fill its log by knocking at doors.
struct DenialFilter {
    private static let period: UInt64 = 60_000_000_000
    private static let most = 256
    private struct Entry {
        var since: UInt64
        var suppressed: UInt64
    }
    private var entries: [String: Entry] = [:]

    /// Takes a denial.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - now: monotonic nanoseconds.
    /// - Returns: how many of its kind were kept back since the last one that was let through; nil to keep this one back.
    mutating func pass(_ denial: NetworkDenial, now: UInt64) -> UInt64? {
        let key = "\(denial.host) \(denial.port ?? 0) \(denial.reason)"
        if let known = entries[key], now &- known.since < Self.period {
            entries[key]?.suppressed += 1
            return nil
        }
        let before = entries[key]?.suppressed ?? 0
        if entries[key] == nil, entries.count >= Self.most {
            entries = entries.filter { now &- $0.value.since < Self.period }
            // So many different ones within a minute are a search: one line stands for all of them.
            guard entries.count < Self.most else { return nil }
        }
        entries[key] = Entry(since: now, suppressed: 0)
        return before
    }
}
