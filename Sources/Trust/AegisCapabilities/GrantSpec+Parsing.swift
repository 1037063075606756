import AegisCore

/// One key of a grant in a document, with its value as text.
package struct GrantField: Sendable, Equatable {
    /// A value of the document.
    package enum Value: Sendable, Equatable {
        case text(String)
        case list([String])
    }
    /// The key.
    package var key: String
    /// Its value.
    package var value: Value

    /// Makes a field.
    package init(_ key: String, _ value: Value) {
        self.key = key
        self.value = value
    }
}

extension GrantSpec {
    /// Reads a grant: a capability alone, or a map of it and its limits in braces.
    ///
    /// - Throws: where it cannot be read, and the nearest that can.
    package init(parsing text: String) throws(CapabilityError) {
        guard text.utf8.drop(while: { $0 == 0x20 }).first == UInt8(ascii: "{") else {
            self.init(try Capability(parsing: text))
            return
        }
        let entries: [FlowMap.Entry]
        do { entries = try FlowMap.read(text) } catch { throw error.within(text, at: 0) }
        do { try self.init(fields: entries.map { GrantField($0.key, .text($0.value)) }) } catch {
            // The place in the map is the place of the value in it.
            var error = error
            let entry = entries.first { $0.key == error.field }
            error.text = text
            error.field = nil
            if let entry { error.column += entry.column - 1 }
            throw error
        }
    }

    /// Reads a grant from the fields of a document: `grant` with limits, or one kind of capability as the only key (what
    /// YAML makes of `- tool: web_fetch` without quotes).
    ///
    /// - Throws: in which field it cannot be read, and the nearest grant that can.
    package init(fields: [GrantField]) throws(CapabilityError) {
        if fields.count == 1, fields[0].key != "grant" {
            self.init(try Self.single(fields[0]))
            return
        }
        var seen: Set<String> = []
        for field in fields where !seen.insert(field.key).inserted {
            throw Self.wrong(field, "'\(shown(field.key))' is there twice", nil)
        }
        guard let grant = fields.first(where: { $0.key == "grant" }) else {
            throw CapabilityError(
                text: shown(fields.map(\.key).joined(separator: ", ")), column: 1, field: nil,
                problem: "the key 'grant' is missing", nearest: "{grant: \"tool: web_fetch\", max_calls: 20}")
        }
        guard case .text(let text) = grant.value else {
            throw Self.wrong(grant, "a grant is text: 'KIND: RESOURCE'", nil)
        }
        do { self.init(try Capability(parsing: text)) } catch {
            throw CapabilityError(
                text: error.text, column: error.column, field: "grant", problem: error.problem, nearest: error.nearest)
        }
        for field in fields where field.key != "grant" { try read(field) }
    }

    private static func single(_ field: GrantField) throws(CapabilityError) -> Capability {
        let text =
            switch field.value {
            case .text(let value): "\(field.key): \(value)"
            case .list(let values): "\(field.key): [\(values.joined(separator: ", "))]"
            }
        return try Capability(parsing: text)
    }

    private mutating func read(_ field: GrantField) throws(CapabilityError) {
        guard let limit = LimitField(rawValue: field.key) else {
            let near = nearest(field.key, in: LimitField.allCases.map(\.rawValue)).flatMap(LimitField.init(rawValue:))
            throw Self.wrong(
                field, "'\(shown(field.key))' is not a key of a grant", near.flatMap { with($0, field.value) })
        }
        guard limit.kinds.contains(capability.kind) else {
            throw Self.wrong(
                field, "'\(limit.rawValue)' is not counted for '\(capability.kind.rawValue)'", description)
        }
        guard case .text(let text) = field.value else {
            throw Self.wrong(field, "'\(limit.rawValue)' is one value", with(limit, .text(limit.example)))
        }
        do { try limit.set(text, in: &self) } catch {
            throw error.within(text, at: 0, field: field.key).replacingNearest(
                with: error.nearest.flatMap { with(limit, .text($0)) })
        }
    }

