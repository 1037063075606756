internal import CYaml

/// Strict YAML: one document, no tags, no merge keys, no key twice.
package enum YAML {
    /// Parses a text into values with their places.
    ///
    /// Anchors and aliases work; what they expand to counts against the limits, so a small file cannot become a large one.
    ///
    /// - Parameters:
    ///   - bytes: the text in UTF-8.
    ///   - file: the name that the marks carry.
    ///   - limits: what it may cost.
    ///   - quotesValues: whether messages may show what stands in the place of values.
    /// - Returns: the document, or nil when the text holds none.
    /// - Throws: all problems of the structure, or the one at which the text stops to be YAML.
    package static func parse(
        _ bytes: [UInt8], file: String, limits: YAMLLimits = YAMLLimits(), quotesValues: Bool = true
    ) throws(ConfigErrors) -> ConfigNode? {
        let start = SourceMark(file: file, line: 1, column: 1)
        guard bytes.count <= limits.bytes else {
            throw ConfigErrors([
                ConfigProblem(
                    origin: .file(start), message: "the file has \(bytes.count) bytes; at most \(limits.bytes) are read"
                )
            ])
        }
        // SAFETY: the parser points into `bytes` and is freed before this closure ends.
        let result: Result<ConfigNode?, ConfigErrors> = unsafe bytes.withUnsafeBufferPointer { text in
            guard let parser = unsafe al_yaml_new(text.baseAddress, text.count) else {
                return .failure(ConfigErrors([ConfigProblem(origin: .file(start), message: "out of memory")]))
            }
            defer { unsafe al_yaml_free(parser) }
            var builder = unsafe YAMLBuilder(
                parser: parser, bytes: bytes, file: file, limits: limits, quotesValues: quotesValues)
            do throws(ConfigProblem) {
                let node = try builder.document()
                return builder.problems.isEmpty ? .success(node) : .failure(ConfigErrors(builder.problems))
            } catch {
                return .failure(ConfigErrors(builder.problems + [error]))
            }
        }
        return try result.get()
    }
}

extension ConfigProblem: Error {}

/// Builds values from libyaml's events.
@safe private struct YAMLBuilder {
    private let parser: UnsafeMutablePointer<al_yaml>
    private let bytes: [UInt8]
    private let file: String
    private let limits: YAMLLimits
    private let quotesValues: Bool
    private var anchors: [String: ConfigNode] = [:]
    private var values = 0
    /// What is wrong but does not keep the rest from being read.
    private(set) var problems: [ConfigProblem] = []

    init(
        parser: UnsafeMutablePointer<al_yaml>, bytes: [UInt8], file: String, limits: YAMLLimits, quotesValues: Bool
    ) {
        unsafe self.parser = unsafe parser
        self.bytes = bytes
        self.file = file
        self.limits = limits
        self.quotesValues = quotesValues
    }

    mutating func document() throws(ConfigProblem) -> ConfigNode? {
        _ = try next()  // the start of the stream
        guard try next() != YAML_STREAM_END_EVENT else { return nil }
        _ = try next()
        let root = try node(depth: 1)
        _ = try next()  // the end of the document
        guard try next() == YAML_STREAM_END_EVENT else {
            throw problem("a second document starts here; only one is read")
        }
        // A document without any text is a null scalar of libyaml's making.
        return root.isNull ? nil : root
    }

    private func next() throws(ConfigProblem) -> yaml_event_type_t {
        guard unsafe al_yaml_next(parser) == 1 else { throw syntaxProblem() }
        return unsafe al_yaml_type(parser)
    }

    private var mark: SourceMark {
        unsafe SourceMark(file: file, line: Int(al_yaml_line(parser)) + 1, column: Int(al_yaml_column(parser)) + 1)
    }
    private func problem(_ message: String) -> ConfigProblem { ConfigProblem(origin: .file(mark), message: message) }

