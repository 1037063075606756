package import AegisInference

/// How far a turn may go.
package struct TurnLimits: Sendable, Hashable {
    /// Calls of the model.
    package var iterations: Int
    /// Tokens, in and out, of all those calls.
    package var tokens: Int
    /// The tokens of a manifest that says nothing, and has no larger budget.
    package static let usualTokens = 5_000_000

    /// The limits of a manifest that says nothing.
    package init(iterations: Int = 50, tokens: Int = Self.usualTokens) {
        self.iterations = iterations
        self.tokens = tokens
    }
}

/// What an agent does next.
package enum TurnAction: Sendable, Hashable {
    /// Nothing, until a message comes.
    case rest
    /// It asks its model.
    case ask
    /// It calls tools, none of which was begun.
    case call([ToolUse])
    /// It finds out about tools that were begun when a daemon ended: nobody knows whether they have done it.
    case clarify([ToolUse])
    /// It ends its turn.
    case close(TurnStop, TurnProblem?)
}

/// An agent's conversation and where it stands in its turn: what the steps amount to. A value without I/O.
package struct Session: Sendable, Hashable {
    /// The turn that is under way.
    package struct Turn: Sendable, Hashable {
        /// What ties together all that happens for one message.
        package var trace: String
        /// The message.
        package var text: String
        /// How often the model was called.
        package var iterations = 0
        /// What those calls took, and those for summaries of the conversation.
        package var usage = TokenUsage()
        /// The last answer's end.
        package var lastStop: StopReason?
        /// Whether somebody wants it to end.
        package var isStopped = false
        /// The calls of the last answer, in its order.
        package var calls: [ToolUse] = []
        var intents: Set<String> = []
        var outcomes: [String: ToolOutput] = [:]
        /// Which of the messages has the text; negative when it is not shown any more.
        var start: Int
        /// How often it was begun anew.
        package var restarts = 0
        /// What it took before that.
        var before = Spent()

        /// How often the model was called in all.
        var allIterations: Int { before.iterations + iterations }
        /// What all those calls took.
        var allUsage: TokenUsage { before.usage + usage }
    }

    /// What a turn has taken.
    struct Spent: Sendable, Hashable {
        var iterations = 0
        var usage = TokenUsage()
    }
    /// The turn that ended last: it can be begun anew.
    package struct Ended: Sendable, Hashable {
        var turn: Turn
        var stop: TurnStop
    }

    /// What the model is shown, oldest first. Tool results follow their calls, in one message.
    package private(set) var messages: [ModelMessage] = []
    /// What each of them takes of a window, in tokens.
    package private(set) var sizes: [Int] = []
    /// What stands for the messages that are not shown any more.
    package private(set) var summary: String?
    private var hasGap = false
    /// Stands with what the runtime says before the messages.
    private var mark = ""
    /// nil between turns.
    package private(set) var turn: Turn?
    /// nil before the first one has ended.
    package private(set) var last: Ended?
    /// How many steps there are.
    package private(set) var count = 0
    /// The text of the last answer.
    package private(set) var lastText = ""

    /// A session in which nothing has happened.
    package init() {}

    /// The session of steps that were kept.
    package init(_ steps: some Sequence<SessionStep>) { for step in steps { apply(step) } }

    /// Takes in what happened. Steps that make no sense where they stand change nothing but the count: what was kept by a
    /// release with a fault must still be readable.
    package mutating func apply(_ step: SessionStep) {
        count += 1
        switch step {
        case .began(let trace, let text, _):
            if turn != nil { end() }
            append(.user, [.text(text)])
            turn = Turn(trace: trace, text: text, start: messages.count - 1)
            last = nil
            lastText = ""
        case .replied(let blocks, let stop, let usage): replied(blocks, stop, usage)
        case .intent(let call): turn?.intents.insert(call)
        case .outcome(let output): outcome(output)
        case .stopped: turn?.isStopped = true
        case .ended(let stop, _):
            if let turn { last = Ended(turn: turn, stop: stop) } else { last?.stop = stop }
            end()
        case .restarted(let mark): restart(mark)
        case .summarized(let number, let text, let usage, let mark):
            (summary, self.mark) = (text, mark)
            turn?.usage += usage
            hasGap = false
            remove(number)
        case .dropped(let number, let mark):
            remove(number)
            hasGap = hasGap || number > 0
            self.mark = mark
        case .shortened(let bytes): shorten(to: bytes)
        case .spent(let usage): turn?.usage += usage
        case .note: break
        }
    }

    /// What comes next: all that a turn loop decides.
    package func next(_ limits: TurnLimits) -> TurnAction {
        guard let turn else { return .rest }
        let open = turn.calls.filter { turn.outcomes[$0.id] == nil }
        let unclear = open.filter { turn.intents.contains($0.id) }
        if !unclear.isEmpty { return .clarify(unclear) }
        if turn.isStopped { return .close(.cancelled, nil) }
        if !open.isEmpty { return .call(open) }
        if turn.calls.isEmpty, let stop = turn.lastStop { return close(after: stop) }
        guard turn.iterations < limits.iterations else { return .close(.maxIterations, nil) }
        guard turn.usage.total < limits.tokens else { return .close(.maxTokens, nil) }
        return .ask
    }

    /// What stands for the messages that are not there any more, in frames which no text of theirs can imitate.
    var preamble: [String] {
        var preamble: [String] = []
        if let summary { preamble.append(Frame.summary(summary, mark: mark)) }
        if hasGap { preamble.append(Frame.gap(mark: mark)) }
        // The task itself is never forgotten, whatever else is.
        if let turn, turn.start < 0 { preamble.append(Frame.task(turn.text, mark: mark)) }
        return preamble
    }

    /// What the model is sent: the messages, and before them what stands for those that are not there any more.
    package var prompt: [ModelMessage] {
        let preamble = preamble
        guard !preamble.isEmpty else { return messages }
        let blocks = preamble.map { ModelMessage.Block.text($0) }
        guard let first = messages.first, first.role == .user else {
            return [ModelMessage(.user, blocks)] + messages
        }
        return [ModelMessage(.user, blocks + first.blocks)] + messages.dropFirst()
    }

    /// What the task takes where it is shown before the messages; 0 between turns.
    var taskSize: Int {
        turn.map { ContextSize.tokens(bytes: Self.taskFrame + $0.text.utf8.count) } ?? 0
    }

    /// What stands before the messages takes, without the task.
    var notesSize: Int { Self.notesSize(summary, hasGap: hasGap) }

    private static func notesSize(_ summary: String?, hasGap: Bool) -> Int {
        (summary.map { ContextSize.tokens(bytes: summaryFrame + $0.utf8.count) } ?? 0)
            + (hasGap ? ContextSize.tokens(bytes: gapFrame) : 0)
    }

    // Marks have 16 digits.
    private static let (taskFrame, summaryFrame, gapFrame) = {
        let mark = String(repeating: "0", count: 16)
        return (
            Frame.task("", mark: mark).utf8.count, Frame.summary("", mark: mark).utf8.count,
            Frame.gap(mark: mark).utf8.count
        )
    }()

    // MARK: What steps do

    private func close(after stop: StopReason) -> TurnAction {
        switch stop {
        case .endTurn, .stopSequence, .toolUse: .close(.complete, nil)
        case .maxTokens: .close(.truncated, nil)
        case .refusal:
            .close(.error, TurnProblem(code: "model-refused", message: "the model refused to answer"))
        case .other(let word):
            .close(
                .error,
                TurnProblem(code: "model-stopped", message: "the model stopped for a reason of its own: \(word)"))
        }
    }

    private mutating func replied(
        _ blocks: [ModelMessage.Block], _ stop: StopReason, _ usage: TokenUsage
    ) {
        // While calls of the last answer are open nobody is asked.
        guard turn?.calls.isEmpty == true else { return }
        // An answer that was cut may end in the middle of a call: what it would have said is not known.
        let isCut = stop == .maxTokens
        var calls: [ToolUse] = []
        let kept = blocks.compactMap { block -> ModelMessage.Block? in
            guard case .toolUse(var use) = block else { return block }
            guard !isCut else { return nil }
            use.id = uniqueID(use.id, among: calls)
            calls.append(use)
            return .toolUse(use)
        }
        lastText = kept.compactMap { if case .text(let text) = $0 { text } else { nil } }.joined()
        // An empty message is refused by some servers; then nothing was said.
        if !kept.isEmpty { append(.assistant, kept) }
        guard var turn else { return }
        turn.iterations += 1
        turn.usage += usage
        turn.lastStop = stop
        turn.calls = calls
        turn.intents = []
        turn.outcomes = [:]
        self.turn = turn
    }

    /// The blocks of an answer as they are to be kept: each of its calls has an id that no other call has which the model is shown.
    ///
    /// Some models give no ids, or one twice, or count them anew in each answer: results could not be told apart then, and some
    /// providers refuse a conversation in which an id comes twice.
    ///
    /// - Parameter blocks: what the model said.
    /// - Returns: the same, with other ids where they are needed.
    func withOwnIDs(_ blocks: [ModelMessage.Block]) -> [ModelMessage.Block] {
        var calls: [ToolUse] = []
        return blocks.map { block in
            guard case .toolUse(var use) = block else { return block }
            use.id = Self.free(use.id, "call_\(count)", calls.count) { id in
                calls.contains { $0.id == id } || messages.contains { $0.toolUses.contains { $0.id == id } }
            }
            calls.append(use)
            return .toolUse(use)
        }
    }

    /// Within one answer: what releases before kept may have an id twice.
    private func uniqueID(_ id: String, among calls: [ToolUse]) -> String {
        Self.free(id, "call_\(turn?.iterations ?? 0)", calls.count) { id in calls.contains { $0.id == id } }
    }

    /// An id that is not taken: the one that was given, or one that begins with a text and ends with a number.
    private static func free(
        _ id: String, _ start: String, _ number: Int, isTaken: (String) -> Bool
    ) -> String {
        var (free, number) = (id, number)
        while free.isEmpty || isTaken(free) {
            free = "\(start)_\(number)"
            number += 1
        }
        return free
    }

    private mutating func outcome(_ output: ToolOutput) {
        guard let calls = turn?.calls, calls.contains(where: { $0.id == output.id }), turn?.outcomes[output.id] == nil
        else { return }
        turn?.outcomes[output.id] = output
        guard let outcomes = turn?.outcomes, outcomes.count == calls.count else { return }
        append(.user, calls.compactMap { outcomes[$0.id].map(ModelMessage.Block.toolResult) })
        turn?.calls = []
        turn?.intents = []
        turn?.outcomes = [:]
        turn?.lastStop = nil
    }

    /// Calls without an answer get one: a conversation in which a call has no result is refused by every provider.
    private mutating func end() {
        guard let turn else { return }
        if !turn.calls.isEmpty {
            append(
                .user,
                turn.calls.map { call in
                    .toolResult(
                        turn.outcomes[call.id]
                            ?? ToolOutput(
                                id: call.id,
                                text: turn.intents.contains(call.id)
                                    ? "interrupted: it may or may not have happened" : "not called: the turn was ended",
                                isError: true))
                })
        }
        self.turn = nil
    }

    /// The conversation stands as it was left: what was done is done. An answer that was cut is gone on with.
    private mutating func restart(_ mark: String) {
        guard turn == nil, let ended = last else { return }
        var turn = Turn(trace: ended.turn.trace, text: ended.turn.text, start: ended.turn.start)
        turn.restarts = ended.turn.restarts + 1
        turn.before = Spent(iterations: ended.turn.allIterations, usage: ended.turn.allUsage)
        if messages.last?.role != .user { append(.user, [.text(Frame.goOn(mark: mark))]) }
        self.turn = turn
    }

    /// Two messages of the user in a row are one to the model.
    private mutating func append(_ role: ModelMessage.Role, _ blocks: [ModelMessage.Block]) {
        guard role == .user, messages.last?.role == .user else {
            messages.append(ModelMessage(role, blocks))
            sizes.append(ContextSize.frame + ContextSize.tokens(blocks))
            return
        }
        messages[messages.count - 1].blocks += blocks
        sizes[sizes.count - 1] += ContextSize.tokens(blocks)
    }

    private mutating func remove(_ number: Int) {
        let number = min(max(number, 0), messages.count)
        messages.removeFirst(number)
        sizes.removeFirst(number)
        turn?.start -= number
    }

    /// The text of the message that the model works on stays whole; that of turns which have ended does not.
    private func shortened(to bytes: Int) -> (messages: [ModelMessage], summary: String?) {
        let messages = messages.enumerated().map { index, message in
            message.shortened(to: bytes, sparing: index == turn?.start ? turn?.text : nil)
        }
        return (messages, summary.map { ModelMessage.shortened($0, bytes) })
    }

    private mutating func shorten(to bytes: Int) {
        (messages, summary) = shortened(to: bytes)
        sizes = messages.map { ContextSize.tokens($0) }
    }

    /// What the conversation would take if its texts were cut, without a task that is shown before it.
    func size(shortenedTo bytes: Int) -> Int {
        let (messages, summary) = shortened(to: bytes)
        return ContextSize.tokens(messages) + Self.notesSize(summary, hasGap: hasGap)
    }
}
