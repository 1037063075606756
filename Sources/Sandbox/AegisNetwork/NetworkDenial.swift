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

/// Tells each distinct denial at once and then, while it goes on, once a period with how often it happened: an instance must
/// not fill its log by knocking at doors, and no denial may be lost from the counts.
struct DenialTally {
    /// Nanoseconds.
    static let period: UInt64 = 10_000_000_000
    /// Distinct denials that are told apart within a period.
    static let most = 256

    private struct Key: Hashable {
        var host: String
        var port: UInt16?
        var reason: String
    }
    private struct Entry {
        var since: UInt64
        var kept: UInt64
        var denial: NetworkDenial
    }
    private var entries: [Key: Entry] = [:]

    /// Takes a denial.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - now: monotonic nanoseconds.
    /// - Returns: whether it is to be told now; otherwise `due` tells it later.
    mutating func take(_ denial: NetworkDenial, now: UInt64) -> Bool {
        var denial = denial
        var key = Key(host: denial.host, port: denial.port, reason: denial.reason)
        if entries[key] == nil, entries.count >= Self.most {
            // So many different ones within a period are a search: one stands for all of them.
            denial = NetworkDenial(
                denial.instance, "*", nil, reason: "many-places", "connections to many different places are refused")
            key = Key(host: "*", port: nil, reason: denial.reason)
        }
        guard entries[key] == nil else {
            entries[key]?.kept += 1
            return false
        }
        let isSearch = key.host == "*"
        entries[key] = Entry(since: now, kept: isSearch ? 1 : 0, denial: denial)
        return !isSearch
    }

    /// What is to be told by now, each with how often it happened since it was told last.
    ///
    /// - Parameters:
    ///   - now: monotonic nanoseconds.
    ///   - all: whether the periods under way end, too.
    /// - Returns: at most one for each kind.
    mutating func due(now: UInt64, all: Bool = false) -> [(denial: NetworkDenial, count: UInt64)] {
        var told: [(denial: NetworkDenial, count: UInt64)] = []
        for (key, entry) in entries where all || now &- entry.since >= Self.period {
            if entry.kept > 0 {
                told.append((entry.denial, entry.kept))
                entries[key]?.since = now
                entries[key]?.kept = 0
            } else {
                entries[key] = nil
            }
        }
        return told
    }

    /// How many refusals of the kernel's are kept back.
    var keptRefusals: UInt64 {
        entries.reduce(0) { sum, one in LoggedPacket.reasons.contains(one.key.reason) ? sum + one.value.kept : sum }
    }

    /// Whether `due` will have anything to do.
    var isEmpty: Bool { entries.isEmpty }
}
