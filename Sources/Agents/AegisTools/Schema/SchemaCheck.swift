internal import AegisCore
internal import AegisJSON
internal import AegisRegex

/// One check of a value against a schema.
struct SchemaCheck {
    /// How many problems are told.
    static let mostProblems = 8
    /// How deep values and schemas may nest.
    static let deepest = 128
    /// How many pairs of value and schema are looked at.
    static let mostSteps = 200_000

    let schema: JSONSchema
    private(set) var problems: [SchemaProblem] = []
    private var steps = 0
    /// When patterns have had their time, whoever wrote the schema; set by the first of them.
    private var end: SuspendingClock.Instant?
    /// What all patterns of a check may take together: they are matched on the thread that serves others, too.
    private static let longest = Duration.seconds(3)

    init(schema: JSONSchema) { self.schema = schema }

    private mutating func say(_ path: String, _ what: String) {
        if problems.count < Self.mostProblems { problems.append(SchemaProblem(path: path, what: what)) }
    }

    mutating func check(_ value: JSONValue, _ index: Int, at path: String, depth: Int) {
        steps += 1
        guard depth < Self.deepest, steps < Self.mostSteps else {
            if problems.last?.what != "too much to check" { say(path, "too much to check") }
            return
        }
        guard problems.count < Self.mostProblems else { return }
        let node = schema.nodes[index]
        if node.isNever { return say(path, "nothing may stand here") }
        if let types = node.types, !types.contains(where: { $0.fits(value) }) {
            return say(path, Self.mismatch(value, types))
        }
        if let values = node.values, !values.contains(where: { isSame($0, value) }) {
            say(path, Self.notOneOf(values, value))
        }
        switch value {
        case .string(let text): checkText(text, node, path)
        case .number(let text): checkNumber(text, node, path)
        case .array(let elements): checkList(elements, node, path, depth)
        case .object(let fields): checkObject(fields, node, path, depth)
        case .null, .bool: break
        }
        if let ref = node.ref { check(value, ref, at: path, depth: depth + 1) }
        for part in node.all { check(value, part, at: path, depth: depth + 1) }
        if !node.any.isEmpty { checkAny(value, node.any, path, depth) }
        if !node.one.isEmpty { checkOne(value, node.one, path, depth) }
        if let not = node.not, attempt(value, not, path, depth).isEmpty { say(path, "this form is not allowed") }
    }

    // MARK: Values

    private mutating func checkText(_ text: String, _ node: JSONSchema.Node, _ path: String) {
        if node.lengths.least != nil || node.lengths.most != nil {
            let count = text.unicodeScalars.count
            if let least = node.lengths.least, count < least {
                say(
                    path,
                    least == 1 ? "the text is empty" : "the text has \(count) characters, at least \(least) are needed")
            }
            if let most = node.lengths.most, count > most {
                say(path, "the text has \(count) characters, at most \(most) are allowed")
            }
        }
        guard let pattern = node.pattern else { return }
        do throws(RegexError) {
            if try !isFound(pattern, in: text) { say(path, "the text does not match the pattern \(node.patternText)") }
        } catch { say(path, "the text cannot be matched with the pattern \(node.patternText): \(error)") }
    }

    private mutating func isFound(_ pattern: BoundedRegex, in text: String) throws(RegexError) -> Bool {
        let end = end ?? .now + Self.longest
        self.end = end
        guard SuspendingClock().now < end else {
            throw RegexError(kind: .stopped, message: "this is too much to check", offset: nil)
        }
        var matcher = BoundedRegex.Matcher(pattern) { SuspendingClock().now >= end }
        return try matcher.first(in: Array(text.utf8)[...]) != nil
    }

    private mutating func checkNumber(_ text: String, _ node: JSONSchema.Node, _ path: String) {
        guard let number = JSONNumber(text) else { return say(path, "the number is too large") }
        if let least = node.minimum, number < least { say(path, "\(text) is less than \(least), the least allowed") }
        if let most = node.maximum, number > most { say(path, "\(text) is more than \(most), the most allowed") }
        if let above = node.above, number <= above { say(path, "\(text) is not above \(above)") }
        if let below = node.below, number >= below { say(path, "\(text) is not below \(below)") }
        if let step = node.multiple, !number.isMultiple(of: step) { say(path, "\(text) is not a multiple of \(step)") }
    }

