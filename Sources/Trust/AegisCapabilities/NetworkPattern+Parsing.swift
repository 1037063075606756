import AegisCore

extension NetworkPattern {
    /// Reads what stands behind `network:` and `--allow`.
    ///
    /// - Throws: where it cannot be read, and the nearest text that can.
    init(parsing text: String) throws(ValueProblem) {
        let parts = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let (target, port) = try Self.target(parts[0])
        var inspect = false
        var tools: Set<String> = []
        var offset = parts[0].utf8.count + 1
        for part in parts.dropFirst() {
            let plain = NetworkPattern(target, port: port, inspect: inspect, tools: tools).description
            if part == "inspect" {
                guard !inspect else { throw ValueProblem(offset, "'inspect' is there twice", nearest: plain) }
                inspect = true
            } else if part.hasPrefix("tools=") {
                guard tools.isEmpty else { throw ValueProblem(offset, "'tools' is there twice", nearest: plain) }
                var at = offset + 6
                for name in part.dropFirst(6).split(separator: "+", omittingEmptySubsequences: false).map(String.init) {
                    do { tools.insert(try NameRule.tool.check(name)) } catch {
                        throw ValueProblem(at + error.offset, error.problem, nearest: plain)
                    }
                    at += name.utf8.count + 1
                }
            } else {
                throw Self.unknownOption(part, at: offset, plain)
            }
            offset += part.utf8.count + 1
        }
        self.init(target, port: port, inspect: inspect, tools: tools)
    }

    private static func unknownOption(_ option: String, at offset: Int, _ plain: String) -> ValueProblem {
        let word = option.drop { $0 == " " }
        let offset = offset + option.utf8.count - word.utf8.count
        let key = String(word.prefix { $0 != "=" })
        if key == "inspect" || nearest(key, in: ["inspect"]) != nil {
            return ValueProblem(offset, "'\(shown(String(word)))' is not an option", nearest: plain + ",inspect")
        }
        return ValueProblem(
            offset, "'\(shown(String(word)))' is not an option (inspect, tools=A+B); a grant names one host",
            nearest: plain)
    }

    /// Reads host and port.
    static func target(_ text: String) throws(ValueProblem) -> (Target, UInt16?) {
        guard !text.isEmpty else { throw ValueProblem(0, "a host is missing", nearest: nil) }
        if let problem = shapeProblem(text) { throw problem }
        if text.hasPrefix("[") { return try bracketed(text) }
        let colons = text.utf8.lazy.filter { $0 == 0x3a }.count
        guard colons < 2 else { return (try block(text), nil) }
        let host = String(text.prefix { $0 != ":" })
        let target = try namedTarget(host)
        guard colons == 1 else { return (target, nil) }
        let portText = String(text.dropFirst(host.count + 1))
        do { return (target, try Self.port(portText)) } catch {
            throw error.shifted(by: host.utf8.count + 1) { _ in NetworkPattern(target).description }
        }
    }

    private static func namedTarget(_ host: String) throws(ValueProblem) -> Target {
        if host == "*" { return .any }
        let looksNumeric = host.utf8.allSatisfy { Letters.isDigit($0) || $0 == 0x2e || $0 == 0x2f }
        if looksNumeric || host.contains("/") { return try block(host) }
        guard host.contains("*") else { return .host(try checkedName(host)) }
        let domain = String(host.drop { $0 == "*" || $0 == "." })
        guard host.hasPrefix("*."), domain.count == host.count - 2, !domain.contains("*") else {
            let at = host.hasPrefix("*") ? 0 : host.utf8.prefix { $0 != PathPattern.star }.count
            // `api.*.example.com` means less than what stands below its last wildcard, so that is no near form.
            let near = host.hasPrefix("*") && !domain.contains("*") ? HostName(domain).map { "*.\($0)" } : nil
            throw ValueProblem(at, "a wildcard is '*' alone or '*.' before a domain", nearest: near)
        }
        do { return .subdomains(try checkedName(domain)) } catch { throw error.shifted(by: 2) { "*." + $0 } }
    }

    private static func checkedName(_ text: String) throws(ValueProblem) -> HostName {
        let name = try HostName(parsing: text)
        guard !name.isLocalhost else { throw ValueProblem(0, "no grant reaches the host that Aegis runs on") }
        return name
    }

