import AegisCore

/// Finds out why a request was refused. It is asked only then, so it looks at every grant of the kind, and puts into words what it
/// has found of one.
struct Explanation {
    let request: Request
    let held: [GrantSet.Held]
    let protected: ProtectedPaths
    let now: Timestamp

    init(request: Request, held: [GrantSet.Held], protected: ProtectedPaths, now: Timestamp) {
        self.request = request
        if case .connect = request.action {
            // Nobody asked for the grant of the proofs, so it explains nothing to anybody.
            self.held = held.filter { held in
                guard case .network(let pattern) = held.terms.capability else { return true }
                return pattern.target != .host(.ofProofs)
            }
        } else {
            self.held = held
        }
        self.protected = protected
        self.now = now
    }

    private var action: Action { request.action }
    private var what: String { "'\(action)'" }

    /// The whole answer.
    var denial: Denial {
        if let path = protected.refuses(action) {
            return Denial(.outOfReach, message: "\(what) is refused: no grant reaches \(shown(path.description))")
        }
        if let refusal = unreachableHost { return refusal }
        let fitting = held.filter { $0.terms.capability.allows(action) }
        // Of those that were enough but for their state, one that lives says more than one that is over.
        let states = fitting.compactMap { held in held.standing.shortage(for: request, at: now).map { (held, $0) } }
        if let (held, reason) = states.first(where: { $0.1 != .revoked && $0.1 != .expired }) ?? states.first {
            return shortage(held, reason)
        }
        return nearestOfKind ?? nothingOfKind
    }

    private func name(_ held: GrantSet.Held) -> String { "\(held.id) '\(shown(held.terms.capability.description))'" }

    // MARK: A grant that would fit

    private func shortage(_ held: GrantSet.Held, _ reason: Denial.Reason) -> Denial {
        let (limits, standing) = (held.terms.limits, held.standing)
        var retry: Timestamp?
        let why: String
        switch reason {
        case .revoked: why = "was revoked at \(standing.revoked.map { "\($0)" } ?? "an earlier time")"
        case .expired: why = "expired at \(standing.expires.map { "\($0)" } ?? "an earlier time")"
        case .callsUsedUp:
            why = "is used up: " + (limits.maxCalls.map { "max_calls \($0)" } ?? "no call is left above it")
        case .tooFast:
            retry = standing.nextCall
            why = "is used too fast: " + (limits.perMinute.map { "per_minute \($0)" } ?? "a rate above it")
        case .bytesUsedUp: why = short("bytes", request.needs.bytes, standing.room.bytes)
        case .tokensUsedUp: why = short("tokens", request.needs.tokens, standing.room.tokens)
        case .moneyUsedUp:
            why =
                "has $\(LimitField.dollars(standing.room.microUSD)) left of its money"
                + (request.needs.microUSD > 0 ? ", $\(LimitField.dollars(request.needs.microUSD)) are needed" : "")
        case .noGrant, .notCovered, .outOfReach, .unknownHandle, .notRecorded: why = "does not fit"
        }
        return Denial(
            reason, nearest: held.id, retryAt: retry,
            message: "\(what) is refused: \(name(held)) would allow it, but \(why)",
            hint: retry.map { "try again at \($0)" })
    }

    private func short(_ unit: String, _ needed: UInt64, _ left: UInt64) -> String {
        "has \(left) \(unit) left" + (needed > 0 ? ", \(needed) are needed" : "")
    }

    // MARK: None that would fit

    private var unreachableHost: Denial? {
        guard case .connect(let destination, _) = action else { return nil }
        switch destination.host {
        case .name(let name) where name.isLocalhost:
            return Denial(.outOfReach, message: "\(what) is refused: no grant reaches the host that Aegis runs on")
        case .address(let address):
            guard case .forbidden(let place) = AddressClass(address) else { return nil }
            return Denial(.outOfReach, message: "\(what) is refused: no grant reaches \(address), it is \(place)")
        case .name: return nil
        }
    }

    private var nothingOfKind: Denial {
        let kind = action.kind
        var hint = "a grant '\(Capability.suggestion(for: action))' would allow it"
        if case .fileRead(let path) = action,
            let held = held.first(where: { $0.terms.capability.allows(.fileWrite(path)) })
        {
            hint = "\(name(held)) lets it be written, reading needs a 'file_read' of its own"
        }
        return Denial(
            .noGrant, message: "\(what) is not granted: nothing of the kind '\(kind.rawValue)' is held", hint: hint)
    }

    /// The grant of the same kind that is nearest, with what keeps it from fitting.
    private var nearestOfKind: Denial? {
        var best: (position: Int, near: Nearness)?
        var count = 0
        for position in held.indices
        where held[position].terms.capability.kind == action.kind && held[position].standing.revoked == nil {
            count += 1
            // A name is near or not: where one is, the others are only counted.
            guard best.map({ $0.near.score < Nearness.most(for: action) }) ?? true else { continue }
            let near = Nearness(action, held[position].terms.capability)
            // Of those that are as near, the first.
            if best.map({ near.score > $0.near.score }) ?? true { best = (position, near) }
        }
        guard let best else { return nil }
        let nearest = held[best.position]
        let others = count == 1 ? "" : ", the nearest of \(count),"
        var hint = best.near.hint
        if case .fileRead(let path) = action, hint == nil,
            let writer = held.first(where: { $0.terms.capability.allows(.fileWrite(path)) })
        {
            hint = "\(name(writer)) lets it be written, reading needs a 'file_read' of its own"
        }
        return Denial(
            .notCovered, nearest: nearest.id,
            message: "\(what) is not granted: \(name(nearest))\(others) \(best.near.why)", hint: hint)
    }
}

extension Capability {
    /// The narrowest grant that would allow an action, as text for a hint.
    static func suggestion(for action: Action) -> String {
        switch action {
        case .connect(let destination, _):
            switch destination.host {
            case .name: "network: \(destination)"
            case .address(let address) where address.isIPv4: "network: \(address)/32:\(destination.port)"
            case .address(let address): "network: [\(address)/128]:\(destination.port)"
            }
        case .exec(let program, let resolved):
            "exec: \(program.contains("/") ? shown(resolved?.description ?? program) : program)"
        case .secret(let use): "secret: \(use.name)@\(use.host)"
        case .spawn(let name), .message(let name): "\(action.kind.rawValue): [\(shown(name))]"
        default: action.description
        }
    }
}
