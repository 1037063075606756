import AegisCore
import AegisHTML
import AegisIO
import AegisTestSupport
import Testing

@testable import AegisImages

/// Pages are read in the confined process, as in the product.
@Suite struct PageExtractorTests {
    private func with(_ body: @escaping @Sendable (PageExtractor) async throws -> Void) async throws {
        let helper = try helperProgram()
        try await onLoop { loop in
            // The product's deadline is for its optimised build on a machine that has room.
            try await body(PageExtractor(helper: helper, deadline: .seconds(300), on: loop))
        }
    }

    @Test func aPageIsReadInTheConfinedProcess() async throws {
        try await with { pages in
            let page = try await pages.extract(
                "<title>A\npage</title><h1>Héad</h1><p>Text and <a href='x'>link</a></p><script>bad()</script>",
                address: "https://a.example/b/", limit: 1000)
            #expect(
                page
                    == PageText(
                        title: "A page", text: "# Héad\n\nText and [link](https://a.example/b/x)\n", isTruncated: false)
            )
            #expect(try await pages.extract("", address: "", limit: 1000).text.isEmpty)
            let long = try await pages.extract(
                String(repeating: "<p>text</p>", count: 90_000), address: "https://a.example/", limit: 50_000)
            #expect(long.isTruncated && long.text.utf8.count <= 50_001 && long.text.utf8.count > 49_000)
        }
    }

    /// What strangers write ends the page's process at worst.
    @Test func brokenPagesAreReadOrRefused() async throws {
        try await with { pages in
            for html in [
                String(repeating: "<div>", count: 200_000), String(repeating: "<a href=x", count: 100_000),
                "\0\0\0<p>\0x", String(repeating: "&#x10ffff;", count: 90_000), "<![CDATA[", "<!--",
                String(repeating: "</p>", count: 250_000), "<p " + String(repeating: "a='b' ", count: 150_000),
            ] {
                let page = try await pages.extract(html, address: "https://a.example/", limit: 10_000)
                #expect(page.text.utf8.count <= 10_001)
            }
        }
    }

    @Test func aHelperThatDoesNotAnswerIsAnError() async throws {
        try await onLoop { loop in
            let pages = PageExtractor(helper: HelperProgram(executable: "/bin/false", arguments: []), on: loop)
            let error = await #expect(throws: AegisError.self) {
                try await pages.extract("<p>x", address: "https://a.example/", limit: 100)
            }
            #expect(error?.code == "page-unreadable", "\(String(describing: error))")
        }
    }
}
