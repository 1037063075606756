package import AegisCore

/// Something that happened to an instance, as `GET /v1/events` tells it.
package struct EventRecord: Sendable, Codable, Equatable {
    /// Grows by one with each event of a daemon, and begins beyond those of daemons before; 0 for a gap.
    package var number: UInt64
    package var time: Timestamp
    /// `network-denied`, `network-failed`, `network-lost`, `policy-failed`; `gap` for `count` events that were not kept for so long.
    package var type: String
    /// The instance's id.
    package var instance: String?
    /// Its name, if it has one.
    package var name: String?
    /// Where it wanted to go: a name or an address.
    package var host: String?
    package var port: UInt16?
    /// A stable word, as `capability-denied`.
    package var reason: String?
    /// A sentence.
    package var message: String
    /// How often it happened since the same was last told.
    package var count: UInt64
    /// Of `many-places`: to how many different ones those `count` went.
    package var places: UInt64?

    package init(
        number: UInt64 = 0, time: Timestamp, type: String, instance: String? = nil, name: String? = nil,
        host: String? = nil, port: UInt16? = nil, reason: String? = nil, message: String, count: UInt64 = 1,
        places: UInt64? = nil
    ) {
        self.number = number
        self.time = time
        self.type = type
        self.instance = instance
        self.name = name
        self.host = host
        self.port = port
        self.reason = reason
        self.message = message
        self.count = count
        self.places = places
    }
}

/// One round of trying what an instance's network must refuse (decision D22).
package struct PolicyProof: Sendable, Codable, Equatable {
    /// Why it was made.
    package enum Cause: String, Sendable, Codable { case start, change, random, alarm }

    /// One thing that was tried.
    package struct Attempt: Sendable, Codable, Equatable {
        /// As `TCP to 192.0.2.1:443`.
        package var what: String
        /// `refused` or `answered`: what it had to be.
        package var wanted: String
        /// What came of it.
        package var outcome: String
        /// The reason of the denial that was counted for it.
        package var counted: String?
        package var passed: Bool

        package init(what: String, wanted: String, outcome: String, counted: String? = nil, passed: Bool) {
            self.what = what
            self.wanted = wanted
            self.outcome = outcome
            self.counted = counted
            self.passed = passed
        }
    }

    package var time: Timestamp
    package var cause: Cause
    package var attempts: [Attempt]
    /// Milliseconds that it took.
    package var took: Double

    package init(time: Timestamp, cause: Cause, attempts: [Attempt], took: Double) {
        self.time = time
        self.cause = cause
        self.attempts = attempts
        self.took = took
    }

    /// Whether everything was as it has to be.
    package var passed: Bool { attempts.allSatisfy(\.passed) }

    private enum CodingKeys: String, CodingKey {
        case time, cause, attempts
        case took = "took_ms"
    }
}

/// The answer of `GET /v1/instances/{id}/policy`.
package struct PolicyReport: Sendable, Codable, Equatable {
    /// The instance's id.
    package var instance: String
    /// `none`, `listed` or `allow`.
    package var network: String
    package var group: String?
    package var allow: [String]?
    /// Denials since the network was opened, those that were told together included.
    package var denials: UInt64
    /// Packets and frames that the kernel's rules dropped since then.
    package var dropped: UInt64
    /// The last proofs, newest first; none without a network.
    package var proofs: [PolicyProof]

    package init(
        instance: String, network: String, group: String?, allow: [String]?, denials: UInt64, dropped: UInt64,
        proofs: [PolicyProof]
    ) {
        self.instance = instance
        self.network = network
        self.group = group
        self.allow = allow
        self.denials = denials
        self.dropped = dropped
        self.proofs = proofs
    }
}