    /// The value whose first event is the current one.
    private mutating func node(depth: Int) throws(ConfigProblem) -> ConfigNode {
        guard depth <= limits.depth else { throw problem("more than \(limits.depth) lists and maps in each other") }
        let start = mark
        let type = unsafe al_yaml_type(parser)
        let anchor = unsafe al_yaml_anchor(parser).map { unsafe String(cString: $0) }
        if type == YAML_ALIAS_EVENT {
            let name = anchor ?? ""
            guard let node = anchors[name] else {
                let words = quotesValues ? "alias '*\(name)' has no anchor '&\(name)'" : "an alias has no anchor"
                throw problem("\(words) before it")
            }
            try count(node.size)
            // What the alias stands for keeps the marks of the place where it was written.
            return node
        }
        if let tag = unsafe al_yaml_tag(parser).map({ unsafe String(cString: $0) }) {
            let words = quotesValues ? "the tag '\(tag)'" : "a tag"
            problems.append(problem("\(words) is not allowed; write the value alone"))
        }
        try count(1)
        let node: ConfigNode
        switch type {
        case YAML_SCALAR_EVENT: node = ConfigNode(.scalar(text, plain: unsafe al_yaml_is_plain(parser) == 1), at: start)
        case YAML_SEQUENCE_START_EVENT: node = ConfigNode(.list(try list(depth: depth)), at: start)
        case YAML_MAPPING_START_EVENT: node = ConfigNode(.map(try map(depth: depth)), at: start)
        default: throw problem("a value is missing")
        }
        if let anchor { anchors[anchor] = node }
        return node
    }

    private mutating func list(depth: Int) throws(ConfigProblem) -> [ConfigNode] {
        var items: [ConfigNode] = []
        while try next() != YAML_SEQUENCE_END_EVENT { items.append(try node(depth: depth + 1)) }
        return items
    }

    private mutating func map(depth: Int) throws(ConfigProblem) -> [ConfigNode.Entry] {
        var entries: [ConfigNode.Entry] = []
        var seen: [String: SourceMark] = [:]
        while try next() != YAML_MAPPING_END_EVENT {
            let keyMark = mark
            let keyNode = try node(depth: depth + 1)
            guard case .scalar(let key, let plain) = keyNode.content else {
                throw ConfigProblem(origin: .file(keyMark), message: "a key must be a text, not a list or a map")
            }
            if key == "<<", plain {
                problems.append(
                    ConfigProblem(
                        origin: .file(keyMark),
                        message: "merge keys ('<<') are not supported; repeat the keys, or use an alias as a value"
                    ))
            }
            _ = try next()
            let value = try node(depth: depth + 1)
            if let first = seen[key] {
                problems.append(
                    ConfigProblem(
                        origin: .file(keyMark), message: "key '\(key)' is there twice; first in line \(first.line)"))
            } else {
                seen[key] = keyMark
                entries.append(ConfigNode.Entry(key: key, mark: keyMark, value: value))
            }
        }
        return entries
    }

    private mutating func count(_ more: Int) throws(ConfigProblem) {
        values += more
        guard values <= limits.values else {
            throw problem("more than \(limits.values) values (aliases count as what they stand for)")
        }
    }

    private var text: String {
        guard let start = unsafe al_yaml_text(parser) else { return "" }
        return unsafe String(
            decoding: UnsafeBufferPointer(start: start, count: al_yaml_text_count(parser)), as: UTF8.self)
    }

    /// Why the parser stopped. libyaml's words are kept; the two causes that people meet most are said in ours.
    private func syntaxProblem() -> ConfigProblem {
        let words = unsafe al_yaml_problem(parser).map { unsafe String(cString: $0) } ?? "it cannot be read"
        if unsafe al_yaml_is_reader_error(parser) == 1 {
            // Positions of the reader are those of its buffer's end: count lines up to the bad byte instead.
            let before = bytes.prefix(unsafe al_yaml_problem_offset(parser))
            let line = before.reduce(1) { $1 == 0x0a ? $0 + 1 : $0 }
            let column = String(decoding: before.suffix(while: { $0 != 0x0a }), as: UTF8.self).unicodeScalars.count + 1
            return ConfigProblem(
                origin: .file(SourceMark(file: file, line: line, column: column)),
                message: "the file is not UTF-8 text: \(words)")
        }
        let line = unsafe Int(al_yaml_problem_line(parser))
        let column = unsafe Int(al_yaml_problem_column(parser))
        let place = ConfigOrigin.file(SourceMark(file: file, line: line + 1, column: column + 1))
        let lines = bytes.split(separator: 0x0a, maxSplits: line + 1, omittingEmptySubsequences: false)
        if line < lines.count, lines[line].drop(while: { $0 == 0x20 }).first == 0x09 {
            return ConfigProblem(origin: place, message: "not valid YAML: a tab cannot indent; use spaces")
        }
        let context = unsafe al_yaml_context(parser).map { unsafe " \(String(cString: $0))" } ?? ""
        return ConfigProblem(origin: place, message: "not valid YAML: \(words)\(context)")
    }
}

extension Collection where Element == UInt8, Self: BidirectionalCollection {
    /// The longest end of which every byte passes.
    func suffix(while passes: (UInt8) -> Bool) -> SubSequence {
        var start = endIndex
        while start > startIndex, passes(self[index(before: start)]) { start = index(before: start) }
        return self[start...]
    }
}
