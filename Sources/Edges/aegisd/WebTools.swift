internal import AegisCore
internal import AegisHTML
internal import AegisHTTPClient
internal import AegisIO
internal import AegisImages
internal import AegisNetwork
internal import AegisTools
internal import LinuxSys

/// The tools that reach the web.
struct WebTools: Sendable {
    let all: [any Tool]

    /// Makes them: `web_search` only where a service is configured.
    ///
    /// - Throws: `search-provider-invalid`.
    init(_ http: HTTPClient, search: WebSearchSection, on loop: EventLoop) throws {
        let transport = HTTPWebTransport(http)
        let program = try Files.readLink("/proc/self/exe")
        let pages = ConfinedPages(extractor: PageExtractor(helper: HelperProgram(executable: program), on: loop))
        var tools: [any Tool] = [
            WebFetchTool(transport, pages: pages) { HostRoutes.place(of: $0) }
        ]
        if let provider = try search.makeProvider() { tools.append(WebSearchTool(transport, provider: provider)) }
        all = tools
    }
}

/// Pages are read where they can do no harm.
private struct ConfinedPages: PageReader {
    let extractor: PageExtractor

    func read(_ html: String, at address: String, limit: Int) async throws -> (
        title: String, text: String, isTruncated: Bool
    ) {
        let page = try await extractor.extract(html, address: address, limit: limit)
        return (page.title, page.text, page.isTruncated)
    }
}
