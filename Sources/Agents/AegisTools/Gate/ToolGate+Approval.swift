internal import AegisCapabilities
internal import AegisCore
internal import AegisJSON

extension ToolGate {
    /// An answer in place of an approval.
    struct Refusal: Error { var reply: ToolReply }

    /// Asks a person.
    ///
    /// - Returns: what was approved, or the answer to a refusal.
    func approve(_ call: Call, grant: String) async -> Result<ApprovalPreview, Refusal> {
        func refusal(_ error: AegisError) -> Result<ApprovalPreview, Refusal> {
            .failure(Refusal(reply: ToolReply(error)))
        }
        let name = call.name
        guard let desk = call.context.desk else {
            return refusal(
                AegisError(
                    .denied, "approval-impossible", "'\(name)' needs a person's agreement, and nobody can be asked here"
                ))
        }
        do {
            let preview = try await call.entry.tool.preview(call.input, call.context)
            let context = call.context
            let request = ApprovalRequest(
                agent: context.agent, agentName: context.name, parent: context.parent, trace: context.trace,
                step: context.step, callID: context.callID, door: context.door, tool: name, grant: grant,
                input: call.input,
                inputHash: call.inputHash, preview: preview)
            switch try await desk.ask(request) {
            case .granted: return .success(preview)
            case .denied(_, _, let reason):
                let why = reason.map { ": \(Escaped.line($0, atMost: 500))" } ?? ""
                return refusal(
                    AegisError(
                        .denied, "approval-denied", "a person refused '\(name)'\(why)",
                        hint: "do not repeat it; go on without it, or say what you need it for"))
            case .expired:
                return refusal(
                    AegisError(.denied, "approval-expired", "nobody agreed to '\(name)' in time, so it is refused"))
            case .withdrawn:
                return refusal(AegisError(.denied, "approval-withdrawn", "the request to run '\(name)' was withdrawn"))
            }
        } catch let denial as Denial {
            return .failure(Refusal(reply: denied(denial, call, kinds: call.entry.declaration.resources)))
        } catch let error as AegisError {
            return refusal(error)
        } catch is CancellationError {
            return refusal(AegisError(.timeout, "interrupted", "'\(name)' was cancelled before it began"))
        } catch {
            return refusal(.failed("tool-failed", "'\(name)' cannot be shown for approval: \(error)"))
        }
    }

    func tooManyChanges(_ call: Call) -> ToolReply {
        ToolReply(
            AegisError.conflict(
                "approval-stale",
                "what '\(call.name)' works on changed each of \(Self.mostApprovals) times after it was approved",
                hint: "nothing was done"))
    }
}
