internal import AegisAudit
internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisJSON
internal import LinuxSys

/// `file_read`
struct FileReadTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_read",
        description:
            "Reads a text file of at most 1 MiB. Lines are numbered unless numbered is false; read on with offset.",
        input: FileTools.input(
            [
                "path": FileTools.path("The file."),
                "offset": [
                    "type": "integer", "minimum": 1, "maximum": 1_000_000_000, "description": "The first line, from 1.",
                ],
                "limit": ["type": "integer", "minimum": 1, "maximum": 100_000, "description": "How many lines; 2000."],
                "numbered": ["type": "boolean", "description": "Whether each line starts with its number; true."],
            ], required: ["path"]),
        effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.fileRead])

    /// How much text one answer holds, in bytes.
    static let mostText = 192 << 10

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let path = try input.required("path")
        let offset = Int(input["offset"]?.integer ?? 1)
        let limit = Int(input["limit"]?.integer ?? 2000)
        let isNumbered = input["numbered"]?.flag ?? true
        let files = try context.agentFiles()
        return try await blocking {
            let content = try files.read(path, limit: FileTools.largest)
            guard let text = String(validating: content.bytes, as: UTF8.self) else { throw AegisError.notText(path) }
            let page = TextPage(text, from: offset, lines: limit, numbered: isNumbered, mostText: Self.mostText)
            return ToolReply([
                "path": .string("\(content.path)"), "content": .string(page.text),
                "size_bytes": .number(content.bytes.count), "total_lines": .number(page.total),
                "offset": .number(offset), "returned_lines": .number(page.count), "truncated": .bool(page.isCut),
            ])
        }
    }
}

/// Some lines of a text.
struct TextPage {
    private(set) var text = ""
    /// Lines of the whole.
    private(set) var total = 0
    /// Lines that are in `text`.
    private(set) var count = 0
    /// Whether lines follow, or one was cut.
    private(set) var isCut = false

    init(_ whole: String, from first: Int, lines limit: Int, numbered: Bool, mostText: Int) {
        var isFull = false
        var rest = whole[...].utf8
        while !rest.isEmpty {
            let end = rest.firstIndex(of: 0x0a)
            let line = rest[..<(end ?? rest.endIndex)]
            rest = end.map { rest[rest.index(after: $0)...] } ?? rest[rest.endIndex...]
            total += 1
            guard total >= first else { continue }
            guard !isFull, count < limit else {
                isCut = true
                continue
            }
            var shown = String(line) ?? ""
            let room = mostText - text.utf8.count
            if shown.utf8.count > room {
                isFull = true
                isCut = true
                // Whole lines only, unless there is no other line.
                guard count == 0 else { continue }
                shown = utf8Prefix(shown, room)
            }
            count += 1
            text += (numbered ? Self.number(total) : "") + shown + "\n"
        }
    }

    /// The number of a line, and a tab.
    private static func number(_ line: Int) -> String {
        let digits = "\(line)"
        return String(repeating: " ", count: max(0, 6 - digits.utf8.count)) + digits + "\t"
    }
}

/// `file_list`
struct FileListTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_list",
        description: "Lists a directory (at most 500 entries, by name), or tells the kind and size of a file.",
        input: FileTools.input(["path": FileTools.path("The directory or file.")], required: ["path"]),
        effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.fileRead])

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let path = try input.required("path")
        let files = try context.agentFiles()
        return try await blocking {
            let listing = try files.list(path, limit: 500)
            var fields = [
                JSONValue.Field("path", .string("\(listing.path)")),
                JSONValue.Field("kind", .string(Self.word(listing.kind))),
            ]
            if listing.kind != .directory { fields.append(JSONValue.Field("size_bytes", .number(listing.size))) }
            let entries = listing.entries.map { entry -> JSONValue in
                [
                    "name": .string(entry.name), "kind": .string(Self.word(entry.kind)),
                    "size_bytes": .number(entry.size),
                ]
            }
            fields.append(JSONValue.Field("entries", .array(entries)))
            fields.append(JSONValue.Field("truncated", .bool(listing.isTruncated)))
            return ToolReply(.object(fields))
        }
    }

    private static func word(_ kind: FileType) -> String {
        switch kind {
        case .regular: "file"
        case .directory: "dir"
        case .symbolicLink: "symlink"
        default: "other"
        }
    }
}

/// `file_read_many`
struct FileReadManyTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_read_many",
        description: "Reads up to 16 text files at once. One that cannot be read has an error in its place.",
        input: FileTools.input(
            [
                "paths": [
                    "type": "array", "items": FileTools.path("A file."), "minItems": 1, "maxItems": 16,
                    "description": "The files; the answer is in this order.",
                ]
            ], required: ["paths"]),
        effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.fileRead], outputLimit: 4 << 20)

    /// How much text one answer holds, in bytes.
    private static let mostText = 1 << 20

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let paths = (input["paths"]?.elements ?? []).compactMap(\.text)
        let files = try context.agentFiles()
        let room = Self.mostText / max(1, paths.count)
        let entries = try await withThrowingTaskGroup(of: (Int, JSONValue, Bool).self) { group in
            for (index, path) in paths.enumerated() {
                group.addTask {
                    do { return (index, try await Self.read(path, files, room), true) } catch is CancellationError {
                        throw CancellationError()
                    } catch { return (index, try Self.failure(path, error, context), false) }
                }
            }
            var all: [(Int, JSONValue, Bool)] = []
            for try await entry in group { all.append(entry) }
            return all.sorted { $0.0 < $1.0 }
        }
        return .batch(entries.map(\.1), failures: entries.count { !$0.2 }, named: "files")
    }

    private static func read(_ path: String, _ files: AgentFiles, _ room: Int) async throws -> JSONValue {
        try await blocking {
            let content = try files.read(path, limit: FileTools.largest)
            guard let text = String(validating: content.bytes, as: UTF8.self) else { throw AegisError.notText(path) }
            let isCut = text.utf8.count > room
            let shown = isCut ? utf8Prefix(text, room) : text
            return [
                "path": .string(path), "content": .string(shown), "size_bytes": .number(content.bytes.count),
                "truncated": .bool(isCut),
            ]
        }
    }

    /// One entry's failure. A refusal is recorded here, since the call as a whole may succeed.
    private static func failure(_ path: String, _ error: any Error, _ context: ToolContext) throws -> JSONValue {
        let shown: AegisError
        if let denial = error as? Denial {
            shown = denial.asAegisError
            try context.audit.record(
                context.event(
                    .toolRefused, ("tool", "file_read_many"), ("code", .string(shown.code)),
                    ("reason", .string(shown.message)), ("door", .string(context.door))))
        } else {
            shown = error as? AegisError ?? .failed("io-error", "\(error)")
        }
        return ["path": .string(path), "error": .string(shown.code), "reason": .string(shown.message)]
    }
}