    /// `[2001:db8::1]:443` and `[2001:db8::/32]:443`
    private static func bracketed(_ text: String) throws(ValueProblem) -> (Target, UInt16?) {
        let inner = String(text.dropFirst().prefix { $0 != "]" })
        let target: Target
        do { target = try block(inner) } catch { throw error.shifted(by: 1) { $0 } }
        let rest = text.dropFirst(inner.count + 1)
        guard rest.first == "]" else {
            throw ValueProblem(text.utf8.count, "']' is missing", nearest: NetworkPattern(target).description)
        }
        if rest == "]" { return (target, nil) }
        guard rest.hasPrefix("]:") else {
            let at = text.utf8.count - rest.utf8.count + 1
            throw ValueProblem(at, "after ']' comes ':PORT'", nearest: NetworkPattern(target).description)
        }
        do { return (target, try port(String(rest.dropFirst(2)))) } catch {
            throw error.shifted(by: text.utf8.count - rest.utf8.count + 2) { _ in NetworkPattern(target).description }
        }
    }

    /// Reads an address or a block; the bits that a block does not fix must be 0.
    private static func block(_ text: String) throws(ValueProblem) -> Target {
        let slash = text.firstIndex(of: "/")
        let addressText = String(text[..<(slash ?? text.endIndex)])
        guard let address = IPAddress(addressText) else {
            let near = slash == nil ? nil : HostName(addressText).flatMap { $0.isLocalhost ? nil : $0.description }
            let problem = near == nil ? "this is neither a host name nor an address" : "a grant names a host, no path"
            throw ValueProblem(near == nil ? 0 : addressText.utf8.count, problem, nearest: near)
        }
        var bits = address.width
        if let slash {
            let number = text[text.index(after: slash)...]
            let isPlain = number.utf8.allSatisfy(Letters.isDigit) && (number.first != "0" || number == "0")
            guard isPlain, number.utf8.count <= 3, let given = Int(number), (0...address.width).contains(given) else {
                throw ValueProblem(
                    addressText.utf8.count + 1, "the bits of a block are 0 to \(address.width)",
                    nearest: forbidden(address) == nil ? "\(address)/\(address.width)" : nil)
            }
            bits = given
        }
        guard let block = AddressBlock(address, bits: bits) else {
            throw ValueProblem(0, "this is no block of addresses")
        }
        if let what = AddressClass.forbids(block) {
            throw ValueProblem(0, "no grant reaches \(block): it is \(what)")
        }
        guard block.base == address else {
            throw ValueProblem(
                0, "the block of \(bits) bits in which \(address) lies starts at \(block.base)",
                nearest: forbidden(address) == nil ? "\(address)/\(address.width)" : block.description)
        }
        return .block(block)
    }

    private static func forbidden(_ address: IPAddress) -> String? {
        AddressBlock(address, bits: address.width).flatMap(AddressClass.forbids)
    }

    private static func port(_ text: String) throws(ValueProblem) -> UInt16 {
        let isPlain = !text.isEmpty && text.utf8.allSatisfy(Letters.isDigit) && text.first != "0"
        guard isPlain, let port = UInt16(text) else {
            throw ValueProblem(
                0, text.isEmpty ? "a port is missing" : "a port is a number from 1 to 65535", nearest: "")
        }
        return port
    }

    /// What people write who think of URLs.
    private static func shapeProblem(_ text: String) -> ValueProblem? {
        func near(_ host: some StringProtocol) -> String? {
            let authority = host.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
            guard !authority.contains("@"), let (target, port) = try? target(String(authority)) else { return nil }
            return NetworkPattern(target, port: port).description
        }
        if let range = text.firstRange(of: "://") {
            return ValueProblem(0, "a grant names a host, no URL", nearest: near(text[range.upperBound...]))
        }
        if let at = text.firstIndex(of: "@") {
            return ValueProblem(
                text.utf8.distance(from: text.startIndex, to: at), "a grant names a host, no user",
                nearest: near(text[text.index(after: at)...]))
        }
        guard let bad = text.utf8.firstIndex(where: { $0 <= 0x20 || $0 == 0x7f }) else { return nil }
        return ValueProblem(
            text.utf8.distance(from: text.startIndex, to: bad), "spaces and control characters are not part of a host",
            nearest: near(text[..<bad]))
    }
}
