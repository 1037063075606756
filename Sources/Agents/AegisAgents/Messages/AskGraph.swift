/// Which agent's turn waits for which other agent's answer. A value: it decides and waits for nothing.
struct AskGraph: Sendable, Equatable {
    /// How many answers of the one the other waits for; a turn can ask several at once.
    private var waits: [String: [String: Int]] = [:]

    /// Notes that one waits for another, unless nobody would ever answer then.
    ///
    /// - Parameters:
    ///   - asker: who is to wait.
    ///   - target: for whose answer.
    ///   - children: for which agents the turn of an agent waits besides: those that it has spawned.
    /// - Returns: nil when it is noted; else the agents in the circle, from the asker to the asker.
    mutating func begin(_ asker: String, for target: String, children: (String) -> [String]) -> [String]? {
        if let path = path(from: target, to: asker, children) { return [asker] + path }
        waits[asker, default: [:]][target, default: 0] += 1
        return nil
    }

    /// Notes that one waits no more.
    mutating func end(_ asker: String, for target: String) {
        guard let count = waits[asker]?[target] else { return }
        waits[asker]?[target] = count > 1 ? count - 1 : nil
        if waits[asker]?.isEmpty == true { waits[asker] = nil }
    }

    /// The shortest way on which one waits for another.
    private func path(from start: String, to end: String, _ children: (String) -> [String]) -> [String]? {
        var before: [String: String] = [:]
        var queue = [start]
        var seen: Set<String> = [start]
        while !queue.isEmpty {
            let next = queue.removeFirst()
            guard next != end else {
                var path = [end]
                while let last = path.last, last != start, let step = before[last] { path.append(step) }
                return path.reversed()
            }
            for other in (waits[next]?.keys.sorted() ?? []) + children(next) where seen.insert(other).inserted {
                before[other] = next
                queue.append(other)
            }
        }
        return nil
    }
}