    private mutating func checkList(
        _ elements: [JSONValue], _ node: JSONSchema.Node, _ path: String, _ depth: Int
    ) {
        say(path, elements.count, node.counts, "entries")
        for (index, element) in elements.enumerated() {
            let at = "\(path)/\(index)"
            if index < node.prefix.count {
                check(element, node.prefix[index], at: at, depth: depth + 1)
            } else if let items = node.items {
                check(element, items, at: at, depth: depth + 1)
            } else {
                break
            }
            if problems.count >= Self.mostProblems { return }
        }
        guard node.isUnique else { return }
        // Equal values have equal canonical texts, but for spellings of numbers: those are compared among themselves.
        var seen: Set<[UInt8]> = []
        for (index, element) in elements.enumerated() {
            let key = JSONNumber(element).map { Array("\($0)".utf8) } ?? element.canonical
            if !seen.insert(key).inserted { return say("\(path)/\(index)", "this entry is there twice") }
        }
    }

    private mutating func checkObject(
        _ fields: [JSONValue.Field], _ node: JSONSchema.Node, _ path: String, _ depth: Int
    ) {
        say(path, fields.count, node.members, "fields")
        var given: Set<String> = []
        for field in fields where !given.insert(field.name).inserted {
            say(path + "/" + Pointer.escape(field.name), "this field is there twice")
        }
        let missing = node.required.filter { !given.contains($0) }
        for name in missing { say(path, "the field '\(name)' is missing") }
        for field in fields {
            let at = path + "/" + Pointer.escape(field.name)
            let property = node.properties[field.name]
            if let property { check(field.value, property, at: at, depth: depth + 1) }
            let hasPattern = checkPatterns(field, node, at, depth)
            if property == nil, !hasPattern, !node.hasUnreadPatterns, let additional = node.additional {
                if schema.nodes[additional].isNever {
                    say(path, Self.unknown(field.name, node, given))
                } else {
                    check(field.value, additional, at: at, depth: depth + 1)
                }
            }
        }
    }

    /// Checks a field against what is said of names like its own.
    ///
    /// - Returns: whether anything is.
    private mutating func checkPatterns(
        _ field: JSONValue.Field, _ node: JSONSchema.Node, _ at: String, _ depth: Int
    ) -> Bool {
        var hasPattern = false
        for (name, index) in node.patterns {
            do throws(RegexError) {
                guard try isFound(name, in: field.name) else { continue }
            } catch { say(at, "the name cannot be matched with a pattern: \(error)") }
            hasPattern = true
            check(field.value, index, at: at, depth: depth + 1)
        }
        return hasPattern
    }

    private mutating func say(_ path: String, _ count: Int, _ bounds: JSONSchema.Bounds, _ what: String) {
        if let least = bounds.least, count < least { say(path, "\(count) \(what), at least \(least) are needed") }
        if let most = bounds.most, count > most { say(path, "\(count) \(what), at most \(most) are allowed") }
    }

    // MARK: Several schemas

    /// What would be wrong; nothing is told.
    private mutating func attempt(
        _ value: JSONValue, _ index: Int, _ path: String, _ depth: Int
    ) -> [SchemaProblem] {
        var trial = SchemaCheck(schema: schema)
        (trial.steps, trial.end) = (steps, end)
        trial.check(value, index, at: path, depth: depth + 1)
        (steps, end) = (trial.steps, trial.end)
        return trial.problems
    }

    private mutating func checkAny(_ value: JSONValue, _ choices: [Int], _ path: String, _ depth: Int) {
        var best: [SchemaProblem]?
        for choice in choices {
            let found = attempt(value, choice, path, depth)
            if found.isEmpty { return }
            best = Self.nearer(best, found)
        }
        tell(best, choices.count, path)
    }

