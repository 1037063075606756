package import AegisCore

/// Leave to do one thing once: from `GrantBook.admit`. It is settled or refunded exactly once; one that is just dropped counts
/// with all that it reserved.
package struct Admission: ~Copyable, Sendable {
    /// Who may do it.
    package let holder: HolderID
    /// The grant that allowed it.
    package var grant: GrantID { node.id }
    /// What that grant allows.
    package var capability: Capability { node.terms.capability }
    /// How much may be used so far.
    package private(set) var reserved: Amounts
    /// When it was given.
    package let time: Timestamp

    private let book: GrantBook
    private let node: GrantNode
    private var isOpen = true

    init(book: GrantBook, node: GrantNode, reserved: Amounts, time: Timestamp) {
        holder = node.holder
        self.book = book
        self.node = node
        self.reserved = reserved
        self.time = time
    }

    deinit { if isOpen { book.close(node) } }

    /// Whether the grant allows an egress proxy to look into TLS, and demands it.
    package var mustInspect: Bool {
        if case .network(let pattern) = node.terms.capability { pattern.inspect } else { false }
    }

    /// Asks again in the middle of the work, at its next gate.
    ///
    /// - Throws: the refusal when the grant, or one that it was derived from, was revoked or has expired since.
    package borrowing func check() throws(Denial) { try book.check(node) }

    /// Whether the grant, or one that it was derived from, limits money: then nothing may be done whose price is not known.
    package borrowing func limitsMoney() -> Bool { book.limitsMoney(node) }

    /// Whether the grant is this one or was derived from it: then what is used counts there as well.
    package borrowing func isDerived(from grant: GrantID) -> Bool { node.isDerived(from: grant) }

    /// What is left for models of the grant and of those that it was derived from, each by itself: the grant's own first, then
    /// the nearest.
    ///
    /// - Returns: them; none where nothing limits that.
    package borrowing func shares() -> [GrantShare] { book.shares(node) }

    /// Whether the grant, or one that it was derived from, limits bytes: then what moves has to be counted as it goes.
    package borrowing func limitsBytes() -> Bool { book.limitsBytes(node) }

    /// Reserves a portion of the bytes that are left, for work whose size shows as it goes (a connection's bytes): enough for some
    /// time, and never so many that nothing is left for others who work at the same time.
    ///
    /// - Returns: how many bytes.
    /// - Throws: the refusal when none are left, or as `check` does; what was reserved stays.
    package mutating func reservePortion() throws(Denial) -> UInt64 {
        let portion = try book.extendByPortion(node)
        reserved = reserved.adding(Amounts(bytes: portion))
        return portion
    }

    /// Reserves more, for work whose size shows as it goes (what a search finds).
    ///
    /// - Parameter more: what is needed beside what is reserved.
    /// - Throws: the refusal when there is not so much left, or as `check` does; what was reserved stays.
    package mutating func reserve(_ more: Amounts) throws(Denial) {
        reserved = reserved.adding(try book.extend(node, by: more, upTo: more))
    }

    /// Has at least so much reserved in all, and up to so much if that is left: for work that is tried again, and needs what it has
    /// used and as much again.
    ///
    /// - Parameters:
    ///   - needs: what must be reserved in all.
    ///   - wants: what is to be reserved in all as far as it is left.
    /// - Throws: the refusal when there is not so much left, or as `check` does; what was reserved stays.
    package mutating func reserve(atLeast needs: Amounts, upTo wants: Amounts) throws(Denial) {
        let more = try book.extend(node, by: needs.removing(reserved), upTo: wants.removing(reserved))
        reserved = reserved.adding(more)
    }

    /// Ends the work: what was reserved is replaced by what was used, which may be more.
    package consuming func settle(used: Amounts = Amounts()) {
        isOpen = false
        book.settle(node, reserved: reserved, used: used)
    }

    /// Says that the work was not begun: nothing of it counts.
    package consuming func refund() {
        isOpen = false
        book.refund(node, reserved: reserved, chargedAt: time)
    }
}

extension GrantBook {
    /// Decides a request and counts it: in one step, so that what is left is never promised twice.
    ///
    /// - Parameters:
    ///   - request: what is to be done.
    ///   - holder: who wants to do it, as the gate knows it from where the request came, never from what it says.
    ///   - handle: the one grant to use; nil is any that the holder has.
    /// - Returns: the leave, with what is reserved at the grant and at all that it was derived from.
    /// - Throws: the refusal, with the grant that came nearest.
    package func admit(
        _ request: Request, by holder: HolderID, using handle: GrantHandle? = nil
    ) throws(Denial) -> Admission {
        enum Step: Sendable {
            case admitted(GrantNode, Amounts, Timestamp)
            case refused([GrantSet.Held], Timestamp)
            case failed(Denial, Timestamp)
        }
        let isClosed = protected.refuses(request.action) != nil
        let step: Step = locked { state, now in
            if let handle {
                guard let node = state.holders[holder]?.shown(handle) else {
                    return .failed(Self.unknownHandle(request.action), now)
                }
                let standing = node.standing(at: now)
                guard !isClosed, node.terms.capability.allows(request.action),
                    standing.shortage(for: request, at: now) == nil
                else { return .refused([GrantSet.Held(id: node.id, terms: node.terms, standing: standing)], now) }
                return charge(node, request, request.wants.atMost(standing.room), now)
            }
            guard let own = state.holders[holder] else { return .refused([], now) }
            guard !isClosed, let (node, reserved) = own.choose(request, at: now) else {
                return .refused(own.held(at: now, about: request.action), now)
            }
            return charge(node, request, reserved, now)
        }
        func charge(_ node: GrantNode, _ request: Request, _ reserved: Amounts, _ now: Timestamp) -> Step {
            do { try record(.charged(node.id, calls: 1, amounts: reserved, at: now), action: request.action) } catch {
                return .failed(error, now)
            }
            node.charge(calls: 1, reserved, at: now)
            node.open += 1
            return .admitted(node, reserved, now)
        }
        let denial: Denial
        let time: Timestamp
        switch step {
        case .admitted(let node, let reserved, let now):
            return Admission(book: self, node: node, reserved: reserved, time: now)
        case .refused(let held, let now):
            denial = Explanation(request: request, held: held, protected: protected, now: now).denial
            time = now
        case .failed(let given, let now):
            denial = given
            time = now
        }
        journal?.denied(request.action, by: holder, denial, at: time)
        throw denial
    }

