package import AegisCore

/// Who holds grants: an agent process, or an instance that a person started. Other targets give the ids.
package struct HolderID: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The id.
    package let description: String
    /// Takes an id; nothing is said about its form.
    package init(_ id: String) { description = id }

    package init(from decoder: any Decoder) throws {
        description = try decoder.singleValueContainer().decode(String.self)
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// The public name of a grant, for people, the ledger and revocation: `g-` and 16 hexadecimal digits. It opens nothing.
package struct GrantID: Hashable, Sendable, Codable, CustomStringConvertible, Comparable {
    let number: UInt64

    init(_ number: UInt64) { self.number = number }

    /// Reads an id; nil when it is none.
    package init?(parsing text: String) {
        let digits = text.dropFirst(2)
        guard text.hasPrefix("g-"), digits.utf8.count == 16, let number = UInt64(digits, radix: 16),
            digits.utf8.allSatisfy({ Letters.isHex($0) && !Letters.isUpper($0) })
        else { return nil }
        self.number = number
    }

    package var description: String { "g-" + hex(number) }
    package static func < (a: GrantID, b: GrantID) -> Bool { a.number < b.number }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let id = GrantID(parsing: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(shown(text))' is no grant's id")
        }
        self = id
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// What a holder shows to use or hand on one of its grants: 128 random bits that work for this holder only.
///
/// It is never stored: after a restart the book gives new ones. Its description does not show it.
package struct GrantHandle: Hashable, Sendable, CustomStringConvertible, CustomReflectable {
    private let high: UInt64
    private let low: UInt64

    init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Reads what a holder shows; nil when it is no handle by its form.
    package init?(revealed text: String) {
        let digits = text.utf8.dropFirst(3)
        guard text.hasPrefix("gh-"), digits.count == 32,
            digits.allSatisfy({ Letters.isHex($0) && !Letters.isUpper($0) }),
            let high = UInt64(String(text.dropFirst(3).prefix(16)), radix: 16),
            let low = UInt64(String(text.dropFirst(19)), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    /// The text for its holder; every call is a place where it may leak.
    package func reveal() -> String { "gh-" + hex(high) + hex(low) }
    package var description: String { "gh-•••" }
    package var customMirror: Mirror { Mirror(self, children: [] as [Mirror.Child]) }
}

func hex(_ value: UInt64) -> String {
    unsafe String(unsafeUninitializedCapacity: 16) { out in
        for index in 0..<16 {
            let digit = UInt8(truncatingIfNeeded: value >> UInt64(60 - 4 * index) & 15)
            // SAFETY: `index` is below the capacity of 16.
            unsafe out[index] = digit < 10 ? 48 + digit : 87 + digit
        }
        return 16
    }
}

/// What a grant allows in the end: a specification whose lifetime has become a moment.
///
/// A book, a store and whoever shows grants have the same terms, and most grants have neither limits nor an end: so copies share
/// one object, and what is not there takes no room.
package struct GrantTerms: Sendable {
    private final class Bounds: Sendable {
        let limits: Limits
        let expires: Timestamp?

        /// nil for what is without end.
        init?(_ limits: Limits, _ expires: Timestamp?) {
            guard limits != .none || expires != nil else { return nil }
            (self.limits, self.expires) = (limits, expires)
        }
    }
    private final class Storage: Sendable {
        let capability: Capability
        let bounds: Bounds?

        init(_ capability: Capability, _ bounds: Bounds?) { (self.capability, self.bounds) = (capability, bounds) }
    }
    private var storage: Storage

    /// What is allowed.
    package var capability: Capability {
        get { storage.capability }
        set { storage = Storage(newValue, storage.bounds) }
    }
    /// How much of it.
    package var limits: Limits {
        get { storage.bounds?.limits ?? .none }
        set { storage = Storage(capability, Bounds(newValue, expires)) }
    }
    /// From when on it is not allowed any more; nil is never.
    package var expires: Timestamp? {
        get { storage.bounds?.expires }
        set { storage = Storage(capability, Bounds(limits, newValue)) }
    }
    /// Whether it is limited in anything but time.
    var isLimited: Bool { storage.bounds.map { $0.limits != .none } ?? false }

    /// Makes terms.
    package init(_ capability: Capability, limits: Limits = .none, expires: Timestamp? = nil) {
        storage = Storage(capability, Bounds(limits, expires))
    }

    /// The terms of a specification that is granted now.
    package init(_ spec: GrantSpec, at now: Timestamp) {
        let end = spec.lifetime.map { now.milliseconds.addingReportingOverflow($0.milliseconds) }
        self.init(
            spec.capability, limits: spec.limits,
            expires: end.map { Timestamp(milliseconds: $0.overflow ? .max : $0.partialValue) })
    }

    /// The terms under which a specification can be derived from these: no wider in anything (limits are the stricter ones).
    ///
    /// - Parameters:
    ///   - spec: what the child is to have.
    ///   - now: from when its lifetime counts.
    /// - Returns: the child's terms.
    /// - Throws: `NarrowingError` when the capability allows anything that this one does not, as far as can be decided.
    package func narrow(_ spec: GrantSpec, at now: Timestamp) throws(NarrowingError) -> GrantTerms {
        guard capability.covers(spec.capability) else {
            throw NarrowingError(wanted: spec.capability, held: capability)
        }
        var terms = GrantTerms(spec, at: now)
        terms.limits = limits.narrowed(by: terms.limits)
        if let expires { terms.expires = min(expires, terms.expires ?? expires) }
        return terms
    }
}

extension GrantTerms: Hashable {
    package static func == (a: GrantTerms, b: GrantTerms) -> Bool {
        a.storage === b.storage || a.capability == b.capability && a.limits == b.limits && a.expires == b.expires
    }
    package func hash(into hasher: inout Hasher) {
        hasher.combine(capability)
        hasher.combine(limits)
        hasher.combine(expires)
    }
}

extension GrantTerms: Codable {
    private enum CodingKeys: String, CodingKey { case capability, limits, expires }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            try container.decode(Capability.self, forKey: .capability),
            limits: try container.decode(Limits.self, forKey: .limits),
            expires: try container.decodeIfPresent(Timestamp.self, forKey: .expires))
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(capability, forKey: .capability)
        try container.encode(limits, forKey: .limits)
        try container.encodeIfPresent(expires, forKey: .expires)
    }
}

/// A grant that would be wider than the one that it is derived from.
package struct NarrowingError: Error, Sendable, Equatable {
    /// What was wanted.
    package var wanted: Capability
    /// The nearest that is held; nil when nothing of the kind is.
    package var held: Capability?

    /// The same as an error for the reader: `grant-too-wide`, exit 6, status 403.
    package var asAegisError: AegisError {
        let wanted = shown(wanted.description)
        guard let held else {
            return AegisError(
                .denied, "grant-too-wide", "'\(wanted)' cannot be handed on: nothing of that kind is held",
                hint: "hand on only what is held")
        }
        return AegisError(
            .denied, "grant-too-wide",
            "'\(wanted)' is wider than '\(shown(held.description))', the nearest that is held",
            hint: "hand on '\(shown(held.description))' or a part of it")
    }
}

/// What one grant has left for models, without those that it was derived from.
package struct GrantShare: Hashable, Sendable {
    /// The grant.
    package let grant: GrantID
    /// Who holds it.
    package let holder: HolderID
    /// Tokens; nil is any number.
    package let tokens: UInt64?
    /// Millionths of a US dollar; nil is any amount.
    package let microUSD: UInt64?
}

/// A grant in full: what is stored, and what `grants` routes show.
package struct GrantRecord: Hashable, Sendable, Codable {
    /// Its name.
    package var id: GrantID
    /// Who holds it.
    package var holder: HolderID
    /// What it allows.
    package var terms: GrantTerms
    /// The grant that it was derived from; nil for a root.
    package var parent: GrantID?
    /// The first grant of its line; itself for a root.
    package var root: GrantID
    /// When it was given.
    package var issued: Timestamp
    /// When it was taken back.
    package var revoked: Timestamp?
    /// Uses so far, by it and by all that is derived from it.
    package var calls: UInt64 = 0
    /// What was used, likewise; open reservations are in it.
    package var used = Amounts()
    /// When it was used in the last minute, oldest first; kept only for a grant that has a rate.
    package var recent: [Timestamp] = []
}
