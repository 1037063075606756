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
    /// Of many that are told as one: to how many places they went.
    package var places: UInt64?

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
        var kept: UInt64 = 0
        /// How many of these the kernel refused.
        var keptOfKernel: UInt64 = 0
        var denial: NetworkDenial
        /// Of the one that stands for many: the hashes of what went into it.
        var places: Set<Int> = []

        /// Counts one more that is told later.
        mutating func keep(_ isOfKernel: Bool) {
            kept += 1
            if isOfKernel { keptOfKernel += 1 }
        }

        /// What is told of those that were kept back.
        var told: NetworkDenial {
            guard !places.isEmpty else { return denial }
            var told = denial
            let number = UInt64(places.count)
            told.places = number
            let more = places.count < DenialTally.mostPlaces ? "" : " or more"
            told.message = "what goes to \(number)\(more) other place\(number == 1 ? "" : "s") is refused"
            return told
        }
    }
    private var entries: [Key: Entry] = [:]
    private static let search = Key(host: "*", port: nil, reason: "many-places")
    /// Places that are told apart within a period; the gateway takes fewer connections and questions in that time.
    static let mostPlaces = 65_536

    /// Takes a denial.
    ///
    /// - Parameters:
    ///   - denial: what was refused.
    ///   - now: monotonic nanoseconds.
    /// - Returns: whether it is to be told now; otherwise `due` tells it later.
    mutating func take(_ denial: NetworkDenial, now: UInt64) -> Bool {
        let key = Key(host: denial.host, port: denial.port, reason: denial.reason)
        let isOfKernel = LoggedPacket.reasons.contains(denial.reason)
        if entries[key] != nil {
            entries[key]?.keep(isOfKernel)
            return false
        }
        guard entries.count >= Self.most else {
            entries[key] = Entry(since: now, denial: denial)
            return true
        }
        // So many different ones within a period are a search: one stands for all of them.
        let one = NetworkDenial(denial.instance, "*", nil, reason: Self.search.reason, "")
        var many = entries[Self.search] ?? Entry(since: now, denial: one)
        many.keep(isOfKernel)
        if many.places.count < Self.mostPlaces { many.places.insert(key.hashValue) }
        entries[Self.search] = many
        return false
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
                told.append((entry.told, entry.kept))
                entries[key] = Entry(since: now, denial: entry.denial)
            } else {
                entries[key] = nil
            }
        }
        return told
    }

    /// How many refusals of the kernel's are kept back.
    var keptRefusals: UInt64 { entries.values.reduce(0) { $0 + $1.keptOfKernel } }

    /// Whether `due` will have anything to do.
    var isEmpty: Bool { entries.isEmpty }
}
