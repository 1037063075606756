package import AegisCore
internal import AegisJSON
internal import LinuxSys
internal import Synchronization

/// Passes everything on to a provider, and writes down what was asked and answered, a JSON line each.
///
/// Recordings hold whole conversations: the file is its owner's alone (mode 0600).
package final class RecordingProvider: ModelProvider {
    package let name: String
    private let provider: any ModelProvider
    private let path: String
    private let file: Mutex<FileDescriptor>

    /// Opens the file, or makes it; lines are appended.
    ///
    /// - Throws: `recording-not-writable`.
    package init(_ provider: any ModelProvider, path: String) throws(AegisError) {
        self.provider = provider
        self.path = path
        name = provider.name
        do throws(Errno) {
            file = Mutex(try FileDescriptor.open(path, [.writeOnly, .create, .append], mode: 0o600))
        } catch {
            throw AegisError(.failed, "recording-not-writable", "\(path) cannot be written: \(error)")
        }
    }

    package func complete(
        _ request: ModelRequest, onDelta: @Sendable (ModelDelta) -> Void
    ) async throws(ModelError) -> ModelReply {
        let deltas = DeltaList()
        let result: Result<ModelReply, ModelError>
        do throws(ModelError) {
            result = .success(
                try await provider.complete(request) { delta in
                    deltas.append(delta)
                    onDelta(delta)
                })
        } catch {
            result = .failure(error)
        }
        // Whoever gave up was answered nothing that could be replayed.
        if case .failure(let error) = result, error.kind == .cancelled { throw error }
        try write(request, deltas.all, result.map { .reply($0) })
        return try result.get()
    }

    package func embed(_ question: EmbeddingQuestion) async throws(ModelError) -> EmbeddingReply {
        let result: Result<EmbeddingReply, ModelError>
        do throws(ModelError) { result = .success(try await provider.embed(question)) } catch {
            if error.kind == .cancelled { throw error }
            result = .failure(error)
        }
        try write(question, [], result.map { .vectors($0) })
        return try result.get()
    }

    private func write(
        _ request: some Encodable, _ deltas: [ModelDelta], _ result: Result<RecordedCall.Answer, ModelError>
    ) throws(ModelError) {
        do {
            let json = try JSONValue(encoding: request)
            let call = RecordedCall(
                hash: RecordedCall.hash(of: json), provider: name, request: json, deltas: deltas, result: result)
            let line = try call.line() + [10]
            try file.withLock { file in
                var rest = line[...]
                while !rest.isEmpty { rest = rest.dropFirst(try file.write(rest)) }
            }
        } catch {
            // A recording with a hole would be taken for a whole one.
            throw ModelError(.invalidRequest, "the recording \(path) cannot be written: \(error)")
        }
    }
}

/// The pieces of one answer.
private final class DeltaList: Sendable {
    private let deltas = Mutex<[ModelDelta]>([])
    func append(_ delta: ModelDelta) { deltas.withLock { $0.append(delta) } }
    var all: [ModelDelta] { deltas.withLock { $0 } }
}