    /// Has a refusal told that was decided in the middle of the work.
    ///
    /// - Parameters:
    ///   - denial: why.
    ///   - action: what was refused.
    ///   - holder: who wanted to do it.
    package func tell(_ denial: Denial, of action: Action, by holder: HolderID) {
        journal?.denied(action, by: holder, denial, at: locked { _, now in now })
    }

    /// The same words for a handle of somebody else as for one that does not exist.
    static func unknownHandle(_ action: Action?) -> Denial {
        let what = action.map { "'\($0)' is refused: " } ?? ""
        return Denial(.unknownHandle, message: what + "the holder has no grant with the handle that was shown")
    }

    /// Saves a change before it counts.
    func record(_ event: @autoclosure () -> GrantEvent, action: Action? = nil) throws(Denial) {
        guard let journal else { return }
        do { try journal.record(event(), action: action) } catch {
            throw Denial(.notRecorded, message: "the decision cannot be recorded: \(error.message)", hint: error.hint)
        }
    }

    fileprivate func check(_ node: GrantNode) throws(Denial) {
        try locked { (_, now) throws(Denial) in try Self.checkLife(node, now) }
    }

    fileprivate func limitsMoney(_ node: GrantNode) -> Bool {
        locked { _, now in node.standing(at: now).room.microUSD != .max }
    }

    fileprivate func shares(_ node: GrantNode) -> [GrantShare] { locked { _, _ in node.shares } }

    fileprivate func limitsBytes(_ node: GrantNode) -> Bool {
        locked { _, now in node.standing(at: now).room.bytes != .max }
    }

    fileprivate func extendByPortion(_ node: GrantNode) throws(Denial) -> UInt64 {
        try locked { (_, now) throws(Denial) in
            try Self.checkLife(node, now)
            let room = node.standing(at: now).room.bytes
            guard room > 0 else {
                throw Denial(
                    .bytesUsedUp, nearest: node.id,
                    message: "\(node.id) '\(shown(node.terms.capability.description))' has none of its bytes left")
            }
            let portion = Amounts(bytes: min(room, max(4 << 10, min(room / 8, 256 << 10))))
            try record(.charged(node.id, calls: 0, amounts: portion, at: now))
            node.charge(calls: 0, portion, at: now)
            return portion.bytes
        }
    }

    private static func checkLife(_ node: GrantNode, _ now: Timestamp) throws(Denial) {
        let name = "\(node.id) '\(shown(node.terms.capability.description))'"
        if let revoked = node.revoked {
            throw Denial(.revoked, nearest: node.id, message: "\(name), which allowed this, was revoked at \(revoked)")
        }
        if let expires = node.terms.expires, expires <= now {
            throw Denial(.expired, nearest: node.id, message: "\(name), which allowed this, expired at \(expires)")
        }
    }

    fileprivate func extend(_ node: GrantNode, by more: Amounts, upTo most: Amounts) throws(Denial) -> Amounts {
        try locked { (_, now) throws(Denial) in
            try Self.checkLife(node, now)
            let room = node.standing(at: now).room
            guard more.fits(in: room) else {
                let (reason, unit): (Denial.Reason, String) =
                    more.bytes > room.bytes
                    ? (.bytesUsedUp, "bytes")
                    : more.tokens > room.tokens ? (.tokensUsedUp, "tokens") : (.moneyUsedUp, "money")
                throw Denial(
                    reason, nearest: node.id,
                    message:
                        "\(node.id) '\(shown(node.terms.capability.description))' has not so much of its \(unit) left")
            }
            let more = most.atMost(room).atLeast(more)
            guard !more.isZero else { return more }
            try record(.charged(node.id, calls: 0, amounts: more, at: now))
            node.charge(calls: 0, more, at: now)
            return more
        }
    }

    /// What cannot be recorded counts as it was reserved, or as it was used where that is more: too much rather than too little.
    fileprivate func settle(_ node: GrantNode, reserved: Amounts, used: Amounts) {
        locked { _, _ in
            node.open -= 1
            guard reserved != used else { return }
            let isRecorded = (try? record(.settled(node.id, reserved: reserved, used: used))) != nil
            node.settle(reserved, isRecorded ? used : used.atLeast(reserved))
        }
    }

    fileprivate func refund(_ node: GrantNode, reserved: Amounts, chargedAt time: Timestamp) {
        locked { _, _ in
            node.open -= 1
            guard (try? record(.refunded(node.id, reserved: reserved, chargedAt: time))) != nil else { return }
            node.refund(reserved, chargedAt: time)
        }
    }

    fileprivate func close(_ node: GrantNode) { locked { _, _ in node.open -= 1 } }
}
