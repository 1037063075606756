/// Finds among a holder's grants those that can allow an action, the narrowest first, without looking at the others.
///
/// Names and hosts are found by dictionary; trees of files and of domains by the hash of their first components or last
/// labels, which the asked path or host carries already; blocks of addresses by their bits. What is found is always checked
/// against the capability itself, which the index does not keep.
struct GrantIndex: Sendable {
    private struct Key: Hashable {
        var kind: CapabilityKind
        var text: String
    }
    private struct Prefix {
        var hash: UInt64
        var kind: CapabilityKind
        var count: Int32
        var position: Int32
        /// What a path must have behind the first components; nothing for hosts.
        var trait = PathTrait.none
    }
    private struct Block {
        var block: AddressBlock
        var position: Int32
    }
    private struct Other {
        var kind: CapabilityKind
        var position: Int32
    }

    private var literals: [Key: [Int32]] = [:]
    /// Bits of the kinds that are among the literals.
    private var literalKinds: UInt16 = 0
    private var prefixes: [Prefix] = []
    private var blocks: [Block] = []
    private var others: [Other] = []

    init(_ capabilities: [Capability]) {
        // Equal ranks stay in the order in which they were granted.
        let ranks = capabilities.map(\.rank)
        let order = capabilities.indices.sorted { (ranks[$0], $1) > (ranks[$1], $0) }
        for position in order { insert(capabilities[position], at: Int32(position)) }
    }

    private mutating func insert(_ capability: Capability, at position: Int32) {
        let kind = capability.kind
        func literal(_ texts: [String], _ index: inout GrantIndex) {
            index.literalKinds |= 1 << kind.index
            for text in texts { index.literals[Key(kind: kind, text: text), default: []].append(position) }
        }
        switch capability {
        case .tool(let name?), .model(let name), .memory(let name): literal([name], &self)
        case .network(let pattern):
            switch pattern.target {
            case .host(let name): literal([name.description], &self)
            case .subdomains(let domain):
                let hash = domain.suffixHashes[domain.labelCount]
                prefixes.append(Prefix(hash: hash, kind: kind, count: Int32(domain.labelCount), position: position))
            case .block(let block): blocks.append(Block(block: block, position: position))
            case .any: others.append(Other(kind: kind, position: position))
            }
        case .spawn(.names(let names)), .message(.names(let names)): literal(names, &self)
        case .exec(.name(let name)): literal([name], &self)
        case .secret(let binding): literal([binding.name], &self)
        case .fileRead(let pattern), .fileWrite(let pattern):
            prefixes.append(
                Prefix(
                    hash: pattern.literalHash, kind: kind, count: Int32(pattern.literalCount), position: position,
                    trait: PathTrait(of: pattern)))
        case .tool(nil), .spawn(.any), .message(.any), .exec: others.append(Other(kind: kind, position: position))
        }
    }

    /// Calls `visit` with the position of each grant that allows the action, until it says true.
    ///
    /// - Parameters:
    ///   - action: what is to be done.
    ///   - allows: whether the capability at a position allows it.
    ///   - visit: gets the positions, the narrowest grant first.
    func find(_ action: Action, allows: (Int) -> Bool, _ visit: (Int) -> Bool) {
        let kind = action.kind
        let (text, hashes) = Self.keys(action)
        if let text, literalKinds & 1 << kind.index != 0, let found = literals[Key(kind: kind, text: text)] {
            for position in found where allows(Int(position)) { if visit(Int(position)) { return } }
        }
        var face: PathFace?
        for prefix in prefixes {
            let count = Int(prefix.count)
            guard count < hashes.count, hashes[count] == prefix.hash, prefix.kind == kind else { continue }
            if !prefix.trait.isNone {
                let path = face ?? PathFace(action)
                face = path
                guard prefix.trait.mayFit(path) else { continue }
            }
            if allows(Int(prefix.position)), visit(Int(prefix.position)) { return }
        }
        if case .connect(let destination, _) = action, case .address(let address) = destination.host {
            for entry in blocks where entry.block.contains(address) && allows(Int(entry.position)) {
                if visit(Int(entry.position)) { return }
            }
        }
        for other in others where other.kind == kind && allows(Int(other.position)) {
            if visit(Int(other.position)) { return }
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
