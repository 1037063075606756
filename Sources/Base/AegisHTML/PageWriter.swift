/// Makes text of the elements of a page as they come. A machine without I/O; what is beyond its limit is left out.
final class PageWriter {
    /// A list that is under way: the number of its next item, or nil for one without numbers.
    private struct List { var next: Int? }
    private struct Link {
        var address: String
        /// Whether its text has begun, and its address is still to come.
        var isOpen = false
    }
    private enum Gap: Int { case none, line, block }

    private let limit: Int
    private var base: PageLink?
    private var title = ""
    private var out = ""
    private var isFull = false
    /// The block that is being written.
    private var line = ""
    private var prefix = ""
    private var gap = Gap.none
    private var lists: [List] = []
    private var links: [Link] = []
    /// How deep it is in elements that are not shown, in `pre`, in `blockquote`.
    private var hidden = 0
    private var code = 0
    private var quotes = 0
    private var isInTitle = false
    private var isInHead = false
    private var cells = 0

    /// Deeper lists are not moved further in.
    private static let deepest = 8
    private static let dropped: Set<String> = [
        "script", "style", "template", "svg", "math", "canvas", "iframe", "frame", "object", "embed", "audio", "video",
        "select", "textarea", "noframes", "map", "datalist",
    ]
    private static let blocks: Set<String> = [
        "address", "article", "aside", "body", "center", "dd", "details", "dialog", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "footer", "form", "header", "html", "legend", "main", "nav", "section", "summary",
        "tbody", "tfoot", "thead", "caption", "option",
    ]

    init(address: String, limit: Int) {
        self.limit = limit
        base = PageLink(address)
    }

    // MARK: Events

    func open(_ name: String, _ attributes: [(name: String, value: String)]) {
        guard hidden == 0, !Self.dropped.contains(name), !Self.isHidden(attributes) else {
            hidden += 1
            return
        }
        func value(_ wanted: String) -> String? { attributes.first { $0.name == wanted }?.value }
        switch name {
        case "head": isInHead = true
        case "title": isInTitle = title.isEmpty && isInHead || title.isEmpty && out.isEmpty
        case "base": if let address = value("href").flatMap({ resolve($0) }) { base = PageLink(address) ?? base }
        case "a": links.append(Link(address: value("href").flatMap { resolve($0) } ?? ""))
        case "img":
            let text = Self.plain(value("alt") ?? "")
            if text.contains(where: { !$0.isWhitespace }) { self.text(" [image: \(text)] ") }
        case "br": code > 0 ? line.append("\n") : end(.line)
        case "hr":
            end(.block)
            line = "---"
            end(.block)
        case "code", "kbd", "samp", "tt": if code == 0 { mark("`") }
        case "td", "th":
            if cells > 0 { mark(" | ") }
            cells += 1
        default: openBlock(name, value("start"))
        }
    }

    private func openBlock(_ name: String, _ start: String?) {
        switch name {
        case "h1", "h2", "h3", "h4", "h5", "h6":
            end(.block)
            prefix = String(repeating: "#", count: Int(name.suffix(1)) ?? 1) + " "
        case "p", "table": end(.block)
        case "ul", "menu": begin(List(next: nil))
        case "ol": begin(List(next: start.flatMap { Int($0) } ?? 1))
        case "li": item()
        case "tr":
            end(.line)
            cells = 0
        case "pre", "listing", "xmp":
            end(.block)
            code += 1
        case "blockquote":
            end(.block)
            quotes += 1
        default: if Self.blocks.contains(name) { end(.line) }
        }
    }

    func close(_ name: String) {
        guard hidden == 0 else {
            hidden -= 1
            return
        }
        switch name {
        case "head": isInHead = false
        case "title": isInTitle = false
        case "a":
            endLink()
            _ = links.popLast()
        case "code", "kbd", "samp", "tt": if code == 0 { mark("`") }
        case "h1", "h2", "h3", "h4", "h5", "h6", "p", "table": end(.block)
        case "ul", "menu", "ol":
            end(lists.count > 1 ? .line : .block)
            _ = lists.popLast()
        case "li", "tr": end(.line)
        case "pre", "listing", "xmp":
            end(.block)
            code = max(0, code - 1)
        case "blockquote":
            end(.block)
            quotes = max(0, quotes - 1)
        default: if Self.blocks.contains(name) { end(.line) }
        }
    }

    func text(_ text: String) {
        guard hidden == 0 else { return }
        let text = Self.plain(text)
        if isInTitle {
            if title.utf8.count < 1000 { title += text }
            return
        }
        guard !isInHead, !isFull else { return }
        if code > 0 {
            line += text
        } else {
            for character in text {
                guard character.isWhitespace else {
                    beginLink()
                    line.append(character)
                    continue
                }
                if !line.isEmpty, line.last != " ", line.last != "[" { line.append(" ") }
            }
        }
        // One endless paragraph is no reason to keep all of it.
        if line.utf8.count > limit { end(.line) }
    }

