import AegisCore

/// A grant as the book holds it.
///
/// `@unchecked Sendable`: what varies is read and written only under the book's lock; the rest is immutable.
final class GrantNode: @unchecked Sendable {
    let id: GrantID
    let holder: HolderID
    let terms: GrantTerms
    /// What it was derived from. It stays counted here also when the book has forgotten it.
    let parent: GrantNode?
    let parentID: GrantID?
    let root: GrantID
    let issued: Timestamp
    /// How many grants it was derived through.
    let depth: Int

    // Under the book's lock:
    var revoked: Timestamp?
    var calls: UInt64
    var used: Amounts
    var rate: RateWindow?
    var children: [GrantID] = []
    /// How many admissions are neither settled nor refunded.
    var open = 0
    var handle: GrantHandle

    init(_ record: GrantRecord, parent: GrantNode?, handle: GrantHandle) {
        id = record.id
        holder = record.holder
        terms = record.terms
        self.parent = parent
        parentID = record.parent
        root = record.root
        issued = record.issued
        depth = parent.map { $0.depth + 1 } ?? 0
        revoked = record.revoked
        calls = record.calls
        used = record.used
        rate = record.terms.limits.perMinute.map { RateWindow(limit: $0, recent: record.recent) }
        self.handle = handle
    }

    var record: GrantRecord {
        GrantRecord(
            id: id, holder: holder, terms: terms, parent: parentID, root: root, issued: issued, revoked: revoked,
            calls: calls, used: used, recent: rate?.recent ?? [])
    }

    /// What is left of it and of all that it was derived from. Revocation and expiry are its own: both are handed down.
    func standing(at now: Timestamp) -> Standing {
        var standing = Standing(revoked: revoked, expires: terms.expires)
        var next: GrantNode? = self
        while let node = next {
            node.tighten(&standing, at: now)
            next = node.parent
        }
        return standing
    }

    private func tighten(_ standing: inout Standing, at now: Timestamp) {
        guard terms.isLimited else { return }
        if let most = terms.limits.maxCalls { standing.callsLeft = min(standing.callsLeft, most - min(most, calls)) }
        let all = terms.limits.amounts
        // What is not limited stays endless, however much was used of it.
        standing.room.bytes = min(
            standing.room.bytes, all.bytes == .max ? .max : all.bytes - min(all.bytes, used.bytes))
        standing.room.tokens = min(
            standing.room.tokens, all.tokens == .max ? .max : all.tokens - min(all.tokens, used.tokens))
        standing.room.microUSD = min(
            standing.room.microUSD, all.microUSD == .max ? .max : all.microUSD - min(all.microUSD, used.microUSD))
        if let next = rate?.next(at: now) { standing.nextCall = max(standing.nextCall ?? next, next) }
    }

    /// What is left of it for models, and of each that it was derived from; empty where nothing limits that. Limits are handed down,
    /// so that of a line those at its lower end have them.
    var shares: [GrantShare] {
        var shares: [GrantShare] = []
        var next: GrantNode? = self
        while let node = next {
            if let share = node.share { shares.append(share) }
            next = node.parent
        }
        return shares
    }

    private var share: GrantShare? {
        let limits = terms.limits
        guard limits.maxTokens != nil || limits.maxMicroUSD != nil else { return nil }
        return GrantShare(
            grant: id, holder: holder, tokens: limits.maxTokens.map { $0 - min($0, used.tokens) },
            microUSD: limits.maxMicroUSD.map { $0 - min($0, used.microUSD) })
    }

    /// Counts a use, or a further reservation, here and at all that it was derived from.
    func charge(calls: UInt64, _ amounts: Amounts, at now: Timestamp) {
        line { node in
            node.calls = saturatingSum(node.calls, calls)
            node.used = node.used.adding(amounts)
            if calls > 0 { node.rate?.add(now) }
        }
    }

    /// Replaces what was reserved by what was used.
    func settle(_ reserved: Amounts, _ used: Amounts) {
        line { $0.used = $0.used.removing(reserved).adding(used) }
    }

    /// Takes a use back.
    func refund(_ reserved: Amounts, chargedAt time: Timestamp) {
        line { node in
            node.calls -= min(1, node.calls)
            node.used = node.used.removing(reserved)
            node.rate?.remove(time)
        }
    }

    /// Whether it has this id, or one that it was derived from has.
    func isDerived(from id: GrantID) -> Bool {
        var next: GrantNode? = self
        while let node = next {
            if node.id == id { return true }
            next = node.parent
        }
        return false
    }

    private func line(_ body: (GrantNode) -> Void) {
        var next: GrantNode? = self
        while let node = next {
            body(node)
            next = node.parent
        }
    }
}
