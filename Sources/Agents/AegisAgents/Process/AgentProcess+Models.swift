internal import AegisCapabilities
internal import AegisCore
internal import AegisInference

extension AgentProcess {
    /// Asks a model as far as a grant allows it: what the question takes must be left, and the answer is cut to the rest.
    ///
    /// - Throws: `capability-denied`, `grant-revoked`, `grant-expired`, `limit-...`, `grant-needs-price`; as the model desk does.
    func answer(_ question: ModelQuestion) async throws(AegisError) -> ModelReply {
        let result = await WorkOrigin.$current.withValue(origin) { () async -> Result<ModelReply, AegisError> in
            do throws(AegisError) { return .success(try await admitted(question)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// What records of the turn belong to.
    private var origin: WorkOrigin {
        WorkOrigin(
            agent: id, parent: record.parent, trace: session.turn?.trace ?? "", step: session.turn?.iterations ?? 0)
    }

    private func admitted(_ question: ModelQuestion) async throws(AegisError) -> ModelReply {
        let quote = try services.models.quote(question)
        // Less than one token is no answer.
        let request = Request(
            .model(question.alias), needs: Self.amounts(quote, output: 1),
            wants: Self.amounts(quote, output: question.maxOutputTokens))
        let admission: Admission
        do throws(Denial) { admission = try services.grants.admit(request, by: holder) } catch {
            throw error.asAegisError
        }
        return try await answer(question, quote, admission)
    }

    private static func amounts(_ quote: ModelQuote, output: Int) -> Amounts {
        Amounts(
            tokens: UInt64(clamping: quote.inputTokens.saturatingAdd(output)),
            microUSD: UInt64(clamping: quote.most(output: output) ?? 0))
    }

    /// Asks within what is reserved, and books what was used: also of a question that has failed.
    private func answer(
        _ question: ModelQuestion, _ quote: ModelQuote, _ admission: consuming Admission
    ) async throws(AegisError) -> ModelReply {
        if quote.prices == nil, admission.limitsMoney() {
            admission.refund()
            throw AegisError(
                .denied, "grant-needs-price",
                "the grant of the model '\(question.alias)' limits money, and one of the models that may answer has no price",
                hint: "set input_per_mtok and output_per_mtok of the model in the configuration")
        }
        var question = question
        question.maxOutputTokens = Self.length(question, quote, admission.reserved)
        let result: Result<ModelReply, AegisError>
        do throws(AegisError) { result = .success(try await services.models.answer(question)) } catch {
            result = .failure(error)
        }
        let used = question.bill.used
        admission.settle(
            used: Amounts(tokens: UInt64(clamping: used.tokens), microUSD: UInt64(clamping: used.microUSD)))
        return try result.get()
    }

    /// How long an answer may be for what is reserved.
    private static func length(_ question: ModelQuestion, _ quote: ModelQuote, _ reserved: Amounts) -> Int {
        let tokens = Int(clamping: reserved.tokens) - quote.inputTokens
        let paid = quote.prices == nil ? .max : quote.output(for: Int(clamping: reserved.microUSD))
        return max(1, min(question.maxOutputTokens, tokens, paid))
    }
}
