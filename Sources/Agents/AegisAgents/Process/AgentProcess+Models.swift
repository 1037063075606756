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
            .model(question.alias), needs: ModelLeave.amounts(quote, output: 1),
            wants: ModelLeave.amounts(quote, output: question.maxOutputTokens))
        let admission: Admission
        do throws(Denial) { admission = try services.grants.admit(request, by: holder) } catch {
            throw error.asAegisError
        }
        if quote.prices == nil, admission.limitsMoney() {
            admission.refund()
            throw AegisError(
                .denied, "grant-needs-price",
                "the grant of the model '\(question.alias)' limits money, and one of the models that may answer has no price",
                hint: "set input_per_mtok and output_per_mtok of the model in the configuration")
        }
        return try await answer(question, ModelLeave(question, quote, admission, of: services.grants))
    }

    /// Asks within what is reserved, and books what was used: also of a question that has failed, or whose grant is taken back while
    /// it waits.
    private func answer(_ question: ModelQuestion, _ leave: ModelLeave) async throws(AegisError) -> ModelReply {
        var question = question
        question.maxOutputTokens = leave.length
        question.leave = InferenceLeave(
            check: { () throws(AegisError) in try leave.check() },
            again: { () throws(AegisError) in try leave.again() },
            isRevoked: { [book = services.grants] in await book.revocation(of: leave.grant) })
        defer { leave.settle() }
        do throws(AegisError) { return try await services.models.answer(question) } catch {
            // Whoever is stopped, or ends with the daemon, is refused nothing.
            if error.code == "inference-cancelled", !Task.isCancelled, !isLeaving { try leave.check() }
            throw error
        }
    }
}
