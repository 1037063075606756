/// Finds among a holder's grants those that can allow an action, the narrowest first, without looking at the others.
///
/// Names and hosts are found by dictionary; trees of files and of domains by the hash of their first components or last
/// labels, which the asked path or host carries already; blocks of addresses by their bits. What is found is always checked
/// against the capability itself.
struct GrantIndex: Sendable {
    private struct Key: Hashable {
        var kind: CapabilityKind
        var text: String
    }
    private struct Prefix {
        var hash: UInt64
        var count: Int32
        var position: Int32
    }
    private struct Block {
        var block: AddressBlock
        var position: Int32
    }

    let capabilities: [Capability]
    private var literals: [Key: [Int32]] = [:]
    private var prefixes: [[Prefix]]
    private var blocks: [Block] = []
    private var others: [[Int32]]
    private var literalCounts: [Int]

    init(_ capabilities: [Capability]) {
        self.capabilities = capabilities
        prefixes = Array(repeating: [], count: CapabilityKind.allCases.count)
        others = Array(repeating: [], count: CapabilityKind.allCases.count)
        literalCounts = Array(repeating: 0, count: CapabilityKind.allCases.count)
        // Equal ranks stay in the order in which they were granted.
        let order = capabilities.indices.sorted { (capabilities[$0].rank, $1) > (capabilities[$1].rank, $0) }
        for position in order { insert(capabilities[position], at: Int32(position)) }
    }

    private mutating func insert(_ capability: Capability, at position: Int32) {
        let kind = capability.kind
        func literal(_ texts: [String], _ index: inout GrantIndex) {
            index.literalCounts[kind.index] += texts.count
            for text in texts { index.literals[Key(kind: kind, text: text), default: []].append(position) }
        }
        switch capability {
        case .tool(let name?), .model(let name), .memory(let name): literal([name], &self)
        case .network(let pattern):
            switch pattern.target {
            case .host(let name): literal([name.description], &self)
            case .subdomains(let domain):
                let hash = domain.suffixHashes[domain.labelCount]
                prefixes[kind.index].append(Prefix(hash: hash, count: Int32(domain.labelCount), position: position))
            case .block(let block): blocks.append(Block(block: block, position: position))
            case .any: others[kind.index].append(position)
            }
        case .spawn(.names(let names)), .message(.names(let names)): literal(names, &self)
        case .exec(.name(let name)): literal([name], &self)
        case .secret(let binding): literal([binding.name], &self)
        case .fileRead(let pattern), .fileWrite(let pattern):
            let count = Int32(pattern.literalCount)
            prefixes[kind.index].append(Prefix(hash: pattern.literalHash, count: count, position: position))
        case .tool(nil), .spawn(.any), .message(.any), .exec: others[kind.index].append(position)
        }
    }

    /// Calls `visit` with the position of each grant that allows the action, until it says true.
    func find(_ action: Action, _ visit: (Int) -> Bool) {
        let kind = action.kind
        let (text, hashes) = Self.keys(action)
        if let text, literalCounts[kind.index] > 0, let found = literals[Key(kind: kind, text: text)] {
            for position in found where capabilities[Int(position)].allows(action) {
                if visit(Int(position)) { return }
            }
        }
        for prefix in prefixes[kind.index] {
            let count = Int(prefix.count)
            guard count < hashes.count, hashes[count] == prefix.hash, capabilities[Int(prefix.position)].allows(action)
            else { continue }
            if visit(Int(prefix.position)) { return }
        }
        if case .connect(let destination, _) = action, case .address(let address) = destination.host {
            for entry in blocks
            where entry.block.contains(address) && capabilities[Int(entry.position)].allows(action) {
                if visit(Int(entry.position)) { return }
            }
        }
        for position in others[kind.index] where capabilities[Int(position)].allows(action) {
            if visit(Int(position)) { return }
        }
    }

    /// What an action is looked up by: a name, or the hashes of its first components or last labels.
    private static func keys(_ action: Action) -> (String?, [UInt64]) {
        switch action {
        case .tool(let name), .spawn(let name), .model(let name), .memory(let name), .message(let name): (name, [])
        case .fileRead(let path), .fileWrite(let path): (nil, path.prefixHashes)
        case .connect(let destination, _):
            switch destination.host {
            case .name(let name): (name.description, name.suffixHashes)
            case .address: (nil, [])
            }
        case .exec(let program, _): (program, [])
        case .secret(let use): (use.name, [])
        }
    }
}
