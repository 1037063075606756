/// What a person would read of a page, as plain text with the marks of Markdown.
package struct PageText: Sendable, Equatable {
    /// The page's title; empty when it has none.
    package var title: String
    /// Headings with `#`, lists with `-` or numbers, code between backquotes, links as `[text](address)`.
    package var text: String
    /// Whether the page goes on.
    package var isTruncated: Bool

    /// Makes a text.
    package init(title: String, text: String, isTruncated: Bool) {
        self.title = title
        self.text = text
        self.isTruncated = isTruncated
    }

    /// Reads a page. Any text is a page: what is broken is read as browsers do.
    ///
    /// The parser is libxml2's: whoever reads what strangers have written does it in a process that can do nothing else.
    ///
    /// - Parameters:
    ///   - html: the page.
    ///   - address: where it came from, for links that name only a part of theirs.
    ///   - limit: bytes of the text.
    package init(html: String, address: String, limit: Int) {
        let writer = PageWriter(address: address, limit: limit)
        HTMLEvents.read(html, into: writer)
        self = writer.finish()
    }
}
