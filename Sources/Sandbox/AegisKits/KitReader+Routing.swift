internal import AegisConfig
internal import AegisCore
internal import AegisSandboxTypes

/// `routing`: what comes in, beside the ports themselves.
extension KitReader {
    private static let mostFields = 16
    private static let longestField = (name: 64, value: 1024)
    /// What belongs to a single connection, to the router or to another host; `proxy-…`, `x-forwarded-…` and `x-aegis-…` do too.
    private static let routersOwn: Set<String> = [
        "connection", "content-length", "expect", "forwarded", "host", "keep-alive", "service-worker-allowed",
        "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-real-ip",
    ]

    /// Its `health` is the same as `health.path`.
    func routing(_ reader: ConfigReader, _ spec: inout KitSpec) {
        var health: String?
        spec.routing =
            reader.sectionIfPresent("routing") { routing -> KitRouting? in
                health = routing.readIfPresent("health", check: Self.ready)
                let path: String? = routing.readIfPresent("path", check: Self.place)
                let headers = routing.sectionIfPresent("headers") {
                    KitHeaders(request: self.fields($0, "request"), response: self.fields($0, "response"))
                }
                return path == nil && headers == nil ? nil : KitRouting(path: path, headers: headers)
            } ?? nil
        guard let health else { return }
        guard spec.health == nil else { return reader.report("'routing.health' and 'health' are both given; keep one") }
        spec.health = KitHealth(
            path: health, interval: TimeSpan(milliseconds: 250), timeout: TimeSpan(milliseconds: 30_000))
    }

    private static func place(_ path: String) -> String? {
        problem { () throws(AegisError) in
            guard path.hasPrefix("/") else { throw .usage("it does not begin with /") }
            try Names.validate(String(path.dropFirst()), what: "path")
        }
    }

    private func fields(_ reader: ConfigReader, _ key: String) -> [String: String] {
        let fields = reader.readMap(key, of: String.self) { Self.field($0, $1) }
        if fields.count > Self.mostFields {
            reader.report("\(key) has \(fields.count) entries, at most \(Self.mostFields)")
        }
        if Set(fields.map { $0.key.lowercased() }).count != fields.count {
            reader.report("\(key) has two entries of one name")
        }
        return Dictionary(fields.map { ($0.key, $0.value) }) { $1 }
    }

    private static func field(_ name: String, _ value: String) -> String? {
        let marks = Array("!#$%&'*+-.^_`|~".utf8)
        let isToken = name.utf8.allSatisfy { byte in
            (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || marks.contains(byte)
        }
        guard isToken, (1...longestField.name).contains(name.utf8.count) else {
            return "'\(name)' is not a name of a header field"
        }
        // Many servers take `_` for `-`.
        let lower = name.lowercased().replacing("_", with: "-")
        if routersOwn.contains(lower) || ["proxy-", "x-forwarded-", "x-aegis-"].contains(where: lower.hasPrefix) {
            return "'\(name)' is the router's own: a kit cannot set it"
        }
        let isText = value.utf8.allSatisfy { (32...126).contains($0) } && !value.hasPrefix(" ") && !value.hasSuffix(" ")
        return isText && value.utf8.count <= longestField.value
            ? nil : "'\(name)' must be at most \(longestField.value) bytes of ASCII text, without spaces around it"
    }
}
