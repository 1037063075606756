package import AegisCore

/// Why a request was refused, and which grant came nearest.
package struct Denial: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of refusal, a stable word.
    package enum Reason: String, Sendable, Codable, CaseIterable {
        /// Nothing that is held is for this kind of action.
        case noGrant = "no-grant"
        /// Something of the kind is held, but not for this.
        case notCovered = "not-covered"
        /// No grant can be for this (decisions D6 and D31).
        case outOfReach = "out-of-reach"
        case expired, revoked
        case callsUsedUp = "calls-used-up"
        case tooFast = "too-fast"
        case bytesUsedUp = "bytes-used-up"
        case tokensUsedUp = "tokens-used-up"
        case moneyUsedUp = "money-used-up"
        /// The handle is none of this holder's.
        case unknownHandle = "unknown-handle"
        /// The decision could not be written down, and so nothing may happen.
        case notRecorded = "not-recorded"
    }

    /// The kind.
    package var reason: Reason
    /// The grant that came nearest.
    package var nearest: GrantID?
    /// When the same request can be met again; nil when waiting does not help.
    package var retryAt: Timestamp?
    /// What was refused, and why.
    package var message: String
    /// What may be done instead.
    package var hint: String?

    /// Makes a denial.
    package init(
        _ reason: Reason, nearest: GrantID? = nil, retryAt: Timestamp? = nil, message: String, hint: String? = nil
    ) {
        self.reason = reason
        self.nearest = nearest
        self.retryAt = retryAt
        self.message = message
        self.hint = hint
    }

    package var description: String {
        hint.map { "\(message) (\(reason.rawValue)); \($0)" } ?? "\(message) (\(reason.rawValue))"
    }

    /// The same as an error for the reader: exit 6, status 403, code `capability-denied`, or `grant-` or `limit-` and why.
    package var asAegisError: AegisError {
        let code =
            switch reason {
            case .noGrant, .notCovered, .outOfReach, .unknownHandle: "capability-denied"
            case .expired, .revoked: "grant-\(reason.rawValue)"
            case .callsUsedUp, .tooFast, .bytesUsedUp, .tokensUsedUp, .moneyUsedUp: "limit-\(reason.rawValue)"
            case .notRecorded: "decision-not-recorded"
            }
        return AegisError(reason == .notRecorded ? .failed : .denied, code, message, hint: hint)
    }
}
