internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisJSON

/// `file_write`
struct FileWriteTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_write",
        description: "Writes a text file (at most 1 MiB) as a whole, or at its end. Missing folders are made.",
        input: FileTools.input(
            [
                "path": FileTools.path("The file."),
                "content": ["type": "string", "description": "The text."],
                "append": ["type": "boolean", "description": "Whether it comes at the end of what is there; false."],
            ], required: ["path", "content"]),
        effects: .writes, isIdempotent: false, resources: [.fileWrite])

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let (path, content, append) = try arguments(input)
        let files = try context.agentFiles()
        let confirm = FileFacts.confirm(context)
        return try await blocking {
            let written = try files.write(path, content, append: append, confirm: confirm)
            return ToolReply([
                "path": .string("\(written.path)"), "bytes_written": .number(content.count),
                "created": .bool(written.sizeBefore == nil), "size_bytes": .number(written.size),
            ])
        }
    }

    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        let (path, content, append) = try arguments(input)
        let files = try context.agentFiles()
        return try await blocking {
            let (name, base) = try files.base(path, reading: false)
            return FileFacts.preview(name, base) { append ? $0 + content : content }
        }
    }

    private func arguments(_ input: JSONValue) throws(AegisError) -> (path: String, content: [UInt8], append: Bool) {
        let content = Array(try input.required("content").utf8)
        guard content.count <= FileTools.largest else {
            throw AegisError(
                .tooLarge, "content-too-large",
                "the content has \(content.count) bytes, at most \(FileTools.largest) are written at once",
                hint: "write the rest with append")
        }
        return (try input.required("path"), content, input["append"]?.flag ?? false)
    }
}

/// What approvals of changes of files show and are bound to (decision D48).
enum FileFacts {
    /// The name of a file's version in `ApprovalPreview.facts`.
    static func name(_ path: CanonicalPath) -> String { "file: \(path)" }

    /// A file's version.
    static func version(_ base: FileBase) -> String {
        switch base {
        case .absent: "absent"
        case .content(let bytes): "sha256:" + Fingerprint.hex(of: bytes)
        case .large(let version): "version:" + version
        }
    }

    /// The last look before a change of a call that was approved; nil where there was no approval.
    static func confirm(_ context: ToolContext) -> (@Sendable (CanonicalPath, FileBase) throws -> Void)? {
        guard context.approved != nil else { return nil }
        return { path, base in try context.confirm(name(path), is: version(base)) }
    }

    /// What a change does, as a diff.
    static func preview(
        _ path: CanonicalPath, _ base: FileBase, change: ([UInt8]) throws -> [UInt8]
    ) rethrows -> ApprovalPreview {
        let text: String
        switch base {
        case .absent: text = LineDiff.text(path: "\(path)", from: nil, to: try change([]))
        case .content(let old): text = LineDiff.text(path: "\(path)", from: old, to: try change(old))
        case .large:
            text =
                "\(path) is too large to be compared; it would be changed to:\n"
                + String(decoding: try change([]), as: UTF8.self)
        }
        return ApprovalPreview(text, facts: [name(path): version(base)], resource: "file_write: \(path)")
    }
}
