internal import AegisCapabilities
internal import AegisCore
internal import AegisFiles
internal import AegisIO
internal import AegisJSON
internal import AegisRegex

/// `grep`
struct GrepTool: Tool {
    let declaration = ToolDeclaration(
        name: "grep",
        description: "Finds lines in a file, or in all text files below a folder (not in .git). At most 200 lines.",
        input: FileTools.input(
            [
                "pattern": [
                    "type": "string", "minLength": 1, "description": "A regular expression (PCRE2), for one line.",
                ],
                "path": FileTools.path("The file or folder; /workspace."),
                "glob": [
                    "type": "string", "minLength": 1,
                    "description": "Which files: *.txt for names, src/**/*.txt for paths below the folder.",
                ],
                "case_insensitive": [
                    "type": "boolean", "description": "Whether upper and lower case are the same; false.",
                ],
                "literal": ["type": "boolean", "description": "Whether the pattern is plain text; false."],
                "max_results": [
                    "type": "integer", "minimum": 1, "maximum": 200, "description": "How many lines; 200.",
                ],
            ], required: ["pattern"]),
        effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.fileRead], timeLimit: .seconds(30))

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        var options: BoundedRegex.Options = .stoppable
        if input["case_insensitive"]?.flag ?? false { options.insert(.caseInsensitive) }
        if input["literal"]?.flag ?? false { options.insert(.literal) }
        let regex: BoundedRegex
        do { regex = try BoundedRegex(try input.required("pattern"), options: options) } catch let error as RegexError {
            throw AegisError(
                .usage, "pattern-invalid", "the pattern cannot be read: \(error)",
                hint: "set literal to look for plain text")
        }
        let path = input["path"]?.text ?? "/workspace"
        let filter = try input["glob"]?.text.map { try SearchPattern.filter($0) } ?? nil
        let most = Int(input["max_results"]?.integer ?? 200)
        let files = try context.agentFiles()
        let (lines, summary) = try await SearchPattern.untilCancelled { isOver in
            var bounds = SearchBounds()
            bounds.matches = most
            bounds.walk.isOver = isOver
            return try files.search(path, for: regex, in: filter, bounds: bounds)
        }
        let matches = lines.map { line -> JSONValue in
            ["path": .string("\(line.path)"), "line": .number(line.line), "text": .string(line.text)]
        }
        var fields = [
            JSONValue.Field("matches", .array(matches)), JSONValue.Field("count", .number(matches.count)),
            JSONValue.Field("files_searched", .number(summary.files)),
        ]
        fields += SearchPattern.leftOut(summary)
        return ToolReply(.object(fields))
    }
}

/// `glob`
struct GlobTool: Tool {
    let declaration = ToolDeclaration(
        name: "glob",
        description: "Finds files by name (not in .git). At most 500, by name.",
        input: FileTools.input(
            [
                "pattern": FileTools.path(
                    "* and ? within a name, ** for any folders, as in /workspace/**/*.py; a final /* is the whole tree."
                )
            ], required: ["pattern"]),
        effects: .reads, isIdempotent: true, isParallelSafe: true, resources: [.fileRead], timeLimit: .seconds(30))

    func call(_ input: JSONValue, _ context: ToolContext) async throws -> ToolReply {
        let pattern = try SearchPattern.absolute(try input.required("pattern"))
        let files = try context.agentFiles()
        let (paths, summary) = try await SearchPattern.untilCancelled { isOver in
            var bounds = WalkBounds()
            bounds.isOver = isOver
            return try files.glob(pattern, limit: 500, bounds: bounds)
        }
        let fields = [
            JSONValue.Field("paths", .array(paths.map { .string("\($0)") })),
            JSONValue.Field("count", .number(paths.count)),
        ]
        return ToolReply(.object(fields + SearchPattern.leftOut(summary)))
    }
}

/// What both have in common.
enum SearchPattern {
    /// A pattern as grants write it.
    static func absolute(_ text: String) throws(AegisError) -> PathPattern {
        let capability: Capability
        do throws(CapabilityError) { capability = try Capability(parsing: "file_read: \(text)") } catch {
            let near = error.nearest.map { $0.hasPrefix("file_read: ") ? String($0.dropFirst(11)) : $0 }
            throw AegisError(
                .usage, "pattern-invalid", "'\(Escaped.line(text, atMost: 200))' is no pattern: \(error.problem)",
                hint: near.map { "the nearest is \($0)" })
        }
        guard case .fileRead(let pattern) = capability else {
            throw AegisError(.usage, "pattern-invalid", "'\(Escaped.line(text, atMost: 200))' is no pattern")
        }
        return pattern
    }

    /// A pattern for files below the folder of a search: a name without a slash is looked for everywhere.
    static func filter(_ text: String) throws(AegisError) -> FileFilter {
        guard !text.hasPrefix("/") else { return .named(try absolute(text)) }
        return .below(try absolute((text.contains("/") ? "/" : "/**/") + text))
    }

    /// Threads of their own: a search may take all of its time, and what else blocks does not wait for it.
    private static let threads = BlockingPool(threads: 2, queueLimit: 4096)

    /// Runs a search that ends when its call is cancelled.
    static func untilCancelled<T: Sendable>(
        _ body: @escaping @Sendable (@escaping @Sendable () -> Bool) throws -> T
    ) async throws -> T {
        let result = try await blocking(on: threads, untilCancelled: body)
        // What was found until then is not all.
        try Task.checkCancellation()
        return result
    }

    /// What a search did not look at.
    static func leftOut(_ summary: WalkSummary) -> [JSONValue.Field] {
        var skipped: [JSONValue.Field] = []
        for (name, count) in [
            ("not_granted", summary.notGranted), ("binary", summary.binary), ("too_large", summary.tooLarge),
        ] where count > 0 { skipped.append(JSONValue.Field(name, .number(count))) }
        let truncated = JSONValue.Field("truncated", .bool(summary.isCut))
        return skipped.isEmpty ? [truncated] : [truncated, JSONValue.Field("skipped", .object(skipped))]
    }
}
