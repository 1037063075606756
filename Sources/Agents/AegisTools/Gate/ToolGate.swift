internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisIO
package import AegisJSON

/// The one way to a tool, for every caller: lookup, schema, capability, approval, intent saved, effect, outcome saved.
///
/// It does not throw: whatever goes wrong is an answer that the model can read and act on.
package final class ToolGate: Sendable {
    let registry: ToolRegistry
    let clock: (any Clock<Duration>)?
    let mask: InputPreview.Mask?

    /// How often a call is asked about again because what was shown has changed.
    static let mostApprovals = 3

    /// Makes a gate.
    ///
    /// - Parameters:
    ///   - registry: the tools.
    ///   - clock: whose time limits calls; nil is the loop's.
    ///   - mask: replaces the values of secrets in what the ledger gets of arguments, of which it is to give so many bytes at least;
    ///     nil where there are none.
    package init(
        _ registry: ToolRegistry, clock: (any Clock<Duration>)? = nil,
        mask: (@Sendable (_ bytes: [UInt8], _ wanted: Int) -> [UInt8])? = nil
    ) {
        self.mask = mask
        self.registry = registry
        self.clock = clock
    }

    /// Calls a tool.
    ///
    /// - Parameters:
    ///   - name: the tool, as the caller named it.
    ///   - input: its arguments.
    ///   - context: who calls.
    /// - Returns: the answer, also when the call was refused or failed; `halt` says that the caller must not go on.
    package func call(_ name: String, input: JSONValue, _ context: ToolContext) async -> ToolReply {
        let origin = WorkOrigin(
            agent: context.agent, parent: context.parent, trace: context.trace, step: context.step)
        return await WorkOrigin.$current.withValue(origin) { await placed(name, input, context) }
    }

    private func placed(_ name: String, _ input: JSONValue, _ context: ToolContext) async -> ToolReply {
        guard let entry = find(name, context) else { return unknownTool(name, context) }
        let call = Call(entry: entry, input: input, context: context)
        if let known = resumed(call) { return known }
        if let problem = entry.schema.problems(input) { return refuse(call, misfit(problem, entry)) }
        let admission: Admission
        do { admission = try context.grants.admit(Request(.tool(call.name)), by: context.holder) } catch {
            return refuse(call, denied(error, call, kinds: [.tool]))
        }
        return await run(call, admission)
    }

    /// Answers a call whose arguments are no JSON: nothing is guessed, and nothing is run.
    ///
    /// - Parameters:
    ///   - name: the tool, as the model named it.
    ///   - text: what the model wrote.
    ///   - why: what is wrong with it.
    ///   - context: who calls.
    /// - Returns: the answer.
    package func refuseMalformed(_ name: String, text: String, why: String, _ context: ToolContext) -> ToolReply {
        guard let entry = find(name, context) else { return unknownTool(name, context) }
        let call = Call(entry: entry, input: .string(text), context: context)
        let error = AegisError(
            .usage, "arguments-malformed", "the arguments of '\(call.name)' are not a JSON object: \(why)",
            hint: "nothing was done: call it again with valid JSON")
        return refuse(call, ToolReply(error))
    }

    /// One call on its way.
    struct Call: Sendable {
        let entry: ToolRegistry.Entry
        let input: JSONValue
        let inputHash: String
        var context: ToolContext

        var name: String { entry.declaration.name }

        init(entry: ToolRegistry.Entry, input: JSONValue, context: ToolContext) {
            self.entry = entry
            self.input = input
            self.context = context
            // What was approved for a call of the caller's own is not approved for this one.
            self.context.approved = nil
            self.context.spending = CallSpending()
            inputHash = Fingerprint.hex(of: input.canonical)
        }
    }

    /// From the admission on: it is settled or refunded on every way out.
    private func run(_ given: Call, _ admission: consuming Admission) async -> ToolReply {
        var call = given
        var isBegun = false
        var approvals = 0
        while true {
            if call.context.approvals.asks(call.entry.declaration) {
                guard approvals < Self.mostApprovals else {
                    return finish(call, isBegun, refuse(call, tooManyChanges(call)), consume admission)
                }
                approvals += 1
                switch await approve(call, grant: "\(admission.grant)") {
                case .success(let preview): call.context.approved = preview
                case .failure(let refusal):
                    // Nobody has refused what the next daemon asks for again.
                    let reply = isLeft(call) ? refusal.reply : refuse(call, refusal.reply)
                    return finish(call, isBegun, reply, consume admission)
                }
                // Whoever revokes while a person thinks has the last word.
                do { try admission.check() } catch {
                    let reply = refuse(call, denied(error, call, kinds: [.tool]))
                    return finish(call, isBegun, reply, consume admission)
                }
            }
            if !isBegun {
                if let failure = begin(call, grant: "\(admission.grant)") {
                    admission.refund()
                    return failure
                }
                isBegun = true
            }
            call.context.spending = CallSpending(
                admission.grant, admission.shares(), within: call.context.enclosing)
            let start = ContinuousClock.now
            guard let reply = await effect(call, grant: admission.grant) else {
                guard call.context.approved != nil else {
                    return finish(call, isBegun, refuse(call, tooManyChanges(call)), consume admission)
                }
                continue
            }
            let microseconds = start.duration(to: .now).components
            let elapsed = microseconds.seconds * 1_000_000 + microseconds.attoseconds / 1_000_000_000_000
            let (capped, length) = reply.capped(at: call.entry.declaration.outputLimit)
            let spent = call.context.spending.amounts
            call.context.spending.settle(spent, at: admission)
            admission.settle(used: spent.adding(Amounts(bytes: UInt64(length))))
            call.context.spending.isCounted(spent)
            return end(call, capped, length: length, microseconds: elapsed)
        }
    }

    /// Ends a call that had no effect.
    private func finish(
        _ call: Call, _ isBegun: Bool, _ reply: ToolReply, _ admission: consuming Admission
    ) -> ToolReply {
        admission.refund()
        return isBegun ? end(call, reply, length: reply.text.utf8.count, microseconds: 0) : reply
    }

    /// What the tool does. What waits for somebody elsewhere passes no gate by itself: it ends when what allowed it is taken back.
    private func work(_ call: Call, grant: GrantID) async throws -> ToolReply {
        let (tool, declaration) = (call.entry.tool, call.entry.declaration)
        guard declaration.effects == .external, !declaration.endsWithGrant else {
            return try await tool.call(call.input, call.context)
        }
        let (book, holder) = (call.context.grants, call.context.holder)
        let (result, isRevoked) = await withCancellation(when: {
            guard await book.revocation(of: grant, or: .tool(call.name), of: holder) else { throw CancellationError() }
        }) { try await tool.call(call.input, call.context) }
        // What has come to its end all the same has happened.
        guard isRevoked, Self.hasFailed(result) else { return try result.get() }
        throw Self.revoked(call.name)
    }

    private static func revoked(_ name: String) -> AegisError {
        AegisError(
            .denied, "grant-revoked",
            "the grant that allowed this call of '\(name)' was taken back while it ran: what it had sent may have had its effect",
            hint: "go on without it")
    }

    /// Whether a call has come to nothing. After one that halts its agent nothing may happen, however it ended.
    private static func hasFailed(_ result: Result<ToolReply, any Error>) -> Bool {
        guard case .success(let reply) = result else { return true }
        return reply.isError && reply.halt == nil
    }

    /// The effect itself.
    ///
    /// - Returns: nil when what was approved has changed and nothing was done: then it is asked about again.
    private func effect(_ call: Call, grant: GrantID) async -> ToolReply? {
        let entry = call.entry
        do {
            return try await withDeadline(entry.declaration.timeLimit, clock: clock) {
                try await self.work(call, grant: grant)
            }
        } catch is ApprovalStale {
            return nil
        } catch let denial as Denial {
            return refuse(call, denied(denial, call, kinds: entry.declaration.resources))
        } catch let error as AegisError {
            // What a tool needs goes away with whoever cancels it: its word for that is no outcome of the call.
            return ToolReply(Task.isCancelled ? interrupted(call, "it was cancelled (\(error.code))") : error)
        } catch is CancellationError {
            return ToolReply(interrupted(call, "it was cancelled"))
        } catch let error as IOError where error.kind == .timeout {
            return ToolReply(interrupted(call, "it took longer than \(entry.declaration.timeLimit)"))
        } catch {
            return ToolReply(AegisError.failed("tool-failed", "'\(call.name)' failed: \(error)"))
        }
    }
}
