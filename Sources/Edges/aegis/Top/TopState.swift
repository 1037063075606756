package import AegisJSON

/// What is shown of the model, and what keys do. A value: no terminal, no daemon.
package struct TopState: Sendable, Equatable {
    /// What can be selected: by its id, so that nothing else is meant when lists change.
    package enum Item: Sendable, Equatable { case approval(String), agent(String) }

    /// What a key asks for beside showing something else.
    package enum Action: Sendable, Equatable {
        case none, quit
        case answer(approval: String, approve: Bool)
        /// Begin to show an agent's steps.
        case logs(agent: String)
    }

    /// A page over the whole screen.
    package enum Page: Sendable, Equatable {
        case overview
        /// All of what would be done.
        case approval(String)
        /// The steps of an agent.
        case logs(String)
    }

    package var page = Page.overview
    package var selected: Item?
    /// How far a page is scrolled; nil is to its end.
    package var scroll: Int? = 0
    /// Lines of the page of steps.
    package var log: [String] = []
    /// The line that the agent of the page of steps is writing.
    package private(set) var line: String?
    /// What the last key came to.
    package var notice: String?

    /// Steps are kept in so many lines.
    static let logLimit = 2000

    /// Nothing is selected yet.
    package init() {}

    /// Lists have changed: what is gone is not selected any more, and nothing else is in its place.
    package mutating func follow(_ model: TopModel) {
        let items = Self.items(model)
        if let selected, !items.contains(selected) { self.selected = nil }
        if case .approval(let id) = page, !model.approvals.contains(where: { $0.id == id }) {
            page = .overview
            notice = "\(id) is answered, or its time is over"
        }
    }

    static func items(_ model: TopModel) -> [Item] {
        model.approvals.map { .approval($0.id) } + model.agents.map { .agent($0.id) }
    }

    /// Adds steps to the page of an agent.
    package mutating func add(_ lines: [String]) {
        log += lines
        if log.count > Self.logLimit { log.removeFirst(log.count - Self.logLimit) }
    }

    /// So much of a line is kept.
    static let lineLimit = 2000

    /// Takes in what the agent of the page of steps says while it says it, or a step, which stands in the log.
    package mutating func hear(_ json: JSONValue) {
        let type = json["kind"]?.text == "agent.delta" ? json["type"]?.text : nil
        switch type {
        case "text", "reasoning":
            let text = json["text"]?.text ?? ""
            let isNew = line == nil || json["at"]?.integer == 0 || text.contains("\n")
            let rest = text.split(separator: "\n", omittingEmptySubsequences: false).last.map(String.init) ?? ""
            let all = (isNew ? (type == "text" ? "says: " : "thinks: ") : "") + (isNew ? rest : (line ?? "") + rest)
            line = all.count <= Self.lineLimit ? all : "…" + all.suffix(Self.lineLimit)
        case "tool": line = "calls \(json["tool"]?.text ?? "") ..."
        case "end" where json["complete"]?.flag == true: break
        case "gap": break
        default: line = nil
        }
    }

    /// Takes a key.
    ///
    /// - Parameters:
    ///   - key: which.
    ///   - model: what was on the screen.
    ///   - screen: how it was shown.
    /// - Returns: what is to be done.
    package mutating func take(_ key: TopKey, _ model: TopModel, _ screen: TopScreen) -> Action {
        notice = nil
        guard page == .overview else { return takeOnPage(key, model, screen) }
        switch key {
        case .letter("q"), .letter("Q"): return .quit
        case .up, .letter("k"): move(-1, model)
        case .down, .letter("j"): move(1, model)
        case .home: selected = Self.items(model).first
        case .end: selected = Self.items(model).last
        case .letter("a"): return answer(true, model, screen)
        case .letter("d"): return answer(false, model, screen)
        case .enter:
            switch selected {
            case .approval(let id): open(.approval(id))
            case .agent(let id): return logs(id)
            case nil: break
            }
        case .letter("l"):
            switch selected {
            case .agent(let id): return logs(id)
            case .approval(let id):
                if let agent = model.approvals.first(where: { $0.id == id })?.agent { return logs(agent) }
            case nil: notice = "select an agent first: arrows, or j and k"
            }
        default: break
        }
        return .none
    }

    private mutating func takeOnPage(_ key: TopKey, _ model: TopModel, _ screen: TopScreen) -> Action {
        let (count, room) = screen.extent(model, self)
        let last = max(0, count - room)
        let at = min(scroll ?? last, last)
        switch key {
        case .letter("q"), .letter("Q"), .escape: open(.overview)
        case .up, .letter("k"): scroll = max(0, at - 1)
        case .down, .letter("j"): scroll = at + 1 >= last ? (isLog ? nil : last) : at + 1
        case .pageUp: scroll = max(0, at - room)
        case .pageDown, .letter(" "): scroll = at + room >= last ? (isLog ? nil : last) : at + room
        case .home: scroll = 0
        case .end: scroll = isLog ? nil : last
        case .letter("a"), .letter("d"):
            if case .approval(let id) = page {
                // Who has not seen the end has not seen what would be done.
                guard key == .letter("d") || at == last else {
                    notice = "there is more below: read it to its end, then press a"
                    return .none
                }
                return .answer(approval: id, approve: key == .letter("a"))
            }
        default: break
        }
        return .none
    }

    private var isLog: Bool { if case .logs = page { true } else { false } }

    private mutating func open(_ page: Page) {
        self.page = page
        scroll = 0
        log = []
        line = nil
    }

    private mutating func logs(_ agent: String) -> Action {
        open(.logs(agent))
        scroll = nil
        return .logs(agent: agent)
    }

    private mutating func move(_ step: Int, _ model: TopModel) {
        let items = Self.items(model)
        guard !items.isEmpty else { return }
        guard let selected, let index = items.firstIndex(of: selected) else {
            self.selected = step > 0 ? items.first : items.last
            return
        }
        self.selected = items[min(max(0, index + step), items.count - 1)]
    }

    private mutating func answer(_ approve: Bool, _ model: TopModel, _ screen: TopScreen) -> Action {
        guard case .approval(let id) = selected else {
            notice =
                model.approvals.isEmpty ? "nothing waits for an answer" : "select an approval first: arrows, or j and k"
            return .none
        }
        // Only what was shown whole can be agreed to (decision D48).
        if approve, !screen.showsWhole(id, model, self) {
            open(.approval(id))
            notice = "this is all of it: read it to its end, then press a"
            return .none
        }
        return .answer(approval: id, approve: approve)
    }
}
