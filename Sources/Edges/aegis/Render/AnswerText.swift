package import AegisJSON

/// Prints an answer while it is written: what stands on the terminal already is not printed a second time. Pure.
package struct AnswerText: Sendable {
    /// What goes to stdout, and what is said about it on stderr.
    package struct Output: Sendable, Equatable {
        package var out = ""
        package var note = ""
        /// Makes an output.
        package init(out: String = "", note: String = "") { (self.out, self.note) = (out, note) }
    }

    /// The text of the answer that is written, or was written last.
    private var shown = ""
    private var isWhole = true
    /// The next piece belongs to another answer.
    private var hasEnded = false
    private var isLineOpen = false

    /// Nothing was printed yet.
    package init() {}

    /// Takes an event in.
    ///
    /// - Parameter delta: one of those called `agent.delta`.
    /// - Returns: what is printed of it.
    package mutating func take(_ delta: JSONValue) -> Output {
        switch delta["type"]?.text {
        case "text": return Output(out: text(delta["text"]?.text ?? "", at: Int(delta["at"]?.integer ?? 0)))
        case "tool":
            return Output(out: closeLine(), note: "aegis: it calls \(Plain.text(delta["tool"]?.text ?? ""))\n")
        case "restart":
            begin()
            return Output(out: closeLine(), note: "aegis: the answer broke off, and begins anew\n")
        case "end":
            if delta["complete"]?.flag != true { begin() } else { hasEnded = true }
            return Output(out: closeLine())
        case "gap":
            isWhole = false
            return Output(
                out: closeLine(), note: "aegis: some of it is left out here: it came faster than it was read\n")
        default: return Output()
        }
    }

    private mutating func begin() { (shown, isWhole, hasEnded) = ("", true, false) }

    private mutating func text(_ piece: String, at: Int) -> String {
        if hasEnded { begin() }
        if at != shown.utf8.count { isWhole = false }
        shown += piece
        isLineOpen = !piece.hasSuffix("\n")
        return Plain.piece(piece)
    }

    private mutating func closeLine() -> String {
        defer { isLineOpen = false }
        return isLineOpen ? "\n" : ""
    }

    /// What is still to be printed when the result is there.
    package mutating func end(_ response: String) -> String {
        let head = closeLine()
        return isWhole && !shown.isEmpty && shown == response ? head : head + Plain.block(response)
    }
}

/// Prints the steps of an agent, and what it says while it says it. Pure.
package struct StepsText: Sendable {
    private struct Part: Sendable {
        var text = ""
        var isWhole = true
    }
    /// What was printed of the answer that is written, by type.
    private var shown: [String: Part] = [:]
    /// The type that the open line is of.
    private var open: String?

    /// Nothing was printed yet.
    package init() {}

    /// Takes a step or a piece in.
    ///
    /// - Parameters:
    ///   - json: what the daemon sent.
    ///   - now: the time, for pieces have none.
    /// - Returns: what is printed.
    package mutating func take(_ json: JSONValue, now: String) -> String {
        guard json["kind"]?.text == "agent.delta" else {
            defer { if json["kind"]?.text == "replied" { shown = [:] } }
            return close() + AgentText.step(json["kind"]?.text == "replied" ? rest(of: json) : json)
        }
        let type = json["type"]?.text ?? ""
        switch type {
        case "text", "reasoning":
            let piece = json["text"]?.text ?? ""
            var part = shown[type] ?? Part()
            if part.text.utf8.count != Int(json["at"]?.integer ?? 0) { part.isWhole = false }
            part.text += piece
            shown[type] = part
            let head = open == type ? "" : close() + "\(now) \(type == "text" ? "says" : "thinks"): "
            open = type
            return head + Plain.piece(piece)
        case "restart":
            shown = [:]
            return close() + "\(now) void: the answer broke off, and begins anew\n"
        case "end":
            guard json["complete"]?.flag != true, !shown.isEmpty else { return close() }
            shown = [:]
            return close() + "\(now) void: the answer broke off\n"
        case "gap":
            for type in ["text", "reasoning"] { shown[type, default: Part()].isWhole = false }
            return close()
        default: return close()
        }
    }

    private mutating func close() -> String {
        defer { open = nil }
        return open == nil ? "" : "\n"
    }

    /// The step without what stands above it already.
    private func rest(of step: JSONValue) -> JSONValue {
        let blocks = step["blocks"]?.elements ?? []
        let known = ["text", "reasoning"].filter { type in
            guard let part = shown[type], part.isWhole else { return false }
            return part.text == blocks.filter { $0["type"]?.text == type }.compactMap { $0["text"]?.text }.joined()
        }
        let left = blocks.filter { !known.contains($0["type"]?.text ?? "") }
        return .object(
            (step.fields ?? []).map { $0.name == "blocks" ? JSONValue.Field("blocks", .array(left)) : $0 })
    }
}
