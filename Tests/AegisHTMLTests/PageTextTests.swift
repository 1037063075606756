import Testing

@testable import AegisHTML

private func page(_ html: String, at address: String = "https://site.example/docs/guide/", limit: Int = 100_000)
    -> PageText
{
    PageText(html: html, address: address, limit: limit)
}

@Suite struct PageTextTests {
    @Test func aPageIsReadAsAPersonReadsIt() {
        let read = page(
            """
            <!doctype html><html><head><title> The
             Guide &amp; more </title><style>p { color: red }</style><script>alert("x")</script></head>
            <body><nav><a href="/">Home</a></nav>
            <h1>Guide</h1><p>Some   <b>bold</b> text,
            and a <a href="../ref?q=1#top">link</a>.</p>
            <ul><li>one<li>two<ol start=3><li>deep</ol></ul>
            <pre><code>let x = 1
              let y = 2
            </code></pre><blockquote><p>quoted</p></blockquote>
            <table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
            <p>Use <code>swift build</code><br>then <img src=x alt="a picture"></p><hr></body></html>
            """)
        #expect(read.title == "The Guide & more" && !read.isTruncated)
        #expect(
            read.text == """
                [Home](https://site.example/)

                # Guide

                Some bold text, and a [link](https://site.example/docs/ref?q=1#top).

                - one
                - two
                  3. deep

                ```
                let x = 1
                  let y = 2
                ```

                > quoted

                a | b
                1 | 2

                Use `swift build`
                then [image: a picture]

                ---

                """)
    }

    @Test(arguments: [
        "<script>bad()</script>", "<style>bad</style>", "<p hidden>bad</p>", "<div style='Display : NONE'>bad</div>",
        "<span aria-hidden=true>bad</span>", "<template><p>bad</p></template>", "<svg><text>bad</text></svg>",
        "<!-- bad -->", "<iframe>bad</iframe>", "<div hidden><p>b</p><p>bad</p></div>", "<textarea>bad</textarea>",
        "<a href=\"javascript:bad()\">", "<img src=bad>", "<noframes>bad</noframes>",
    ])
    func whatNobodySeesIsLeftOut(_ html: String) {
        let read = page("<p>before</p>\(html)<p>after</p>")
        #expect(!read.text.contains("bad") && read.text.contains("before"), "\(read)")
    }

    @Test func charactersThatCannotBeSeenAreLeftOut() {
        let hidden = "a\u{200b}b\u{202e}c\u{e0041}d\u{feff}\u{7}e"
        #expect(page("<p>\(hidden)</p>").text == "abcde\n")
        // A text in selectors of variants, and a return that would let a terminal write over what was there.
        #expect(page("<p>\u{1f600}\u{fe0f}\u{e0141}\u{e0142}\u{3164}x</p>").text == "\u{1f600}\u{fe0f}x\n")
        #expect(page("<pre>a&#13;b\r\nc\rd</pre>").text == "```\na\nb\nc\nd\n```\n")
    }

    @Test(arguments: [
        ("page", "https://site.example/docs/guide/page"), ("/a/../b/./c", "https://site.example/b/c"),
        ("//other.example/x", "https://other.example/x"), ("?q", "https://site.example/docs/guide/?q"),
        ("HTTP://x.example/a(b)", "HTTP://x.example/a%28b%29"), ("mailto:a@b.example", "mailto:a@b.example"),
        ("../../../../x", "https://site.example/x"), ("a b\nc", "https://site.example/docs/guide/abc"),
        ("/\u{e4}\u{202e}x", "https://site.example/%C3%A4%E2%80%AEx"),
    ])
    func linksAreWhole(_ reference: String, _ whole: String) {
        #expect(page("<a href='\(reference)'>t</a>").text == "[t](\(whole))\n")
    }

    @Test(arguments: ["javascript:x", "data:text/html,x", "#here", "", "file:///etc/passwd", "ftp://x.example/"])
    func otherLinksAreTexts(_ reference: String) { #expect(page("<a href='\(reference)'>t</a>").text == "t\n") }

    @Test func aBaseCountsAndBlocksInLinksAreWhole() {
        let read = page(
            "<head><base href='https://b.example/x/'></head><a href=y><h2>Title</h2><p>text</p></a><p>rest</p>")
        #expect(read.text == "## [Title](https://b.example/x/y)\n\ntext\n\nrest\n")
    }

    @Test func theLimitHolds() {
        for limit in [0, 1, 10, 57, 1000] {
            let html = "<p>" + String(repeating: "wörd ", count: 400) + "</p><p>more</p>"
            let read = page(html, limit: limit)
            #expect(read.text.utf8.count <= limit + 1 && read.isTruncated, "\(limit)")
        }
        #expect(page("<p>ends</p>", limit: 4) == PageText(title: "", text: "ends\n", isTruncated: false))
    }

    /// Whatever comes, it is read to its end in its bounds, and nothing of a script is in it.
    @Test func brokenPagesAreReadToTheirEnd() {
        var random = Dice(state: 42)
        let pieces = [
            "<p>", "</p>", "<div", ">", "<a href=", "'", "\"", "</a>", "<li>", "</ul>", "<ul>", "<table>", "<tr><td>",
            "&amp", "&#0;", "&#x110000;", "&#xd800;", "<!--", "-->", "<![CDATA[", "]]>", "<?xml ", "?>", "<!doctype",
            "<pre>", "</pre>", "<code>", "`", "```", "<script>", "SECRET", "</script>", "<title>", "</title>", "<base>",
            "\u{0}", "\u{fffd}", "é", "<h1", " hidden", "=", "<svg>", "</svg>", "text ", "\n", "<body>", "</html>",
            "<blockquote>", "</blockquote>", "<b><i></b></i>", "<form><form>", "<select><option>", "</p></p></p>",
        ]
        for _ in 0..<3000 {
            let count = Int(random.next() % 60)
            let html = (0..<count).map { _ in pieces[Int(random.next() % UInt64(pieces.count))] }.joined()
            let read = page(html, limit: 500)
            #expect(read.text.utf8.count <= 501)
        }
        for _ in 0..<300 {
            let bytes = (0..<Int(random.next() % 3000)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            _ = page(String(decoding: bytes, as: UTF8.self), limit: 1000)
        }
    }

    @Test func depthAndSizeCostNothing() {
        for tag in ["div", "ul><li", "blockquote", "a href=x", "b", "table><tr><td", "p hidden"] {
            let read = page(String(repeating: "<\(tag)>", count: 20_000) + "deep", limit: 10_000)
            #expect(read.text.utf8.count <= 10_001, "\(tag)")
        }
        #expect(page("<p " + String(repeating: "a=b ", count: 50_000) + ">x</p>").text == "x\n")
        #expect(page(String(repeating: "x", count: 900_000), limit: 50_000).isTruncated)
    }
}

private struct Dice {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
