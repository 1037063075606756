import AegisCore

/// How near a capability of the right kind comes to an action that it does not allow, and what is in the way.
struct Nearness {
    /// Larger is nearer; only comparable within a kind.
    var score: Int
    var hint: String?
    /// What keeps it from fitting, after "the grant ...". Of many grants it is asked of one: all but fixed words are made then.
    var why: String {
        get {
            switch obstacle {
            case .words(let words): words
            case .name(let name): "is for '\(shown(name))' only"
            case .names(let count): "is for \(count) others"
            case .files(let pattern): "is for files in \(shown(pattern.root.description))"
            }
        }
        set { obstacle = .words(newValue) }
    }
    private var obstacle = Obstacle.words("is for something else")
    private enum Obstacle {
        case words(String)
        case name(String)
        case names(Int)
        case files(PathPattern)
    }

    /// The score that nothing is nearer than.
    static func most(for action: Action) -> Int {
        switch action {
        case .tool, .model, .memory, .spawn, .message: 1
        case .fileRead, .fileWrite, .connect, .exec, .secret: .max
        }
    }

    init(_ action: Action, _ capability: Capability) {
        score = 0
        switch (action, capability) {
        case (.tool(let name), .tool(let held?)): compare(name, held)
        case (.tool, .tool(nil)): obstacle = .names(0)
        case (.model(let name), .model(let held)): compare(name, held)
        case (.memory(let name), .memory(let held)): compare(name, held)
        case (.spawn(let name), .spawn(.names(let held))): compare(name, held)
        case (.message(let name), .message(.names(let held))): compare(name, held)
        case (.fileRead(let path), .fileRead(let pattern)): compare(path, pattern)
        case (.fileWrite(let path), .fileWrite(let pattern)): compare(path, pattern)
        case (.connect(let destination, let tool), .network(let pattern)): compare(destination, tool, pattern)
        case (.exec(let program, let resolved), .exec(let pattern)): compare(program, resolved, pattern)
        case (.secret(let use), .secret(let binding)): compare(use, binding)
        default: break
        }
    }

    private mutating func compare(_ name: String, _ held: String) {
        obstacle = .name(held)
        guard !Self.areFar(name, held), nearest(name, in: CollectionOfOne(held)) != nil else { return }
        score = 1
        hint = "did you mean '\(shown(held))'?"
    }

    private mutating func compare(_ name: String, _ held: [String]) {
        obstacle = held.count == 1 ? .name(held[0]) : .names(held.count)
        guard let near = nearest(name, in: held.lazy.filter { !Self.areFar(name, $0) }) else { return }
        score = 1
        hint = "did you mean '\(shown(near))'?"
    }

    /// Whether one of two words has more letters that the other lacks than words may have that `nearest` finds near: that is seen at
    /// once, and true of most. Each such letter takes a change of its own.
    private static func areFar(_ word: String, _ other: String) -> Bool {
        func letters(_ word: String) -> UInt64 {
            // Letters that share a bit count as one: that makes words nearer, not farther.
            word.utf8.reduce(0) { $0 | 1 << UInt64($1 & 63) }
        }
        let (own, others) = (letters(word), letters(other))
        let least = max((own & ~others).nonzeroBitCount, (others & ~own).nonzeroBitCount)
        return least > max(1, min(word.utf8.count, other.utf8.count) / 2)
    }

    private mutating func compare(_ path: CanonicalPath, _ pattern: PathPattern) {
        for (index, component) in zip(0..<path.count, pattern.components) {
            guard case .literal(let bytes) = component, path.bytes[path.range(index)].elementsEqual(bytes) else {
                break
            }
            score += 1
        }
        obstacle = score < pattern.literalCount ? .files(pattern) : .words("does not match further than its wildcards")
    }

    private mutating func compare(_ destination: Destination, _ tool: String?, _ pattern: NetworkPattern) {
        if pattern.reaches(destination.host) {
            score = 1000
            if let port = pattern.port, port != destination.port {
                why = "is for port \(port) only"
            } else {
                score += 1
                why = "may be used by \(pattern.tools.joined(separator: ", ")) only"
            }
            return
        }
        switch (destination.host, pattern.target) {
        case (.name(let name), .host(let held)), (.name(let name), .subdomains(let held)):
            score = zip(name.description.utf8.reversed(), held.description.utf8.reversed()).prefix { $0 == $1 }.count
            if name == held, case .subdomains = pattern.target {
                score = 900
                why = "is for names below \(held), not for \(held) itself"
            } else {
                why = "is for other hosts"
            }
        case (.name, .block): why = "is for addresses, not for names"
        case (.address(let address), .any), (.address(let address), .block):
            if case .block(let block) = pattern.target, !block.contains(address) {
                why = "is for other addresses"
            } else {
                score = 900
                why = "does not reach private and reserved addresses"
                hint = "a block in that range must be granted on purpose, as in 'network: \(address)/\(address.width)'"
            }
        case (.address, .host), (.address, .subdomains):
            why = "is for names, and an address is not a name"
            hint = "connect to the name, so that Aegis looks it up"
        case (.name, .any): break
        }
    }

    private mutating func compare(_ program: String, _ resolved: CanonicalPath?, _ pattern: ProgramPattern) {
        guard case .name(let held) = pattern else {
            why = "is for \(shown(pattern.description)) only"
            if resolved == nil, pattern.description.hasSuffix("/" + program) {
                (score, hint) = (2, "call it '\(shown(pattern.description))'")
            }
            return
        }
        if program.hasSuffix("/" + held) {
            score = 2
            why = "is for '\(held)' as it is found along PATH, not for a path"
            hint = "call it '\(held)'"
        } else {
            compare(program, held)
        }
    }

    private mutating func compare(_ use: SecretUse, _ binding: SecretBinding) {
        guard use.name == binding.name else {
            why = "is for the secret \(binding.name)"
            return
        }
        guard use.host == binding.host else {
            (score, why) = (1, "may be sent to \(binding.host) only")
            return
        }
        guard binding.methods.isEmpty || binding.methods.contains(use.method) else {
            (score, why) = (2, "is for \(binding.methods.joined(separator: ", ")) only")
            return
        }
        let header = String(decoding: use.header.utf8.map(Letters.lowered), as: UTF8.self)
        let headers = binding.header.map { [$0] } ?? SecretBinding.usualHeaders
        guard headers.contains(header) else {
            (score, why) = (3, "may stand in \(headers.joined(separator: ", ")) only")
            return
        }
        (score, why) = (4, "is for \(binding.path ?? "/") and what is plainly below it")
    }
}
