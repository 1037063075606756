internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisJSON
internal import Synchronization

/// The tools that work with files. All of them go through `AgentFiles`.
package enum FileTools {
    /// The longest file that is read or written whole, in bytes.
    package static let largest = 1 << 20
    /// The longest text that an edit looks for or puts in its place, in bytes.
    package static let longestEdit = 64 << 10

    /// All of them.
    package static let all: [any Tool] = [
        FileReadTool(), FileListTool(), FileReadManyTool(), FileWriteTool(), FileEditTool(), FileMultiEditTool(),
        GrepTool(), GlobTool(),
    ]

    /// The schema of a path.
    static func path(_ what: String) -> JSONValue {
        ["type": "string", "minLength": 1, "description": .string(what + " Absolute; the workspace is /workspace.")]
    }

    /// An input that is an object with these fields and no others.
    static func input(_ properties: JSONValue, required: JSONValue) -> JSONValue {
        ["type": "object", "properties": properties, "required": required, "additionalProperties": false]
    }
}

extension ToolContext {
    /// The agent's files.
    ///
    /// - Throws: `no-files` where it has none.
    func agentFiles() throws(AegisError) -> AgentFiles {
        guard let files else { throw AegisError(.denied, "no-files", "there are no files here") }
        return AgentFiles(files, grants: grants, holder: holder)
    }
}

extension JSONValue {
    /// A member that the schema says is there.
    func required(_ name: String) throws(AegisError) -> String {
        guard let text = self[name]?.text else { throw .usage("the field '\(name)' is missing") }
        return text
    }
}

/// Runs what blocks on the disk.
func blocking<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await BlockingPool.shared.run(body)
}

/// The same for what can end before its time.
///
/// - Parameters:
///   - pool: whose threads run it.
///   - body: is given what says that its call was cancelled.
/// - Returns: what `body` returns.
/// - Throws: what `body` throws; `CancellationError` when it had not begun.
func blocking<T: Sendable>(
    on pool: BlockingPool = .shared,
    untilCancelled body: @escaping @Sendable (@escaping @Sendable () -> Bool) throws -> T
) async throws -> T {
    let isOver = OverFlag()
    return try await withTaskCancellationHandler {
        try await pool.run { try body { isOver.isSet } }
    } onCancel: {
        isOver.set()
    }
}

/// Says to a thread that its work is not wanted any more.
private final class OverFlag: Sendable {
    private let flag = Atomic<Bool>(false)
    var isSet: Bool { flag.load(ordering: .relaxed) }
    func set() { flag.store(true, ordering: .relaxed) }
}

extension AegisError {
    /// What a file that is no text cannot be used for.
    static func notText(_ path: String) -> AegisError {
        AegisError(
            .usage, "not-text", "'\(Escaped.line(path, atMost: 500))' is not UTF-8 text, and only text can be read here"
        )
    }
}
