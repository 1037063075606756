import AegisCapabilities
import AegisCore

/// What a decision costs: `GrantBook.admit` and `settle` for a holder with 100 grants, on one thread. Needs no daemon.
struct Gate: Sendable {
    let isQuick: Bool
    private let holder = HolderID("agent-0123456789abcdef")

    func run() throws -> [ResultTable] {
        let count = isQuick ? 20_000 : 200_000
        var table = ResultTable(
            title: "Deciding: admit and settle with 100 grants",
            note:
                "Target: p50 at most 2 µs. The book holds 100 other agents; nothing is recorded. Each decision is timed by itself, "
                + "the clock's own \(short(time(count) {}.p50 * 1000)) µs included; the request is made beforehand unless it says so.",
            head: ["decision", "samples", "p50 µs", "p99 µs"])
        for (name, grants, action) in try cases() {
            let book = try self.book(grants)
            let request = Request(action)
            let samples = try time(count) { try book.admit(request, by: holder).settle() }
            table.rows.append([name, "\(count)", short(samples.p50 * 1000), short(samples.p99 * 1000)])
        }
        let book = try self.book(mixed)
        let made = try time(count) {
            let action = Action.fileRead(try path("/workspace/src/module19/a/b/file.swift"))
            try book.admit(Request(action), by: holder).settle()
        }
        table.rows.append(["file in a tree, path included", "\(count)", short(made.p50 * 1000), short(made.p99 * 1000)])
        let denied = time(count / 10) { _ = try? book.admit(Request(.tool("unknown")), by: holder) }
        table.rows.append([
            "denied, with explanation", "\(count / 10)", short(denied.p50 * 1000), short(denied.p99 * 1000),
        ])
        return [table]
    }

    /// Grants of five kinds, twenty each.
    private var mixed: [String] {
        (0..<20).flatMap { number in
            [
                "tool: tool_\(number)", "file_read: /workspace/src/module\(number)/**",
                "file_write: /workspace/out/part\(number)/*.txt", "network: host\(number).example.com:443",
                number % 2 == 0 ? "network: *.zone\(number).example.net" : "exec: program\(number)",
            ]
        }
    }

    private func cases() throws -> [(String, [String], Action)] {
        [
            ("tool", mixed, .tool("tool_19")),
            ("file in a tree", mixed, .fileRead(try path("/workspace/src/module19/a/b/file.swift"))),
            ("file by a glob", mixed, .fileWrite(try path("/workspace/out/part19/file.txt"))),
            ("host", mixed, .connect(try destination("host19.example.com"))),
            ("host below a domain", mixed, .connect(try destination("a.b.zone0.example.net"))),
            (
                "the last of 100 trees", many { "file_read: /workspace/src/module\($0)/**" },
                .fileRead(try path("/workspace/src/module99/a/file"))
            ),
            (
                "the last of 100 domains", many { "network: *.zone\($0).example.net" },
                .connect(try destination("a.zone99.example.net"))
            ),
            ("the last of 100 blocks", many { "network: 8.\($0).0.0/16" }, .connect(try destination("8.99.1.1"))),
            (
                "the last of 100 globs with '**' inside", many { "file_read: /workspace/**/dir\($0)/*.swift" },
                .fileRead(try path("/workspace/src/a/b/dir99/file.swift"))
            ),
        ]
    }

    private func many(_ text: (Int) -> String) -> [String] { (0..<100).map(text) }

    private func path(_ text: String) throws -> CanonicalPath {
        guard let path = CanonicalPath(text) else { throw Runner.Failure(description: "\(text) is no path") }
        return path
    }
    private func destination(_ host: String) throws -> Destination {
        guard let destination = Destination(host: host, port: 443) else {
            throw Runner.Failure(description: "\(host) is no host")
        }
        return destination
    }

    private func book(_ grants: [String]) throws -> GrantBook {
        let book = GrantBook()
        for number in 0..<100 { try book.issue([GrantSpec(.tool("tool"))], to: HolderID("other-\(number)")) }
        var specs: [GrantSpec] = []
        for text in grants { specs.append(try GrantSpec(parsing: text)) }
        try book.issue(specs, to: holder)
        return book
    }

    private func time(_ count: Int, _ body: () throws -> Void) rethrows -> Samples {
        for _ in 0..<2000 { try body() }
        var samples = Samples()
        for _ in 0..<count {
            let start = ContinuousClock.now
            try body()
            samples.add(Double((ContinuousClock.now - start).components.attoseconds) / 1e15)
        }
        return samples
    }
}
