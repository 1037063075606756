internal import CXml2

/// Turns a page into events, one element after the other: no tree is made, so that depth costs nothing.
enum HTMLEvents {
    /// libxml2's tables, made once.
    private static let isReady: Bool = {
        xmlInitParser()
        return true
    }()

    /// Reads a page.
    static func read(_ html: String, into writer: PageWriter) {
        guard isReady, let parser = unsafe htmlNewParserCtxt() else { return }
        defer { unsafe htmlFreeParserCtxt(parser) }
        var handler = unsafe htmlSAXHandler()
        unsafe handler.startElement = { context, name, attributes in
            guard let writer = unsafe HTMLEvents.writer(context), let name = unsafe name else { return }
            unsafe writer.open(String(cString: name), HTMLEvents.attributes(attributes))
        }
        unsafe handler.endElement = { context, name in
            guard let writer = unsafe HTMLEvents.writer(context), let name = unsafe name else { return }
            unsafe writer.close(String(cString: name))
        }
        unsafe handler.characters = { context, text, count in unsafe HTMLEvents.text(context, text, count) }
        unsafe handler.ignorableWhitespace = { context, text, count in
            unsafe HTMLEvents.text(context, text, count)
        }
        // SAFETY: the parser has a table of its own, and `writer` outlives the call below.
        unsafe parser.pointee.sax.pointee = unsafe handler
        unsafe parser.pointee.userData = unsafe Unmanaged.passUnretained(writer).toOpaque()
        let options =
            Int32(HTML_PARSE_RECOVER.rawValue) | Int32(HTML_PARSE_NOERROR.rawValue)
            | Int32(HTML_PARSE_NOWARNING.rawValue) | Int32(HTML_PARSE_NONET.rawValue)
        // A zero would end the page for libxml2.
        let bytes = html.utf8.map { CChar(bitPattern: $0 == 0 ? 0x20 : $0) }
        let document = unsafe bytes.withUnsafeBufferPointer { bytes in
            unsafe htmlCtxtReadMemory(
                parser, bytes.baseAddress, Int32(clamping: bytes.count), nil, "UTF-8", options)
        }
        if let document = unsafe document { unsafe xmlFreeDoc(document) }
    }

    private static func writer(_ context: UnsafeMutableRawPointer?) -> PageWriter? {
        unsafe context.map { unsafe Unmanaged<PageWriter>.fromOpaque($0).takeUnretainedValue() }
    }

    private static func text(_ context: UnsafeMutableRawPointer?, _ text: UnsafePointer<xmlChar>?, _ count: Int32) {
        guard let writer = unsafe writer(context), let text = unsafe text, count > 0 else { return }
        // SAFETY: libxml2 gives `count` bytes.
        unsafe writer.text(String(decoding: UnsafeBufferPointer(start: text, count: Int(count)), as: UTF8.self))
    }

    /// A list of names and values, ended by nil; a value may be missing.
    private static func attributes(
        _ list: UnsafeMutablePointer<UnsafePointer<xmlChar>?>?
    ) -> [(name: String, value: String)] {
        guard let list = unsafe list else { return [] }
        var found: [(name: String, value: String)] = []
        var index = 0
        while let name = unsafe list[index], found.count < 100 {
            let value = unsafe list[index + 1].map { unsafe String(cString: $0) } ?? ""
            unsafe found.append((String(cString: name), value))
            index += 2
        }
        return found
    }
}
