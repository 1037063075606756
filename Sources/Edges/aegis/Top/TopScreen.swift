internal import AegisCore

/// Draws what `aegis top` shows: a pure function of the model, the state and the size of the terminal.
package struct TopScreen: Sendable, Equatable {
    package var rows: Int
    package var columns: Int
    /// Whether emphasis may be used; without, the text says it all.
    package var hasColor: Bool

    /// A screen of a size.
    package init(rows: Int, columns: Int, hasColor: Bool) {
        self.rows = rows
        self.columns = columns
        self.hasColor = hasColor
    }

    /// The smallest screen on which anything is shown.
    static let least = (rows: 8, columns: 40)

    enum Style: String {
        case plain = "", bold = "1", reverse = "7", dim = "2", red = "31", green = "32", yellow = "33"
    }

    func styled(_ text: String, _ style: Style) -> String {
        guard hasColor, style != .plain else { return text }
        return "\u{1b}[\(style.rawValue)m\(text)\u{1b}[0m"
    }

    /// The lines of the screen, as many as it has rows at most, none wider than it is.
    package func lines(_ model: TopModel, _ state: TopState) -> [String] {
        guard rows >= Self.least.rows, columns >= Self.least.columns else {
            return [TopText.cell("aegis top needs \(Self.least.columns)x\(Self.least.rows)", max(0, columns))]
        }
        let body: [String]
        switch state.page {
        case .overview: body = overview(model, state)
        case .approval, .logs: body = page(model, state)
        }
        let room = rows - 2
        let filled = body.prefix(room) + Array(repeating: "", count: max(0, room - body.count))
        return [head(model)] + filled + [foot(model, state)]
    }

    /// What is written to the terminal to show the lines: each is cleared behind, so that nothing of before stays.
    package func frame(_ model: TopModel, _ state: TopState) -> String {
        "\u{1b}[H" + lines(model, state).map { $0 + "\u{1b}[K" }.joined(separator: "\r\n") + "\u{1b}[J"
    }

    // MARK: Frame

    private func head(_ model: TopModel) -> String {
        let working = model.agents.count { $0.state == "working" }
        let open = model.goals.count { $0.state == "running" || $0.state == "queued" }
        // What a parent has used holds what its children have used.
        let tokens = model.agents.filter { $0.depth == 0 }.reduce(0) { $0 + $1.tokens }
        let text =
            "aegis top \(model.time.clock)  agents \(model.agents.count) (\(working) working)  goals \(open)  "
            + "approvals \(model.approvals.count)  tokens \(TopText.short(tokens))"
        return styled(TopText.cell(text, columns), .bold)
    }

    private func foot(_ model: TopModel, _ state: TopState) -> String {
        if let problem = model.problem { return styled(TopText.cell(problem, columns), .red) }
        if let notice = state.notice { return styled(TopText.cell(notice, columns), .yellow) }
        let keys =
            switch state.page {
            case .overview: "up/down j/k select   enter show   a approve   d deny   l logs   q quit"
            case .approval: "j/k scroll   a approve   d deny   q back"
            case .logs: "j/k scroll   q back"
            }
        return styled(TopText.cell(keys, columns), .dim)
    }

    // MARK: The overview

    private func overview(_ model: TopModel, _ state: TopState) -> [String] {
        let layout = Layout(self, model, state)
        var lines: [String] = []
        if !model.approvals.isEmpty {
            lines.append(title("WAITING FOR YOU", model.approvals.count))
            lines += window(model.approvals, layout.approvals, at: index(model.approvals.map(\.id), state)).map {
                approval($0, model.time, isSelected: state.selected == .approval($0.id))
            }
        }
        if let preview = layout.preview { lines += preview.map { TopText.cell("  | " + $0, columns) } }
        lines.append(agentTitle(model.agents.count))
        if model.agents.isEmpty {
            lines.append(row("no agents live: 'aegis agent spawn FILE', 'aegis goal TEXT'", isSelected: false))
        }
        lines += window(model.agents, layout.agents, at: index(model.agents.map(\.id), state)).map {
            agent($0, isSelected: state.selected == .agent($0.id))
        }
        if layout.goals > 0 {
            lines.append(title("GOALS", model.goals.count))
            lines += model.goals.prefix(layout.goals).map(goal)
        }
        if layout.calls > 0 {
            lines.append(title("LAST TOOL CALLS", model.calls.count))
            lines += model.calls.suffix(layout.calls).map { call($0, model) }
        }
        return lines
    }

    /// Whether all that an approval is about is on the screen.
    func showsWhole(_ id: String, _ model: TopModel, _ state: TopState) -> Bool {
        guard state.selected == .approval(id), rows >= Self.least.rows, columns >= Self.least.columns else {
            return false
        }
        return Layout(self, model, state).isPreviewWhole
    }

    private func index(_ ids: [String], _ state: TopState) -> Int {
        switch state.selected {
        case .approval(let id), .agent(let id): ids.firstIndex(of: id) ?? 0
        case nil: 0
        }
    }

    /// As many of a list as there is room for, the selected one among them.
    private func window<T>(_ items: [T], _ room: Int, at index: Int) -> ArraySlice<T> {
        let start = max(0, min(index - room / 2, items.count - room))
        return items[start..<min(items.count, start + room)]
    }

    private func title(_ text: String, _ count: Int) -> String {
        styled(TopText.cell("\(text) (\(count))", columns), .bold)
    }

    private func row(_ text: String, isSelected: Bool, _ style: Style = .plain) -> String {
        let line = TopText.cell((isSelected ? "> " : "  ") + text, columns)
        return styled(line, isSelected ? .reverse : style)
    }

    private func approval(_ item: TopModel.Approval, _ now: Timestamp, isSelected: Bool) -> String {
        let left = item.expires.map { "  \(Plain.age($0.milliseconds - now.milliseconds)) left" } ?? ""
        let text =
            "\(TopText.cell(item.agentName, 16)) \(TopText.cell(item.tool, 14)) "
            + TopText.cell(item.resource, max(8, columns - 34 - left.count)) + left
        return row(text, isSelected: isSelected, .yellow)
    }

    /// The columns of agents: what is narrow goes first when there is little room.
    private var agentWidths: (name: Int, model: Int, money: Bool) {
        let rest = columns - 2 - 11 - 5 - 5 - 8 - 8 - 6
        let money = rest >= 34
        let free = rest - (money ? 10 : 0)
        let name = max(8, min(32, free * 3 / 5))
        return (name, max(4, min(24, free - name)), money)
    }

    private func agentTitle(_ count: Int) -> String {
        let widths = agentWidths
        var text =
            "  \(TopText.cell("AGENTS (\(count))", widths.name)) \(TopText.cell("STATE", 11)) "
            + "\(TopText.cell("MODEL", widths.model)) \(TopText.cell("STEP", 5, right: true)) "
            + "\(TopText.cell("MAIL", 5, right: true)) \(TopText.cell("TOKENS", 8, right: true)) "
            + TopText.cell("LEFT", 8, right: true)
        if widths.money { text += " " + TopText.cell("USD", 9, right: true) }
        return styled(TopText.cell(text, columns), .bold)
    }

    private func agent(_ item: TopModel.Agent, isSelected: Bool) -> String {
        let widths = agentWidths
        let indent = String(repeating: " ", count: min(8, item.depth * 2))
        var text =
            "\(TopText.cell(indent + item.name, widths.name)) \(TopText.cell(item.state, 11)) "
            + "\(TopText.cell(item.model, widths.model)) "
            + "\(TopText.cell(item.step.map { "\($0)" } ?? "-", 5, right: true)) "
            + "\(TopText.cell("\(item.mail)", 5, right: true)) "
            + "\(TopText.cell(TopText.short(item.tokens), 8, right: true)) "
            + TopText.cell(item.tokensLeft.map { TopText.short($0) } ?? "-", 8, right: true)
        if widths.money { text += " " + TopText.cell(item.money, 9, right: true) }
        let style: Style =
            switch item.state {
            case "working": .green
            case "restarting", "stopping": .yellow
            default: .plain
            }
        return row(text, isSelected: isSelected, style)
    }

    private func goal(_ item: TopModel.Goal) -> String {
        let state = item.stop.map { "\(item.state): \($0)" } ?? item.state
        return row(
            "\(TopText.cell(state, 22)) " + TopText.cell(item.text, max(8, columns - 25)), isSelected: false,
            item.state == "running" ? .green : .plain)
    }

    private func call(_ item: TopModel.Call, _ model: TopModel) -> String {
        let outcome =
            switch item.isError {
            case nil: "..."
            case true?: item.code ?? "failed"
            case false?: item.microseconds.map { "\($0 / 1000) ms" } ?? "ok"
            }
        let time = item.time.split(separator: "T").last.map { String($0.prefix(8)) } ?? ""
        let text =
            "\(TopText.cell(time, 8)) \(TopText.cell(model.name(of: item.agent), 16)) "
            + "\(TopText.cell(item.tool, 14)) \(TopText.cell(outcome, 18)) "
            + TopText.cell(item.input, max(0, columns - 62))
        return row(text, isSelected: false, item.isError == true ? .red : .plain)
    }
}

extension Timestamp {
    /// The time of day in UTC, to the second.
    fileprivate var clock: Substring { "\(self)".split(separator: "T").last?.prefix(8) ?? "" }
}
