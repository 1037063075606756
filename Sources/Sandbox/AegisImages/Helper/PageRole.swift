import AegisHTML
import CLinux

/// `page LIMIT ADDRESS`: reads a page from standard input and writes its text to standard output.
enum PageRole {
    static func run(_ arguments: [String], _ output: ReportWriter) throws(HelperFailure) {
        guard arguments.count == 2, let limit = Int(arguments[0]), (1...PageExtractor.textLimit).contains(limit) else {
            throw HelperFailure("unpack-failed", "the role 'page' wants a limit and an address")
        }
        let limits = Confinement.Limits(memory: 1 << 30, processor: 10, fileSize: 16 << 20)
        _ = try Confinement.apply(directory: nil, limits: limits)
        let page = PageText(
            html: String(decoding: try readAll(), as: UTF8.self), address: arguments[1], limit: limit)
        let title = page.title.utf8.prefix(1000).map { $0 == 10 ? 0x20 : $0 }
        let bytes = [page.isTruncated ? UInt8(ascii: "+") : UInt8(ascii: "=")] + title + [10] + Array(page.text.utf8)
        try write(bytes)
        output.write(.done(digest: nil, bytes: Int64(bytes.count), entries: 0))
    }

    private static func write(_ bytes: [UInt8]) throws(HelperFailure) {
        var done = 0
        while done < bytes.count {
            // SAFETY: an array is handed over as a pointer to its elements, of which there are so many.
            let rest = Array(bytes[done...])
            done += try checked(unsafe al_tree_write(1, rest, rest.count), "writing the text of a page")
        }
    }

    private static func readAll() throws(HelperFailure) -> [UInt8] {
        var page: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while page.count <= PageExtractor.pageLimit {
            // SAFETY: fills at most so many bytes of the array.
            let count = try checked(unsafe al_tree_read(0, &piece, piece.count), "reading a page")
            guard count > 0 else { break }
            page += piece.prefix(Int(count))
        }
        return page
    }
}
