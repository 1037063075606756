/// What a listener has not taken yet: pieces that follow each other are one, and what there is no room for is counted. Pure.
struct LiveBuffer: Sendable {
    /// How much of text waits for a slow listener.
    static let limit = 64 << 10

    private(set) var events: [LiveEvent] = []
    /// What all of it takes.
    private(set) var weight = 0

    /// Adds an event.
    mutating func add(_ event: LiveEvent) {
        guard weight + event.weight <= limit(of: event) else { return skip(event) }
        if let last = events.indices.last, events[last].absorb(event) {
            weight += event.textBytes
        } else {
            events.append(event)
            weight += event.weight
        }
    }

    /// Gives all that there is.
    mutating func take() -> [LiveEvent] {
        defer { (events, weight) = ([], 0) }
        return events
    }

    /// Who has missed pieces must still hear that they are void, or that no more will come.
    private func limit(of event: LiveEvent) -> Int {
        switch event.kind {
        case .restart, .end: 2 * Self.limit
        case .text, .reasoning, .tool, .gap: Self.limit
        }
    }

    /// One mark for all that an agent says while there is no room.
    private mutating func skip(_ event: LiveEvent) {
        if let place = events.lastIndex(where: { $0.agent == event.agent }), case .gap(let lost) = events[place].kind {
            events[place].kind = .gap(bytes: lost + event.textBytes)
            return
        }
        // Markers come to an end, too: as many gaps as agents, and markers between them, are all that follows.
        guard weight < 4 * Self.limit else { return }
        var gap = event
        gap.kind = .gap(bytes: event.textBytes)
        events.append(gap)
        weight += gap.weight
    }
}
