extension ConfigReader {
    /// Reads a list of scalars; an override gives it as `a,b` or as `[a, b]`.
    package func readList<T: ConfigScalar>(
        _ key: String, of type: T.Type = T.self, default standard: [T] = [], aliases: [String] = [],
        variables: [String] = [], check: ((T) -> String?)? = nil
    ) -> [T] {
        guard let (node, origin) = lookup(key, aliases: aliases, variables: variables) else {
            enter(key, Self.shown(standard.map(\.configText)), .standard)
            return standard
        }
        guard let items = listItems(node, origin, name(key), of: T.expectation) else { return standard }
        let read = items.enumerated().compactMap { index, item in
            scalar(item, place(of: item, origin), "\(name(key))[\(index)]", as: T.self, check: check)
        }
        enter(key, Self.shown(read.map(\.shown)), origin)
        return read.map(\.value)
    }

    /// Reads a map whose keys the user chooses and whose values are scalars; an override gives it as `a=1,b=2`.
    ///
    /// - Parameters:
    ///   - key: the key's name.
    ///   - type: of the values.
    ///   - single: the key that a value without one belongs to, in an override; nil refuses such a value.
    ///   - standard: what holds when nothing sets the map; an empty one counts as set.
    ///   - check: says what is wrong with a key and its value, which is of the right type, or nil.
    /// - Returns: the entries in their order.
    package func readMap<T: ConfigScalar>(
        _ key: String, of type: T.Type = T.self, single: String? = nil,
        default standard: [(key: String, value: T)] = [],
        check: ((_ key: String, _ value: T) -> String?)? = nil
    ) -> [(key: String, value: T)] {
        guard let (node, origin) = lookup(key, aliases: [], variables: []), !node.isNull else {
            for (name, value) in standard { enter("\(key).\(name)", value.configText, .standard) }
            return standard
        }
        let entries: [ConfigNode.Entry]
        if case .map(let found) = node.content {
            entries = found
        } else if case .scalar(let text, _) = node.content, !origin.isFile {
            entries = pairs(text, single, node.mark, origin, key)
        } else {
            session.report(origin, "expected a map for \(name(key)), found \(session.found(node))")
            return []
        }
        return entries.compactMap { entry in
            let place = place(of: entry.value, origin)
            let value = scalar(entry.value, place, "\(name(key)).\(entry.key)", as: T.self)
            guard let value else { return nil }
            if let wrong = check?(entry.key, value.value) {
                session.report(place, "\(name(key)): \(session.told(wrong))")
                return nil
            }
            enter("\(key).\(entry.key)", value.shown, place)
            return (entry.key, value.value)
        }
    }

    /// The entries of a map that an override gives.
    private func pairs(
        _ text: String, _ single: String?, _ mark: SourceMark, _ origin: ConfigOrigin, _ key: String
    ) -> [ConfigNode.Entry] {
        text.split(separator: ",").compactMap { item in
            let item = String(item.drop { $0 == " " }.trimmingEnd())
            let cut = item.lastIndex(of: "=")
            guard let name = cut.map({ String(item[..<$0]) }) ?? single else {
                session.report(origin, "expected NAME=VALUE for \(self.name(key)), found \(session.found(item))")
                return nil
            }
            let value = cut.map { String(item[item.index(after: $0)...]) } ?? item
            return ConfigNode.Entry(key: name, mark: mark, value: ConfigNode(.scalar(value, plain: false), at: mark))
        }
    }

    /// Reads a map whose keys the user chooses and whose values are lists of scalars.
    package func readMapOfLists<T: ConfigScalar>(_ key: String, of type: T.Type = T.self) -> [(key: String, value: [T])]
    {
        freeEntries(key).compactMap { entry in
            let name = "\(name(key)).\(entry.key)"
            let origin = ConfigOrigin.file(entry.value.mark)
            guard let items = listItems(entry.value, origin, name, of: T.expectation) else { return nil }
            let read = items.enumerated().compactMap { index, item in
                scalar(item, place(of: item, origin), "\(name)[\(index)]", as: T.self)
            }
            enter("\(key).\(entry.key)", Self.shown(read.map(\.shown)), origin)
            return (entry.key, read.map(\.value))
        }
    }

