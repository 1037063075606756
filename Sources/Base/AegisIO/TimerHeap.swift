/// Names a timer that was set; never used again for another one.
package struct TimerID: Hashable, Sendable {
    fileprivate let slot: Int
    fileprivate let generation: UInt64
}

/// A binary heap of deadlines whose entries can be removed in logarithmic time.
///
/// Removal matters: a server sets a deadline per request and cancels nearly all of them.
struct TimerHeap<Payload> {
    private struct Node {
        var deadline: UInt64
        /// Equal deadlines fire in the order they were set.
        var order: UInt64
        var slot: Int
    }
    private struct Slot {
        var generation: UInt64 = 0
        var position: Int?
        var payload: Payload?
    }

    private var nodes: [Node] = []
    private var slots: [Slot] = []
    private var free: [Int] = []
    private var next: UInt64 = 0

    /// How many timers are set.
    var count: Int { nodes.count }
    /// The earliest deadline.
    var earliest: UInt64? { nodes.first?.deadline }

    /// Sets a timer.
    mutating func insert(deadline: UInt64, _ payload: Payload) -> TimerID {
        let slot = free.popLast() ?? slots.count
        if slot == slots.count { slots.append(Slot()) }
        slots[slot].payload = payload
        slots[slot].position = nodes.count
        nodes.append(Node(deadline: deadline, order: next, slot: slot))
        next += 1
        siftUp(nodes.count - 1)
        return TimerID(slot: slot, generation: slots[slot].generation)
    }

    /// Removes a timer; nil when it has fired or was removed before.
    mutating func remove(_ id: TimerID) -> Payload? {
        guard slots.indices.contains(id.slot), slots[id.slot].generation == id.generation,
            let position = slots[id.slot].position
        else { return nil }
        return removeNode(at: position)
    }

    /// Takes the earliest timer that is due.
    mutating func popDue(now: UInt64) -> Payload? {
        guard let first = nodes.first, first.deadline <= now else { return nil }
        return removeNode(at: 0)
    }

    /// Takes every timer, due or not.
    mutating func removeAll() -> [Payload] {
        var all: [Payload] = []
        while let payload = popDue(now: .max) { all.append(payload) }
        return all
    }

    private mutating func removeNode(at position: Int) -> Payload? {
        let slot = nodes[position].slot
        let last = nodes.count - 1
        if position != last { swapNodes(position, last) }
        nodes.removeLast()
        if position < nodes.count {
            siftUp(position)
            siftDown(position)
        }
        let payload = slots[slot].payload
        slots[slot] = Slot(generation: slots[slot].generation + 1)
        free.append(slot)
        return payload
    }

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (nodes[a].deadline, nodes[a].order) < (nodes[b].deadline, nodes[b].order)
    }

    private mutating func swapNodes(_ a: Int, _ b: Int) {
        nodes.swapAt(a, b)
        slots[nodes[a].slot].position = a
        slots[nodes[b].slot].position = b
    }

    private mutating func siftUp(_ start: Int) {
        var child = start
        while child > 0, precedes(child, (child - 1) / 2) {
            swapNodes(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private mutating func siftDown(_ start: Int) {
        var parent = start
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < nodes.count && precedes(child, smallest) {
                smallest = child
            }
            if smallest == parent { return }
            swapNodes(parent, smallest)
            parent = smallest
        }
    }
}
