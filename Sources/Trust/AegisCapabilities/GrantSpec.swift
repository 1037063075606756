package import AegisCore

/// What a manifest, a flag or an operator writes: a capability with its limits.
///
/// As text it is the capability alone, or `{grant: "tool: web_fetch", max_calls: 20, expires: 1h}` (decision D13).
package struct GrantSpec: Hashable, Sendable, CustomStringConvertible {
    /// What is allowed.
    package var capability: Capability
    /// How much of it.
    package var limits: Limits
    /// For how long from the moment of granting; nil is without end.
    package var lifetime: TimeSpan?

    /// Makes a specification.
    package init(_ capability: Capability, limits: Limits = .none, lifetime: TimeSpan? = nil) {
        self.capability = capability
        self.limits = limits
        self.lifetime = lifetime
    }

    /// The canonical text; reading it gives the same specification.
    package var description: String {
        let fields = LimitField.allCases.compactMap { field in field.text(self).map { "\(field.rawValue): \($0)" } }
        guard !fields.isEmpty else { return capability.description }
        let quoted = capability.description.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
        return "{grant: \"\(quoted)\", \(fields.joined(separator: ", "))}"
    }
}

extension GrantSpec {
    /// The grants of a manifest with those that it implies (decision D13), and no others: its own model, and its own memory
    /// where a memory tool is named.
    ///
    /// - Parameters:
    ///   - specs: what the manifest says.
    ///   - model: its model.
    /// - Returns: `specs`, followed by what none of them covers yet.
    /// - Throws: when the model's name is none.
    package static func completed(_ specs: [GrantSpec], model: String?) throws(CapabilityError) -> [GrantSpec] {
        var implied: [Capability] = []
        if let model { implied.append(try Capability(parsing: "model: \(model)")) }
        let usesMemory = specs.contains { spec in
            if case .tool(let name?) = spec.capability { name.hasPrefix("memory_") } else { false }
        }
        if usesMemory { implied.append(.memory("self")) }
        return specs
            + implied.filter { wanted in !specs.contains { $0.capability.covers(wanted) } }.map { GrantSpec($0) }
    }
}

extension GrantSpec: Codable {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        do { try self.init(parsing: container.decode(String.self)) } catch let error as CapabilityError {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(error)")
        }
    }
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// The keys of a grant written as a map, beside `grant`.
enum LimitField: String, CaseIterable {
    case maxCalls = "max_calls"
    case perMinute = "per_minute"
    case maxBytes = "max_bytes"
    case maxTokens = "max_tokens"
    case maxUSD = "max_usd"
    case expires

    /// A valid value, for messages.
    var example: String {
        switch self {
        case .maxCalls: "20"
        case .perMinute: "5"
        case .maxBytes: "10Mi"
        case .maxTokens: "100k"
        case .maxUSD: "0.50"
        case .expires: "1h"
        }
    }

    /// The kinds at whose gates it is counted (tokens and money of a tool are those of the children that it spawns). Elsewhere it would be a promise that nobody keeps, and is refused.
    var kinds: [CapabilityKind] {
        switch self {
        case .maxCalls, .perMinute, .expires: CapabilityKind.allCases
        case .maxBytes: [.tool, .fileRead, .fileWrite, .network, .memory, .message]
        case .maxTokens, .maxUSD: [.tool, .model]
        }
    }

    /// The canonical text of the field in a specification; nil when it is not set.
    func text(_ spec: GrantSpec) -> String? {
        switch self {
        case .maxCalls: spec.limits.maxCalls.map { "\($0)" }
        case .perMinute: spec.limits.perMinute.map { "\($0)" }
        case .maxBytes: spec.limits.maxBytes.map { ByteSize($0).description }
        case .maxTokens: spec.limits.maxTokens.map(Self.tokens)
        case .maxUSD: spec.limits.maxMicroUSD.map(Self.dollars)
        case .expires: spec.lifetime?.description
        }
    }

    /// Reads a value into a specification.
    func set(_ text: String, in spec: inout GrantSpec) throws(ValueProblem) {
        let problem = ValueProblem(0, "'\(shown(text))' is not \(what), as in \(example)", nearest: example)
        switch self {
        case .maxCalls: spec.limits.maxCalls = try number(text, problem)
        case .perMinute:
            let rate = try number(text, problem)
            guard rate <= UInt64(Limits.highestRate) else {
                throw ValueProblem(0, "the highest rate is \(Limits.highestRate)", nearest: "\(Limits.highestRate)")
            }
            spec.limits.perMinute = UInt32(rate)
        case .maxBytes:
            guard let size = try? ByteSize(parsing: text), size.bytes > 0 else { throw problem }
            spec.limits.maxBytes = size.bytes
        case .maxTokens:
            let factor: UInt64 = text.hasSuffix("k") ? 1000 : text.hasSuffix("M") ? 1_000_000 : 1
            let count = try number(factor == 1 ? text : String(text.dropLast()), problem)
            let (tokens, overflow) = count.multipliedReportingOverflow(by: factor)
            guard !overflow else { throw problem }
            spec.limits.maxTokens = tokens
        case .maxUSD:
            guard let amount = Self.microUSD(text), amount > 0 else { throw problem }
            spec.limits.maxMicroUSD = amount
        case .expires:
            guard let span = try? TimeSpan(parsing: text), span > .seconds(0), span <= .seconds(100 * 366 * 86_400)
            else { throw problem }
            spec.lifetime = span
        }
    }

    private var what: String {
        switch self {
        case .maxCalls, .perMinute: "a whole number from 1"
        case .maxBytes: "a size from 1"
        case .maxTokens: "a number of tokens from 1"
        case .maxUSD: "an amount of dollars above 0, with at most six decimals"
        case .expires: "a length of time above 0"
        }
    }

    private func number(_ text: String, _ problem: ValueProblem) throws(ValueProblem) -> UInt64 {
        guard text.utf8.allSatisfy(Letters.isDigit), let number = UInt64(text), number > 0 else { throw problem }
        return number
    }

    private static func tokens(_ count: UInt64) -> String {
        if count % 1_000_000 == 0 { return "\(count / 1_000_000)M" }
        return count % 1000 == 0 ? "\(count / 1000)k" : "\(count)"
    }

    private static func microUSD(_ text: String) -> UInt64? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty && $0.utf8.allSatisfy(Letters.isDigit) }),
            let whole = UInt64(parts[0]), whole <= 1_000_000_000
        else { return nil }
        guard parts.count == 2 else { return whole * 1_000_000 }
        guard parts[1].utf8.count <= 6, let part = UInt64(parts[1]) else { return nil }
        return (0..<6 - parts[1].utf8.count).reduce(part) { value, _ in value * 10 } + whole * 1_000_000
    }

    static func dollars(_ micro: UInt64) -> String {
        var digits = String(micro % 1_000_000)
        digits = String(repeating: "0", count: 6 - digits.count) + digits
        while digits.count > 2, digits.hasSuffix("0") { digits.removeLast() }
        return "\(micro / 1_000_000).\(digits)"
    }
}