    private mutating func checkOne(_ value: JSONValue, _ choices: [Int], _ path: String, _ depth: Int) {
        var best: [SchemaProblem]?
        var fitting = 0
        for choice in choices {
            let found = attempt(value, choice, path, depth)
            if found.isEmpty { fitting += 1 } else { best = Self.nearer(best, found) }
        }
        if fitting == 0 { tell(best, choices.count, path) }
        if fitting > 1 { say(path, "\(fitting) of \(choices.count) forms fit, exactly one must") }
    }

    /// The choice that got furthest into the value is what was meant, most likely.
    private static func nearer(_ best: [SchemaProblem]?, _ found: [SchemaProblem]) -> [SchemaProblem] {
        func depth(_ problems: [SchemaProblem]) -> Int { problems.map { $0.path.utf8.count { $0 == 0x2f } }.max() ?? 0 }
        guard let best else { return found }
        return (depth(found), -found.count) > (depth(best), -best.count) ? found : best
    }

    private mutating func tell(_ best: [SchemaProblem]?, _ count: Int, _ path: String) {
        let nearest =
            best?.first.map { ", the nearest because of \($0.path.isEmpty ? "this" : $0.path): \($0.what)" } ?? ""
        say(path, "none of the \(count) allowed forms fits\(nearest)")
    }

    // MARK: Words

    private static func mismatch(_ value: JSONValue, _ types: [JSONSchema.Kind]) -> String {
        let wanted = types.map(\.words).joined(separator: " or ")
        let found = JSONSchema.Kind.of(value).words
        guard case .string(let text) = value else { return "\(wanted) was expected, this is \(found)" }
        // The commonest mistake of models: right, but in quotes.
        let isNumber = types.contains(.integer) || types.contains(.number)
        let isPlain =
            isNumber && JSONNumber(text) != nil || types.contains(.boolean) && ["true", "false"].contains(text)
            || types.contains(.null) && text == "null"
        if isPlain { return "\(wanted) was expected, this is a string: write \(text) without quotes" }
        if types.contains(.array) || types.contains(.object), let first = text.utf8.first,
            first == 0x5b || first == 0x7b
        {
            return "\(wanted) was expected, this is a string: write the JSON itself, without quotes around it"
        }
        return "\(wanted) was expected, this is \(found)"
    }

    private static func notOneOf(_ values: [JSONValue], _ value: JSONValue) -> String {
        let all = values.prefix(20).map { String(decoding: $0.compact, as: UTF8.self) }.joined(separator: ", ")
        let near = value.text.flatMap { nearest($0, in: values.compactMap(\.text)) }
        let list =
            values.count == 1 ? "only \(all) is allowed" : "one of \(all)\(values.count > 20 ? ", …" : "") was expected"
        return list + (near.map { ", did you mean '\($0)'?" } ?? "")
    }

    private static func unknown(_ name: String, _ node: JSONSchema.Node, _ given: Set<String>) -> String {
        let shown = Escaped.line(name, atMost: 64)
        let free = node.names.filter { !given.contains($0) }
        if let near = nearest(name, in: free) { return "there is no field '\(shown)', did you mean '\(near)'?" }
        let known = node.names.prefix(20).joined(separator: ", ")
        return "there is no field '\(shown)'" + (known.isEmpty ? "" : "; there are: \(known)")
    }
}

extension JSONSchema.Kind {
    func fits(_ value: JSONValue) -> Bool {
        switch (self, value) {
        case (.null, .null), (.boolean, .bool), (.string, .string), (.array, .array), (.object, .object),
            (.number, .number):
            true
        case (.integer, .number(let text)): JSONNumber(text)?.isWhole ?? false
        default: false
        }
    }
    static func of(_ value: JSONValue) -> JSONSchema.Kind {
        switch value {
        case .null: .null
        case .bool: .boolean
        case .number: .number
        case .string: .string
        case .array: .array
        case .object: .object
        }
    }
}
