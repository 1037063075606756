/// What was or may be used: bytes, tokens, millionths of a dollar.
package struct Amounts: Hashable, Sendable, Codable {
    /// Bytes, of whatever the action moves.
    package var bytes: UInt64
    /// Tokens of models.
    package var tokens: UInt64
    /// Millionths of a US dollar.
    package var microUSD: UInt64

    /// Makes amounts; what is not given is 0.
    package init(bytes: UInt64 = 0, tokens: UInt64 = 0, microUSD: UInt64 = 0) {
        self.bytes = bytes
        self.tokens = tokens
        self.microUSD = microUSD
    }

    /// Whether all are 0.
    package var isZero: Bool { bytes == 0 && tokens == 0 && microUSD == 0 }
    /// No end of anything.
    static let endless = Amounts(bytes: .max, tokens: .max, microUSD: .max)

    func combined(_ other: Amounts, _ join: (UInt64, UInt64) -> UInt64) -> Amounts {
        Amounts(
            bytes: join(bytes, other.bytes), tokens: join(tokens, other.tokens),
            microUSD: join(microUSD, other.microUSD))
    }
    /// Each the larger one.
    package func atLeast(_ other: Amounts) -> Amounts { combined(other, max) }
    /// Each the smaller one.
    package func atMost(_ other: Amounts) -> Amounts { combined(other, min) }
    /// The sum; it stops at the largest number.
    package func adding(_ other: Amounts) -> Amounts { combined(other, saturatingSum) }
    /// The difference; it stops at 0.
    package func removing(_ other: Amounts) -> Amounts { combined(other) { $0 - min($0, $1) } }
    /// Whether each is at most the other's.
    package func fits(in other: Amounts) -> Bool {
        bytes <= other.bytes && tokens <= other.tokens && microUSD <= other.microUSD
    }
}

func saturatingSum(_ a: UInt64, _ b: UInt64) -> UInt64 {
    let (sum, overflow) = a.addingReportingOverflow(b)
    return overflow ? .max : sum
}

/// How much a grant allows in all; nil is without end.
package struct Limits: Hashable, Sendable, Codable {
    /// Uses in all.
    package var maxCalls: UInt64?
    /// Uses in any 60 seconds.
    package var perMinute: UInt32?
    /// Bytes in all.
    package var maxBytes: UInt64?
    /// Tokens in all.
    package var maxTokens: UInt64?
    /// Millionths of a US dollar in all.
    package var maxMicroUSD: UInt64?

    /// Makes limits; what is not given is without end.
    package init(
        maxCalls: UInt64? = nil, perMinute: UInt32? = nil, maxBytes: UInt64? = nil, maxTokens: UInt64? = nil,
        maxMicroUSD: UInt64? = nil
    ) {
        self.maxCalls = maxCalls
        self.perMinute = perMinute
        self.maxBytes = maxBytes
        self.maxTokens = maxTokens
        self.maxMicroUSD = maxMicroUSD
    }

    /// Nothing is limited.
    package static let none = Limits()
    /// The highest rate that can be written: each use in the last minute is remembered.
    package static let highestRate: UInt32 = 60_000

    /// Each limit the stricter one.
    package func narrowed(by other: Limits) -> Limits {
        func stricter<Number: Comparable>(_ a: Number?, _ b: Number?) -> Number? {
            guard let a, let b else { return a ?? b }
            return min(a, b)
        }
        return Limits(
            maxCalls: stricter(maxCalls, other.maxCalls), perMinute: stricter(perMinute, other.perMinute),
            maxBytes: stricter(maxBytes, other.maxBytes), maxTokens: stricter(maxTokens, other.maxTokens),
            maxMicroUSD: stricter(maxMicroUSD, other.maxMicroUSD))
    }

    /// What may be used at most.
    var amounts: Amounts {
        Amounts(bytes: maxBytes ?? .max, tokens: maxTokens ?? .max, microUSD: maxMicroUSD ?? .max)
    }
}
