internal import AegisClient
internal import AegisCore
internal import AegisTar
internal import LinuxSys

/// Brings artifacts home: of a command after it has ended and before its instance is removed (decision D9), of a goal.
struct ArtifactFetch: Sendable {
    let context: Context
    let transfer: FileTransfer
    /// Who was to leave them, in messages.
    var maker = "the command"
    let quiet: Bool

    /// Fetches all, saying sizes on stderr.
    ///
    /// - Throws: the first failure, after the others were tried.
    func all(_ specs: [ArtifactSpec]) async throws(AegisError) {
        var failure: AegisError?
        for spec in specs {
            do throws(AegisError) { try await fetch(spec) } catch { failure = failure ?? explained(error, spec) }
        }
        if let failure { throw failure }
    }

    private func fetch(_ spec: ArtifactSpec) async throws(AegisError) {
        guard try await transfer.kind(of: spec.source) != nil else {
            throw .notFound("path-not-found", "\(spec.source) does not exist")
        }
        let name = Files.split(spec.destination).name
        let path = ArtifactPlace.folder(spec)
        let directory: FileDescriptor
        do throws(Errno) { directory = try ArtifactPlace.open(path) } catch {
            throw .failed("artifact-failed", "'\(path)' cannot take artifacts: \(error)")
        }
        let top = spec.contentsOnly ? TarTop.strip : .rename(Array(name.utf8))
        let report = try await transfer.download(spec.source, into: directory, top: top, links: .refuse)
        if let refused = report.refusedTop {
            throw .failed("artifact-refused", "\(spec.source) was not copied: \(refused.reason)")
        }
        guard !quiet else { return }
        await context.console.say(TransferText.report(report, from: spec.source, to: spec.destination))
    }

    private func explained(_ error: AegisError, _ spec: ArtifactSpec) -> AegisError {
        if error.code == "instance-stopped" {
            return AegisError(
                .failed, "artifact-lost", "\(spec.source) went with the sandbox, which ended with its command",
                hint: "what is written to /workspace stays in any case")
        }
        guard error.kind == .notFound else { return error }
        return AegisError(
            .failed, "artifact-missing", "\(maker) left nothing at \(spec.source)",
            hint: spec.contentsOnly ? "write what is to be kept into \(ArtifactSpec.output)" : nil)
    }
}
