internal import AegisCapabilities
internal import AegisCore
internal import AegisInference
internal import Synchronization

/// What a grant allows of one question, however often it takes to ask that: all attempts together stay within what is reserved.
final class ModelLeave: Sendable {
    /// The grant.
    let grant: GrantID
    private let question: ModelQuestion
    private let quote: ModelQuote
    private let book: GrantBook
    private let holder: HolderID
    /// Nil once it is settled.
    private let admission: Mutex<Admission?>

    /// Takes an admission over.
    ///
    /// - Parameters:
    ///   - question: what is to be asked.
    ///   - quote: what it may take once.
    ///   - admission: what is reserved for the first attempt.
    ///   - book: where that is.
    init(_ question: ModelQuestion, _ quote: ModelQuote, _ admission: consuming Admission, of book: GrantBook) {
        grant = admission.grant
        holder = admission.holder
        self.question = question
        self.quote = quote
        self.book = book
        self.admission = Mutex(consume admission)
    }

    /// What a question takes with an answer of so many tokens.
    static func amounts(_ quote: ModelQuote, output: Int) -> Amounts {
        Amounts(
            tokens: UInt64(clamping: quote.inputTokens.saturatingAdd(output)),
            microUSD: UInt64(clamping: quote.most(output: output) ?? 0))
    }

    /// How many tokens the answer of the next attempt may have: what is reserved and not used.
    var length: Int {
        let reserved = admission.withLock { $0?.reserved } ?? Amounts()
        let left = reserved.removing(used)
        let tokens = Int(clamping: left.tokens) - quote.inputTokens
        let paid = quote.prices == nil ? .max : quote.output(for: Int(clamping: left.microUSD))
        return max(1, min(question.maxOutputTokens, tokens, paid))
    }

    private var used: Amounts {
        let used = question.bill.used
        return Amounts(tokens: UInt64(clamping: used.tokens), microUSD: UInt64(clamping: used.microUSD))
    }

    /// Asks the grant again, once the question may be sent.
    ///
    /// - Throws: `grant-revoked`, `grant-expired`.
    func check() throws(AegisError) {
        try refusing { admission throws(Denial) in try admission?.check() }
    }

    /// Has enough reserved for one more attempt.
    ///
    /// - Returns: how many tokens its answer may have.
    /// - Throws: `limit-...` when nothing is left for it; otherwise as `check` does.
    func again() throws(AegisError) -> Int {
        let needs = used.adding(Self.amounts(quote, output: 1))
        let wants = used.adding(Self.amounts(quote, output: question.maxOutputTokens))
        try refusing { admission throws(Denial) in try admission?.reserve(atLeast: needs, upTo: wants) }
        return length
    }

    /// Ends it: what was used takes the place of what was reserved.
    func settle() {
        admission.withLock { admission in
            guard let last = admission.take() else { return }
            last.settle(used: used)
        }
    }

    private func refusing(_ body: (inout Admission?) throws(Denial) -> Void) throws(AegisError) {
        var refusal: Denial?
        admission.withLock { admission in
            do throws(Denial) { try body(&admission) } catch { refusal = error }
        }
        guard let refusal else { return }
        book.tell(refusal, of: .model(question.alias), by: holder)
        throw refusal.asAegisError
    }
}