    /// The same grant with one more limit, as text; nil when that cannot be.
    private func with(_ limit: LimitField, _ value: GrantField.Value) -> String? {
        var copy = self
        guard limit.kinds.contains(capability.kind) else { return nil }
        guard case .text(let text) = value, (try? limit.set(text, in: &copy)) != nil else {
            return (try? limit.set(limit.example, in: &copy)).map { copy.description }
        }
        return copy.description
    }

    private static func wrong(_ field: GrantField, _ problem: String, _ nearest: String?) -> CapabilityError {
        let text =
            switch field.value {
            case .text(let text): text
            case .list(let list): "[\(list.joined(separator: ", "))]"
            }
        return CapabilityError(text: text, column: 1, field: field.key, problem: problem, nearest: nearest)
    }
}

extension CapabilityError {
    func replacingNearest(with nearest: String?) -> CapabilityError {
        var copy = self
        copy.nearest = nearest
        return copy
    }
}

/// The small part of YAML's flow maps that grants are written in: `{key: plain, key: "quoted"}`.
private struct FlowMap {
    struct Entry {
        var key: String
        var value: String
        /// Where the value's text starts, in characters from 1.
        var column: Int
    }

    private let text: [Character]
    private var at = 0

    static func read(_ text: String) throws(ValueProblem) -> [Entry] {
        var map = FlowMap(text: Array(text))
        return try map.entries()
    }

    private init(text: [Character]) { self.text = text }

    private func problem(_ what: String) -> ValueProblem {
        ValueProblem(String(text[..<min(at, text.count)]).utf8.count, what)
    }
    private mutating func skipSpaces() { while at < text.count, text[at] == " " { at += 1 } }
    private mutating func take(_ character: Character) -> Bool {
        skipSpaces()
        guard at < text.count, text[at] == character else { return false }
        at += 1
        return true
    }

    private mutating func entries() throws(ValueProblem) -> [Entry] {
        guard text.count <= 8192 else { throw ValueProblem(0, "a grant has at most 8192 characters") }
        _ = take("{")
        var entries: [Entry] = []
        repeat {
            skipSpaces()
            let start = at
            while at < text.count, text[at].isASCII, text[at].isLetter || text[at] == "_" { at += 1 }
            guard at > start else {
                throw problem("here comes a key, as in {grant: \"tool: web_fetch\", max_calls: 20}")
            }
            let key = String(text[start..<at])
            guard take(":") else { throw problem("after '\(key)' comes ':'") }
            skipSpaces()
            let isQuoted = at < text.count && (text[at] == "\"" || text[at] == "'")
            let column = at + (isQuoted ? 2 : 1)
            entries.append(Entry(key: key, value: isQuoted ? try quoted() : try plain(), column: column))
        } while take(",")
        guard take("}") else { throw problem("here comes ',' or '}'; a value with ',' stands in quotes") }
        skipSpaces()
        guard at == text.count else { throw problem("nothing comes after '}'") }
        return entries
    }

    private mutating func plain() throws(ValueProblem) -> String {
        let start = at
        while at < text.count, text[at] != ",", text[at] != "}" {
            guard text[at] != ":" else { throw problem("a value with ':' stands in quotes") }
            at += 1
        }
        return String(text[start..<at]).trimmingSpaces
    }

    private mutating func quoted() throws(ValueProblem) -> String {
        let quote = text[at]
        at += 1
        var value = ""
        while at < text.count {
            let character = text[at]
            at += 1
            if character == quote {
                // In single quotes, two stand for one.
                guard quote == "'", at < text.count, text[at] == "'" else { return value }
                value.append("'")
                at += 1
            } else if character == "\\", quote == "\"" {
                guard at < text.count, text[at] == "\\" || text[at] == "\"" else {
                    throw problem("after '\\' comes '\\' or '\"'")
                }
                value.append(text[at])
                at += 1
            } else {
                value.append(character)
            }
        }
        throw problem("the closing quote is missing")
    }
}
