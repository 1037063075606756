/// Something that the loop tells about its descriptor.
protocol PollTarget: AnyObject, Sendable {
    /// The descriptor has become ready (again). On the loop's thread.
    func becameReady(_ readiness: Readiness)
    /// The loop ends: nothing will become ready any more. On the loop's thread.
    func loopEnded()
}

/// Names a place in the table for one registration; a later one in the same place has another generation, so that an
/// event which the kernel had queued for a closed descriptor never reaches its successor.
struct PollToken: Sendable {
    let raw: UInt64
    var index: Int { Int(raw & 0xFFFF_FFFF) }
    var generation: UInt32 { UInt32(raw >> 32) }
}

/// Who is told about which token.
struct TargetTable {
    private struct Slot {
        var generation: UInt32 = 0
        var target: (any PollTarget)?
    }
    private var slots: [Slot] = []
    private var free: [Int] = []

    /// Gives a target a place.
    mutating func insert(_ target: any PollTarget) -> PollToken {
        let index = free.popLast() ?? slots.count
        if index == slots.count { slots.append(Slot()) }
        slots[index].target = target
        return PollToken(raw: UInt64(slots[index].generation) << 32 | UInt64(index))
    }

    /// The target of a token; nil when it was removed.
    func target(of raw: UInt64) -> (any PollTarget)? {
        let token = PollToken(raw: raw)
        guard slots.indices.contains(token.index), slots[token.index].generation == token.generation else { return nil }
        return slots[token.index].target
    }

    /// Frees a place; a second removal does nothing.
    mutating func remove(_ token: PollToken) {
        guard slots.indices.contains(token.index), slots[token.index].generation == token.generation,
            slots[token.index].target != nil
        else { return }
        slots[token.index] = Slot(generation: token.generation &+ 1)
        free.append(token.index)
    }

    /// Frees all places.
    mutating func removeAll() -> [any PollTarget] {
        let all = slots.compactMap(\.target)
        for index in slots.indices where slots[index].target != nil {
            remove(PollToken(raw: UInt64(slots[index].generation) << 32 | UInt64(index)))
        }
        return all
    }
}