    /// Reads a map with keys of its own; it is read even when the file has none, for defaults and overrides.
    package func section<T>(_ key: String, aliases: [String] = [], _ body: (ConfigReader) -> T) -> T {
        child(fileEntry(key, aliases: aliases)?.value, key, body)
    }

    /// Reads a map with keys of its own; nil when the file has none.
    package func sectionIfPresent<T>(_ key: String, aliases: [String] = [], _ body: (ConfigReader) -> T) -> T? {
        guard let entry = fileEntry(key, aliases: aliases), !entry.value.isNull else { return nil }
        return child(entry.value, key, body)
    }

    /// Reads a list of maps.
    package func sections<T>(_ key: String, aliases: [String] = [], _ body: (ConfigReader) -> T) -> [T] {
        guard let node = fileEntry(key, aliases: aliases)?.value, !node.isNull else { return [] }
        guard case .list(let items) = node.content else {
            session.report(.file(node.mark), "expected a list for \(name(key)), found \(session.found(node))")
            return []
        }
        return items.enumerated().map { index, item in child(item, "\(key)[\(index)]", body) }
    }

    /// Reads a map whose keys the user chooses and whose values are maps.
    package func namedSections<T>(_ key: String, _ body: (String, ConfigReader) -> T) -> [(key: String, value: T)] {
        freeEntries(key).map { entry in
            (entry.key, child(entry.value, "\(key).\(entry.key)") { body(entry.key, $0) })
        }
    }

    private func child<T>(_ node: ConfigNode?, _ key: String, _ body: (ConfigReader) -> T) -> T {
        let full = path.isEmpty ? key : "\(path).\(key)"
        let reader = ConfigReader(node, path: full, prefix: prefix, session: session)
        let result = body(reader)
        reader.finish()
        return result
    }

    private func freeEntries(_ key: String) -> [ConfigNode.Entry] {
        guard let node = fileEntry(key)?.value, !node.isNull else { return [] }
        guard case .map(let entries) = node.content else {
            session.report(.file(node.mark), "expected a map for \(name(key)), found \(session.found(node))")
            return []
        }
        return entries
    }

    /// The items of a list, wherever it was written; nil after a report.
    private func listItems(
        _ node: ConfigNode, _ origin: ConfigOrigin, _ name: String, of what: String
    ) -> [ConfigNode]? {
        if node.isNull { return [] }
        switch (node.content, origin) {
        case (.list(let items), _): return items
        case (.scalar(let text, _), .flag), (.scalar(let text, _), .environment):
            guard text.hasPrefix("[") else {
                return text.split(separator: ",").map { item in
                    let trimmed = item.drop { $0 == " " }.trimmingEnd()
                    return ConfigNode(.scalar(String(trimmed), plain: false), at: node.mark)
                }
            }
            do {
                if case .list(let items)? = try YAML.parse(Array(text.utf8), file: origin.description)?.content {
                    return items
                }
                session.report(origin, "expected a list for \(name), found \(session.found(text))")
            } catch {
                session.report(origin, "expected a list for \(name): \(error.problems[0].message)")
            }
            return nil
        default:
            session.report(origin, "expected a list for \(name) (each item \(what)), found \(session.found(node))")
            return nil
        }
    }

    private func place(of item: ConfigNode, _ origin: ConfigOrigin) -> ConfigOrigin {
        if case .file = origin { .file(item.mark) } else { origin }
    }

    private static func shown(_ items: [String]) -> String { "[\(items.joined(separator: ", "))]" }
}

extension Substring {
    func trimmingEnd() -> Substring {
        var rest = self
        while rest.last == " " { rest.removeLast() }
        return rest
    }
}