    /// What there is now; the rest of a page that ends in the middle is taken as it is.
    func finish() -> PageText {
        end(.block)
        let words = title.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return PageText(title: words, text: out.isEmpty ? "" : out + "\n", isTruncated: isFull)
    }

    // MARK: Blocks

    private func begin(_ list: List) {
        end(lists.isEmpty ? .block : .line)
        lists.append(list)
    }

    private func item() {
        end(.line)
        let depth = max(0, min(lists.count, Self.deepest) - 1)
        let indent = String(repeating: "  ", count: depth)
        guard let last = lists.indices.last, let number = lists[last].next else {
            prefix = indent + "- "
            return
        }
        lists[last].next = number &+ 1
        prefix = indent + "\(number). "
    }

    /// Ends the block that is being written; what comes is at least so far from it.
    private func end(_ distance: Gap) {
        endLink()
        let text = code > 0 ? line : Self.trimmed(line)
        line = ""
        // A mark without a text is none; but an item's text may come in a block of its own.
        if text.contains(where: { !$0.isWhitespace && $0 != "`" && $0 != "|" }) { write(text) }
        if distance == .block { prefix = "" }
        gap = distance.rawValue > gap.rawValue ? distance : gap
    }

    private func write(_ text: String) {
        guard !isFull else { return }
        var block = code > 0 ? Self.fenced(text) : prefix + text
        prefix = ""
        if quotes > 0 {
            let mark = String(repeating: "> ", count: min(quotes, Self.deepest))
            block = block.split(separator: "\n", omittingEmptySubsequences: false).map { mark + $0 }
                .joined(separator: "\n")
        }
        if !out.isEmpty { out += gap == .block ? "\n\n" : "\n" }
        gap = .none
        let room = limit - out.utf8.count
        guard block.utf8.count > room else {
            out += block
            return
        }
        isFull = true
        var end = block.utf8.index(block.utf8.startIndex, offsetBy: max(0, room))
        while end > block.startIndex, String.Index(end, within: block) == nil { end = block.utf8.index(before: end) }
        out += block[..<end]
    }

    /// A fence that is longer than any inside.
    private static func fenced(_ text: String) -> String {
        var longest = 2
        var here = 0
        for byte in text.utf8 {
            here = byte == UInt8(ascii: "`") ? here + 1 : 0
            longest = max(longest, here)
        }
        let fence = String(repeating: "`", count: min(longest + 1, 100))
        let inner = text.drop { $0 == "\n" || $0 == "\r\n" }
        return fence + "\n" + inner + (inner.hasSuffix("\n") ? "" : "\n") + fence
    }

    // MARK: Inside a block

    private func mark(_ text: String) {
        guard !isInHead, !isInTitle else { return }
        if text == "`" { beginLink() }
        line += text
    }

    private func beginLink() {
        guard let last = links.indices.last, !links[last].isOpen, !links[last].address.isEmpty else { return }
        links[last].isOpen = true
        line += "["
    }

    /// A link's text ends with its block; the rest of it is text without an address.
    private func endLink() {
        guard let last = links.indices.last, links[last].isOpen else { return }
        while line.last == " " { line.removeLast() }
        line += "](\(links[last].address))"
        links[last] = Link(address: "")
    }

    private func resolve(_ reference: String) -> String? { base?.resolve(reference) }

    // MARK: Texts

    private static func isHidden(_ attributes: [(name: String, value: String)]) -> Bool {
        attributes.contains { name, value in
            switch name {
            case "hidden": return true
            case "aria-hidden": return value.lowercased() == "true"
            case "style":
                let style = value.lowercased().filter { !$0.isWhitespace }
                return style.contains("display:none") || style.contains("visibility:hidden")
            default: return false
            }
        }
    }

    private static func trimmed(_ text: String) -> String {
        let start = text.drop(while: \.isWhitespace)
        return String(
            start[..<(start.lastIndex { !$0.isWhitespace }.map { start.index(after: $0) } ?? start.startIndex)])
    }

    /// Without characters that cannot be seen, by which a page could say to a model what it does not say to a person.
    private static func plain(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { $0 == "\r" || isInvisible($0) }) else { return text }
        var out = String.UnicodeScalarView()
        var last: Unicode.Scalar = " "
        for scalar in text.unicodeScalars {
            // A carriage return would let a terminal write over what stands before it; to browsers it ends a line.
            if scalar == "\r" { out.append("\n") }
            if scalar != "\r", scalar != "\n" || last != "\r", !isInvisible(scalar) { out.append(scalar) }
            last = scalar
        }
        return String(out)
    }

    private static func isInvisible(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x09, 0x0a, 0x0d, 0x20..<0x7f: false
        case 0..<0x20, 0x7f..<0xa0, 0xfff9...0xfffb: true
        // Joiners make one sign of several, and two selectors choose how a sign looks; the other ones can carry a text.
        case 0x200c, 0x200d, 0xfe0e, 0xfe0f: false
        default: scalar.properties.isDefaultIgnorableCodePoint
        }
    }
}
