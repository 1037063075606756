import AegisCapabilities
import AegisCore
import AegisTestSupport

// Small alphabets: then patterns overlap, nest and nearly match, and random pairs mean something.

extension Mutator {
    mutating func pathPatternText() -> String {
        let words = ["a", "b", "ab", "a*", "*", "?", "*b", "a?", "**", "**", "é", "?b*"]
        return "/" + some(words, 0...4).joined(separator: "/")
    }
    mutating func pathText() -> String {
        "/" + some(["a", "b", "ab", "abb", "aé", "é", "bb", "c"], 0...5).joined(separator: "/")
    }

    mutating func networkText() -> String {
        let names = ["a.test", "b.a.test", "c.b.a.test", "ab.test", "test", "x.example"]
        var text: String
        switch number(0...9) {
        case 0: text = "*"
        case 1...3: text = pick(names)
        case 4...5: text = "*." + pick(names)
        default:
            let (address, bits) = pick([
                ("10.0.0.0", 8), ("10.1.0.0", 16), ("10.1.2.3", 32), ("0.0.0.0", 0), ("8.0.0.0", 8), ("8.8.8.8", 32),
                ("2600::", 16), ("fd00::", 8), ("fd00:1::", 32), ("::", 0), ("192.168.0.0", 16), ("128.0.0.0", 1),
            ])
            text = "\(address)/\(bits)"
            if chance(1, in: 3) {
                return (text.contains("::") ? "[\(text)]" : text) + ":\(pick([80, 443]))" + options()
            }
            return text + options()
        }
        if chance(1, in: 3) { text += ":\(pick([80, 443]))" }
        return text + options()
    }
    private mutating func options() -> String {
        (chance(1, in: 5) ? ",inspect" : "")
            + (chance(1, in: 5)
                ? ",tools=" + Set(some(["web_fetch", "web_search", "t"], 1...2)).sorted().joined(separator: "+") : "")
    }
    mutating func destination() throws -> Destination {
        let host = pick([
            "a.test", "b.a.test", "c.b.a.test", "d.c.b.a.test", "ab.test", "xa.test", "test", "x.example",
            "y.x.example",
            "localhost", "10.1.2.3", "10.2.0.1", "8.8.8.8", "8.1.1.1", "9.9.9.9", "192.168.1.1", "169.254.169.254",
            "2600::1", "fd00:1::1", "fd00:2::1", "127.0.0.1", "100.64.0.1", "200.1.1.1",
        ])
        guard let destination = Destination(host: host, port: UInt16(pick([80, 443, 22]))) else {
            throw BadInput(text: host)
        }
        return destination
    }

    private mutating func nameSet() -> String {
        chance(1, in: 5) ? "*" : "[\(Set(some(["a", "b", "c"], 1...3)).sorted().joined(separator: ", "))]"
    }

    mutating func capabilityText() -> String {
        switch number(0...13) {
        case 0...2: return "file_read: " + pathPatternText()
        case 3...4: return "file_write: " + pathPatternText()
        case 5...7: return "network: " + networkText()
        case 8: return "tool: " + pick(["*", "web_fetch", "web_search", "t"])
        case 9: return "exec: " + pick(["*", "git", "sh", "/usr/bin/git"])
        case 10: return pick(["spawn: ", "message: ", "spawn_child: "]) + nameSet()
        case 11: return pick(["model: default", "model: fast", "memory: self", "memory: team"])
        case 12: return "web_search"
        default:
            return "secret: " + pick(["K", "L"]) + "@" + pick(["a.test", "b.test"]) + pick(["", "/v1", "/v1/x", "/v2"])
                + pick(["", "", ",header=authorization", ",header=x-key"])
                + pick(["", "", ",methods=GET", ",methods=GET+POST"])
        }
    }

    mutating func limitsText(for capability: Capability) -> [String] {
        var fields: [String] = []
        if chance(1, in: 3) { fields.append("max_calls: \(number(1...4))") }
        if chance(1, in: 4) { fields.append("per_minute: \(number(1...3))") }
        if chance(1, in: 4) { fields.append("expires: \(number(1...120))s") }
        if chance(1, in: 4), [.tool, .network, .fileRead].contains(capability.kind) {
            fields.append("max_bytes: \(number(1...30))")
        }
        if chance(1, in: 4), [.tool, .model].contains(capability.kind) {
            fields.append("max_tokens: \(number(1...30))")
            if chance(1, in: 2) { fields.append("max_usd: 0.\(number(1...99))") }
        }
        return fields
    }

    mutating func grantSpec() throws -> GrantSpec {
        let text = capabilityText()
        let fields = limitsText(for: try Capability(parsing: text))
        return try GrantSpec(parsing: fields.isEmpty ? text : "{grant: \"\(text)\", \(fields.joined(separator: ", "))}")
    }

    mutating func anyAction() throws -> Action {
        switch number(0...11) {
        case 0...2: return .fileRead(try path(pathText()))
        case 3...4: return .fileWrite(try path(pathText()))
        case 5...7: return .connect(try destination(), tool: pick([nil, nil, "web_fetch", "web_search", "t"]))
        default: return try ofKind(pick(CapabilityKind.allCases))
        }
    }

    mutating func ofKind(_ kind: CapabilityKind) throws -> Action {
        switch kind {
        case .tool: return .tool(pick(["web_fetch", "web_search", "t", "u"]))
        case .fileRead: return .fileRead(try path(pathText()))
        case .fileWrite: return .fileWrite(try path(pathText()))
        case .network: return .connect(try destination(), tool: pick([nil, "web_fetch", "t"]))
        case .exec:
            let program = pick(["git", "sh", "/usr/bin/git", "/workspace/git"])
            return .exec(program: program, resolved: try path(program.hasPrefix("/") ? program : "/usr/bin/" + program))
        case .spawn: return .spawn(agent: pick(["a", "b", "c", "d"]))
        case .model: return .model(pick(["default", "fast", "other"]))
        case .memory: return .memory(scope: pick(["self", "team", "x"]))
        case .message: return .message(to: pick(["a", "b", "c", "d"]))
        case .secret:
            guard let host = HostName(pick(["a.test", "b.test"])) else { throw BadInput(text: "host") }
            return .secret(
                SecretUse(
                    name: pick(["K", "L"]), host: host,
                    path: pick(["/", "/v1", "/v1/x", "/v1/x/y", "/v1x", "/v1/../v2"]),
                    header: pick(["Authorization", "X-Key", "User-Agent", "x-api-key"]), method: pick(["GET", "POST"])))
        }
    }
}
