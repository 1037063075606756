extension TopScreen {
    /// How the rows of the overview are shared: who waits comes first, then agents; goals and calls get what is left.
    struct Layout {
        var approvals = 0
        /// What the selected approval would do; nil when none is selected.
        var preview: [String]?
        var isPreviewWhole = false
        var agents = 0
        var goals = 0
        var calls = 0

        init(_ screen: TopScreen, _ model: TopModel, _ state: TopState) {
            // Head and foot, and the title of the agents with one of them.
            var left = screen.rows - 2 - 2
            if !model.approvals.isEmpty, left > 1 {
                approvals = min(model.approvals.count, max(1, left / 4))
                left -= approvals + 1
            }
            if case .approval(let id)? = state.selected, let item = model.approvals.first(where: { $0.id == id }) {
                let lines = TopText.wrapped(item.preview, screen.columns - 4)
                let room = max(0, min(left, max(left / 2, left - min(model.agents.count, 4))))
                isPreviewWhole = lines.count <= room
                // A part must not look like the whole.
                preview =
                    isPreviewWhole
                    ? lines : Array(lines.prefix(max(0, room - 1))) + (room > 0 ? ["... more: press enter"] : [])
                left -= preview?.count ?? 0
            }
            // Where there is room for all, some is kept for what is below.
            let below = (model.goals.isEmpty ? 0 : 2) + (model.calls.isEmpty ? 0 : 4)
            agents = min(max(1, model.agents.count), max(1, 1 + left - (left > 10 ? below : 0)))
            left -= agents - 1
            // At most half for goals; a title needs a line beneath it.
            if !model.goals.isEmpty, left >= 2 {
                goals = min(model.goals.count, max(1, (left - 1) / 2), 6)
                left -= goals + 1
            }
            if !model.calls.isEmpty, left >= 2 { calls = min(model.calls.count, left - 1) }
        }
    }

    // MARK: Pages

    private func content(_ model: TopModel, _ state: TopState) -> [String] {
        switch state.page {
        case .overview: return []
        case .approval(let id):
            guard let item = model.approvals.first(where: { $0.id == id }) else { return [] }
            return TopText.wrapped(
                "\(item.id): \(item.agentName) (\(item.agent)) wants \(item.tool)\n\n" + item.preview, columns)
        case .logs: return (state.log + (state.line.map { [$0] } ?? [])).flatMap { TopText.wrapped($0, columns) }
        }
    }

    /// How many lines a page has, and how many of them are shown.
    func extent(_ model: TopModel, _ state: TopState) -> (count: Int, room: Int) {
        (content(model, state).count, rows - 3)
    }

    /// A page with its title, scrolled.
    func page(_ model: TopModel, _ state: TopState) -> [String] {
        let lines = content(model, state)
        let room = rows - 3
        let last = max(0, lines.count - room)
        let start = min(state.scroll ?? last, last)
        let name =
            switch state.page {
            case .logs(let id): "LOGS of \(model.name(of: id)) (\(id))"
            case .approval, .overview: "WHAT WOULD BE DONE"
            }
        let place = lines.count > room ? "  \(start + 1)-\(min(lines.count, start + room)) of \(lines.count)" : ""
        return [styled(TopText.cell(name + place, columns), .bold)]
            + lines[start..<min(lines.count, start + room)].map { TopText.cell($0, columns) }
    }
}
