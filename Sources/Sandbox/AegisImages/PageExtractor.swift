internal import AegisCore
package import AegisHTML
package import AegisIO

/// Makes readable text of pages, in a confined process of its own: the parser is C, and the pages are strangers'.
package struct PageExtractor: Sendable {
    /// The longest page in bytes.
    package static let pageLimit = 1 << 20
    /// The longest text in bytes.
    package static let textLimit = 1 << 20

    private let deadline: Duration
    private let helper: HelperProgram
    private let loop: EventLoop

    /// Makes one.
    ///
    /// - Parameters:
    ///   - helper: the program of the confined roles.
    ///   - deadline: how long one page may take.
    ///   - loop: runs its pipes.
    package init(helper: HelperProgram, deadline: Duration = .seconds(15), on loop: EventLoop) {
        self.deadline = deadline
        self.helper = helper
        self.loop = loop
    }

    /// Reads a page.
    ///
    /// - Parameters:
    ///   - html: the page, at most `pageLimit` bytes.
    ///   - address: where it came from.
    ///   - limit: bytes of the text, at most `textLimit`.
    /// - Returns: the text.
    /// - Throws: `page-unreadable` when the process could not be confined, ended by itself or took too long.
    package func extract(_ html: String, address: String, limit: Int) async throws -> PageText {
        let limit = min(max(limit, 1), Self.textLimit)
        var spec = helper.spec(["page", "\(limit)", address])
        spec.stdin = .pipe
        spec.stdout = .pipe
        let process = try await HelperProcess(spec, on: loop)
        do {
            let page = try await withDeadline(deadline, clock: loop.clock) {
                try await Self.exchange(process, Array(html.utf8.prefix(Self.pageLimit)), limit)
            }
            return page
        } catch {
            await process.end()
            if error is CancellationError { throw error }
            throw (error as? AegisError) ?? Self.unreadable("\(error)")
        }
    }

    private static func exchange(_ process: HelperProcess, _ page: [UInt8], _ limit: Int) async throws -> PageText {
        async let sent: Void = send(page, to: process)
        var buffer = ByteBuffer()
        var answer: [UInt8] = []
        while let output = process.output, try await output.read(into: &buffer, atMost: 256 << 10) > 0 {
            answer += buffer.takeAll()
            guard answer.count <= limit + (8 << 10) else { throw unreadable("it gave more than it was asked for") }
        }
        try await sent
        let result = try await process.finish()
        guard result.done != nil else { throw unreadable(result.failure?.message ?? "\(result.status)") }
        return try read(answer)
    }

    private static func send(_ page: [UInt8], to process: HelperProcess) async throws {
        guard let input = process.input else { return }
        try await input.write(page[...])
        input.close()
    }

    /// What the process wrote: whether the text was cut, the title on a line, the text. It is not believed to be more than text.
    private static func read(_ answer: [UInt8]) throws(AegisError) -> PageText {
        guard let flag = answer.first, let end = answer.firstIndex(of: 10) else { throw unreadable("it gave nothing") }
        return PageText(
            title: String(decoding: answer[1..<end], as: UTF8.self),
            text: String(decoding: answer[(end + 1)...], as: UTF8.self), isTruncated: flag == UInt8(ascii: "+"))
    }

    private static func unreadable(_ why: String) -> AegisError {
        .failed(
            "page-unreadable", "the page's text cannot be made out: \(why)", hint: "fetch its source with raw: true")
    }
}
