internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisJSON

/// `file_edit`
struct FileEditTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_edit",
        description: "Replaces a text in a file. The text must be there exactly once, unless replace_all is true.",
        input: FileTools.input(
            TextEdit.properties(with: [JSONValue.Field("path", FileTools.path("The file."))]),
            required: ["path", "old_string", "new_string"]),
        effects: .writes, resources: [.fileRead, .fileWrite])

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        try await TextEdit.run([try TextEdit(input)], input, context)
    }

    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        try await TextEdit.preview([try TextEdit(input)], input, context)
    }
}

/// `file_multi_edit`
struct FileMultiEditTool: Tool {
    let declaration = ToolDeclaration(
        name: "file_multi_edit",
        description: "Makes several replacements in one file, one after the other: all of them, or none.",
        input: FileTools.input(
            [
                "path": FileTools.path("The file."),
                "edits": [
                    "type": "array", "minItems": 1, "maxItems": 64,
                    "items": FileTools.input(TextEdit.properties(with: []), required: ["old_string", "new_string"]),
                    "description": "The replacements; each works on what the one before left.",
                ],
            ], required: ["path", "edits"]),
        effects: .writes, resources: [.fileRead, .fileWrite])

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        try await TextEdit.run(try edits(input), input, context)
    }

    func preview(_ input: JSONValue, _ context: ToolContext) async throws -> ApprovalPreview {
        try await TextEdit.preview(try edits(input), input, context)
    }

    private func edits(_ input: JSONValue) throws(AegisError) -> [TextEdit] {
        var edits: [TextEdit] = []
        for (index, edit) in (input["edits"]?.elements ?? []).enumerated() {
            edits.append(try TextEdit(edit, number: index + 1))
        }
        return edits
    }
}

/// One replacement in a text.
struct TextEdit: Sendable {
    let old: [UInt8]
    let new: [UInt8]
    let isEverywhere: Bool
    /// Which of several it is, from 1.
    let number: Int?

    /// The fields of a replacement in a schema.
    static func properties(with more: [JSONValue.Field]) -> JSONValue {
        .object(
            more + [
                JSONValue.Field(
                    "old_string", ["type": "string", "minLength": 1, "description": "The text to replace."]),
                JSONValue.Field("new_string", ["type": "string", "description": "What takes its place."]),
                JSONValue.Field(
                    "replace_all", ["type": "boolean", "description": "Whether every occurrence is replaced; false."]),
            ])
    }

    init(_ input: JSONValue, number: Int? = nil) throws(AegisError) {
        old = Array(try input.required("old_string").utf8)
        new = Array(try input.required("new_string").utf8)
        isEverywhere = input["replace_all"]?.flag ?? false
        self.number = number
        guard max(old.count, new.count) <= FileTools.longestEdit else {
            throw AegisError(
                .tooLarge, "content-too-large", "\(name)a text of an edit has at most \(FileTools.longestEdit) bytes")
        }
        guard old != new else { throw .usage("\(name)old_string and new_string are the same") }
        guard !old.isEmpty else { throw .usage("\(name)old_string is empty") }
    }

    private var name: String { number.map { "edit \($0): " } ?? "" }

    /// For each length of a beginning of `old`, the longest shorter one that is also its end.
    private var borders: [Int] {
        var borders = [0]
        borders.reserveCapacity(old.count)
        var length = 0
        for byte in old.dropFirst() {
            while length > 0, old[length] != byte { length = borders[length - 1] }
            if old[length] == byte { length += 1 }
            borders.append(length)
        }
        return borders
    }

    /// Where the text is found, one place after the other. No byte is gone back to, whatever the texts are (Knuth, Morris, Pratt).
    private func places(in text: [UInt8]) -> [Int] {
        let borders = borders
        var found: [Int] = []
        var length = 0
        for (index, byte) in text.enumerated() {
            while length > 0, old[length] != byte { length = borders[length - 1] }
            if old[length] == byte { length += 1 }
            if length == old.count {
                found.append(index + 1 - length)
                length = 0
            }
        }
        return found
    }

    /// Makes the replacement.
    func apply(to text: [UInt8], _ path: String) throws(AegisError) -> (text: [UInt8], count: Int) {
        let places = places(in: text)
        guard !places.isEmpty else {
            throw AegisError(
                .notFound, "edit-not-found", "\(name)old_string is not in '\(path)'", hint: nearMiss(in: text))
        }
        guard places.count == 1 || isEverywhere else {
            let lines = places.prefix(10).map { place in "\(text[..<place].count { $0 == 0x0a } + 1)" }
            throw AegisError(
                .conflict, "edit-ambiguous",
                "\(name)old_string is in '\(path)' \(places.count) times (lines \(lines.joined(separator: ", ")))",
                hint: "give more of the text around it, or set replace_all")
        }
        var out: [UInt8] = []
        out.reserveCapacity(text.count + places.count * max(0, new.count - old.count))
        var at = 0
        for place in places {
            out += text[at..<place]
            out += new
            at = place + old.count
        }
        return (out + text[at...], places.count)
    }

    /// The line that has the same words as the first that was looked for: most often only its white space differs.
    private func nearMiss(in text: [UInt8]) -> String {
        func words(_ line: ArraySlice<UInt8>) -> [UInt8] { line.filter { $0 != 0x20 && $0 != 0x09 && $0 != 0x0d } }
        let lines = old.split(separator: 0x0a)
        if let first = lines.first(where: { !words($0).isEmpty }) {
            let wanted = words(first)
            for (index, line) in text.split(separator: 0x0a, omittingEmptySubsequences: false).enumerated()
            where words(line) == wanted && !line.elementsEqual(first) {
                return "line \(index + 1) has the same words with other white space: read the file, and copy it exactly"
            }
        }
        return "read the file, and copy the text exactly"
    }

    // MARK: The tools' common part

    private static func apply(
        _ edits: [TextEdit], to old: [UInt8], _ path: String, _ isOver: () -> Bool
    ) throws -> ([UInt8], Int) {
        guard String(validating: old, as: UTF8.self) != nil else { throw AegisError.notText(path) }
        var text = old
        var count = 0
        for edit in edits {
            // Nothing is written yet.
            if isOver() { throw CancellationError() }
            let (next, times) = try edit.apply(to: text, path)
            guard next.count <= 4 * FileTools.largest else {
                throw AegisError(.tooLarge, "file-too-large", "'\(path)' would have more than 4 MiB")
            }
            text = next
            count += times
        }
        return (text, count)
    }

    static func run(_ edits: [TextEdit], _ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let path = try input.required("path")
        let files = try context.agentFiles()
        let confirm = FileFacts.confirm(context)
        return try await blocking { isOver in
            var count = 0
            let written = try files.edit(path, limit: FileTools.largest, confirm: confirm) { old in
                let (new, times) = try apply(edits, to: old, Escaped.line(path, atMost: 500), isOver)
                count = times
                return new
            }
            return ToolReply([
                "path": .string("\(written.path)"), "replacements": .number(count),
                "bytes_before": .number(written.sizeBefore ?? 0), "bytes_after": .number(written.size),
            ])
        }
    }

    static func preview(
        _ edits: [TextEdit], _ input: JSONValue, _ context: ToolContext
    ) async throws -> ApprovalPreview {
        let path = try input.required("path")
        let files = try context.agentFiles()
        return try await blocking { isOver in
            let (name, base) = try files.base(path, reading: true)
            return try FileFacts.preview(name, base) {
                try apply(edits, to: $0, Escaped.line(path, atMost: 500), isOver).0
            }
        }
    }
}
