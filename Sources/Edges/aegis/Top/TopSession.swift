internal import AegisCore
internal import AegisIO
internal import AegisJSON
internal import AegisWire

/// `aegis top` on a terminal: the model comes from the daemon, keys change the state, and after each the screen is drawn.
actor TopSession {
    private let context: Context
    private let feed: TopFeed
    private var model: TopModel
    private var state = TopState()
    private var screen: TopScreen
    /// Which agent's steps are shown, and up to where.
    private var log: (agent: String, last: Int64?)?
    private var isBusy = false

    /// How long the shown may be old.
    private static let period = Duration.seconds(1)
    /// How soon it is seen that the steps of an agent are shown, or not any more.
    private static let glance = Duration.milliseconds(200)
    private static let windowChanged: Int32 = 28
    private static let continued: Int32 = 18
    private static let ending: [Int32] = [1, 2, 3, 15]

    init(_ context: Context, _ feed: TopFeed, hasColor: Bool) {
        self.context = context
        self.feed = feed
        model = TopModel(time: context.now())
        let size = Terminal.ofThisProcess ?? (24, 80)
        screen = TopScreen(rows: Int(size.rows), columns: Int(size.columns), hasColor: hasColor)
    }

    private enum End: Sendable { case quit, signal(Int32) }

    /// Runs until q, a signal, or the end of the terminal.
    ///
    /// - Throws: `Interrupted` after a signal; what the daemon says at first.
    func run() async throws {
        // What is wrong at first is said on a terminal that is as it was.
        model = try await feed.refreshed(model)
        let signals = try SignalSource(Self.ending + [Self.windowChanged, Self.continued], on: context.loop)
        defer {
            signals.close()
            Terminal.restore()
        }
        try await takeScreen()
        let end = try await withThrowingTaskGroup(of: End.self) { group in
            group.addTask { try await self.type() }
            group.addTask { try await self.heed(signals) }
            group.addTask { try await self.watch() }
            group.addTask { try await self.hear() }
            defer { group.cancelAll() }
            return try await group.next() ?? .quit
        }
        if case .signal(let number) = end { throw Interrupted(signal: number) }
    }

    private func takeScreen() async throws {
        do { try await context.console.print(try Terminal.takeScreen(0)) } catch let error as ReaderGone {
            throw error
        } catch { throw AegisError.failed("no-terminal", "the terminal cannot be used: \(error)", hint: "use --once") }
        try await draw()
    }

    private func draw() async throws {
        try await context.console.print(screen.frame(model, state))
    }

    // MARK: Keys

    private func type() async throws -> End {
        var keys = TopKeys()
        let input = try context.console.input()
        while let bytes = try await input.readPiece() {
            for key in keys.keys(bytes) {
                let action = state.take(key, model, screen)
                if action == .quit { return .quit }
                try await perform(action)
            }
            try await draw()
        }
        return .quit
    }

    private func perform(_ action: TopState.Action) async throws {
        switch action {
        case .none, .quit: break
        case .logs(let agent):
            log = (agent, nil)
            await readLog()
        case .answer(let approval, let approve):
            do throws(AegisError) {
                try await feed.answer(approval, approve: approve)
                state.notice = "\(approval) \(approve ? "approved" : "denied")"
                state.page = .overview
                await refresh()
            } catch {
                state.notice = error.message
            }
        }
    }

    // MARK: The daemon

    private func watch() async throws -> End {
        while true {
            try await context.loop.clock.sleep(for: Self.period)
            await refresh()
            await readLog()
            try await draw()
        }
    }

    /// The agent whose steps are shown, once they have been read.
    private var shown: String? {
        guard case .logs(let agent) = state.page, let log, log.agent == agent, log.last != nil else { return nil }
        return agent
    }

    /// Shows what an agent says while it says it, for as long as its steps are shown.
    private func hear() async throws -> End {
        while true {
            try await context.loop.clock.sleep(for: Self.glance)
            guard let agent = shown else { continue }
            let last = log?.last
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    do {
                        try await self.feed.hear(agent, after: last) { try await self.take($0, of: agent) }
                    } catch let error as ReaderGone {
                        throw error
                    } catch {
                        // The page says what is wrong when it is read the next time.
                    }
                }
                group.addTask { while await self.shown == agent { try await self.pause() } }
                try await group.next()
                group.cancelAll()
            }
            // Of an agent that is gone there is nothing more to hear.
            if shown == agent { try await context.loop.clock.sleep(for: Self.period) }
        }
    }

    private func pause() async throws { try await context.loop.clock.sleep(for: Self.glance) }

    private func take(_ line: JSONValue, of agent: String) async throws -> Bool {
        guard shown == agent else { return false }
        state.hear(line)
        // The step takes the place of what was heard of it.
        if line["kind"]?.text != "agent.delta" { await readLog() }
        try await draw()
        return true
    }

    private func refresh() async {
        // The actor serves keys while it waits; two answers must not overtake each other.
        guard !isBusy else { return }
        isBusy = true
        defer { isBusy = false }
        do throws(AegisError) { model = try await feed.refreshed(model) } catch {
            model.problem = "\(error.message) - trying again"
        }
        state.follow(model)
    }

    private func readLog() async {
        guard case .logs(let agent) = state.page, let (known, last) = log, known == agent else { return }
        do throws(AegisError) {
            let (lines, end) = try await feed.steps(of: agent, after: last)
            // Another page may have been opened meanwhile.
            guard case .logs(agent) = state.page, log?.last == last else { return }
            log = (agent, end)
            state.add(lines)
        } catch { state.notice = error.message }
    }

    // MARK: Signals

    private func heed(_ signals: SignalSource) async throws -> End {
        while true {
            let number = try await signals.next()
            switch number {
            case Self.windowChanged:
                resize()
                try await draw()
            case Self.continued:
                // The shell has put its own mode back meanwhile.
                Terminal.restore()
                resize()
                try await takeScreen()
            default: return .signal(number)
            }
        }
    }

    private func resize() {
        guard let size = Terminal.ofThisProcess else { return }
        screen.rows = Int(size.rows)
        screen.columns = Int(size.columns)
    }
}
