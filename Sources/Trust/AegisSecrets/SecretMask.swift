package import AegisCore

/// Finds exact secret values in bytes, all at once (Aho and Corasick's automaton).
///
/// Time is linear in the bytes read and does not grow with the number of values; memory is about 15 bytes for each byte
/// of a value. Values shorter than 4 bytes are **not** masked: they would turn ordinary text into stars. What is found is
/// the value itself, byte for byte: an encoded, escaped or reversed copy passes.
package final class SecretMask: Sendable, CustomStringConvertible, CustomReflectable {
    /// Values shorter than this many bytes are left alone.
    package static let shortestValue = 4
    /// What stands in the output for one or more values that touch or overlap; it tells nothing of their length.
    package static let marker: [UInt8] = Array("***".utf8)

    /// First step from the root, by byte; 0 is the root itself.
    private let root: [Int32]
    /// The one child that most nodes have, and the byte that leads to it; 0 is none.
    private let child: [Int32]
    private let childByte: [UInt8]
    /// Further children, by node and byte. Few nodes have any; a flag spares the others the look.
    private let branches: [Int64: Int32]
    private let branching: [Bool]
    /// The node of the longest proper end of this node's text that is also a start of a value.
    private let fallback: [Int32]
    private let depth: [Int32]
    /// Length of the longest value that ends here; 0 is none.
    private let match: [Int32]

    /// Builds the automaton for a set of values; order and repetition do not matter.
    package init(_ values: [Secret<[UInt8]>]) {
        var builder = Builder()
        for value in values where value.reveal().count >= Self.shortestValue { builder.insert(value.reveal()) }
        builder.link()
        root = builder.root
        child = builder.child
        childByte = builder.childByte
        branches = builder.branches
        branching = builder.branching
        fallback = builder.fallback
        depth = builder.depth
        match = builder.match
    }

    /// Whether there is nothing to mask, so that bytes may pass by.
    package var isEmpty: Bool { depth.count == 1 }
    package var description: String { "•••" }
    package var customMirror: Mirror { Mirror(self, children: [] as [Mirror.Child]) }

    /// The node after reading one byte.
    func step(_ from: Int32, _ byte: UInt8) -> Int32 {
        var node = Int(from)
        while node != 0 {
            if child[node] != 0 {
                if childByte[node] == byte { return child[node] }
                if branching[node], let next = branches[Int64(node) << 8 | Int64(byte)] { return next }
            }
            node = Int(fallback[node])
        }
        return root[Int(byte)]
    }
    func depth(of node: Int32) -> Int { Int(depth[Int(node)]) }
    func matchLength(at node: Int32) -> Int { Int(match[Int(node)]) }

    private struct Builder {
        var root = [Int32](repeating: 0, count: 256)
        var child: [Int32] = [0]
        var childByte: [UInt8] = [0]
        var branches: [Int64: Int32] = [:]
        var branching: [Bool] = [false]
        var fallback: [Int32] = [0]
        var depth: [Int32] = [0]
        var match: [Int32] = [0]
        private var parent: [Int32] = [0]
        private var byte: [UInt8] = [0]

        private func next(_ node: Int32, _ byte: UInt8) -> Int32 {
            if node == 0 { return root[Int(byte)] }
            if child[Int(node)] != 0, childByte[Int(node)] == byte { return child[Int(node)] }
            return branches[Int64(node) << 8 | Int64(byte)] ?? 0
        }

        mutating func insert(_ value: [UInt8]) {
            var node: Int32 = 0
            for byte in value {
                let existing = next(node, byte)
                node = existing != 0 ? existing : add(under: node, byte)
            }
            match[Int(node)] = depth[Int(node)]
        }

        private mutating func add(under node: Int32, _ byte: UInt8) -> Int32 {
            let new = Int32(child.count)
            child.append(0)
            childByte.append(0)
            branching.append(false)
            fallback.append(0)
            depth.append(depth[Int(node)] + 1)
            match.append(0)
            parent.append(node)
            self.byte.append(byte)
            if node == 0 {
                root[Int(byte)] = new
            } else if child[Int(node)] == 0 {
                (child[Int(node)], childByte[Int(node)]) = (new, byte)
            } else {
                branches[Int64(node) << 8 | Int64(byte)] = new
                branching[Int(node)] = true
            }
            return new
        }

        /// Sets fallbacks and matches, nodes nearer to the root first.
        mutating func link() {
            for node in nodesByDepth where depth[node] > 1 {
                var candidate = fallback[Int(parent[node])]
                var found = next(candidate, byte[node])
                while found == 0, candidate != 0 {
                    candidate = fallback[Int(candidate)]
                    found = next(candidate, byte[node])
                }
                fallback[node] = found
                if match[node] == 0 { match[node] = match[Int(found)] }
            }
        }

        /// All nodes, sorted by depth in linear time.
        private var nodesByDepth: [Int] {
            var starts = [Int](repeating: 0, count: Int(depth.max() ?? 0) + 2)
            for level in depth { starts[Int(level) + 1] += 1 }
            for level in 1..<starts.count { starts[level] += starts[level - 1] }
            var order = [Int](repeating: 0, count: depth.count)
            for node in depth.indices {
                order[starts[Int(depth[node])]] = node
                starts[Int(depth[node])] += 1
            }
            return order
        }
    }
}

/// Masks one stream of bytes that comes in chunks.
///
/// It holds back the end of what it got while that may still become a value: at most the length of the longest value. When
/// the stream ends (or must be shown as it is), `finish` lets it out.
package struct SecretMaskStream: Sendable {
    private var mask: SecretMask
    private var node: Int32 = 0
    /// Bytes that are not decided yet.
    private var held: [UInt8] = []
    /// Ranges of `held` that belong to values: apart from each other, in order.
    private var covered: [Range<Int>] = []
    /// Whether the byte before `held` belonged to a value, so that what touches it needs no second marker.
    private var inValue = false

    /// Starts a stream.
    package init(_ mask: SecretMask) { self.mask = mask }

    /// From here on looks for other values; what is held back is looked through for them, too.
    package mutating func change(to mask: SecretMask) {
        self.mask = mask
        let before = covered
        covered = []
        node = 0
        for index in held.indices { look(at: index) }
        // The rest of a value whose beginning is out already is still one.
        let ranges = (before + covered).sorted { $0.lowerBound < $1.lowerBound }
        covered = ranges.reduce(into: []) { merged, range in
            guard let last = merged.last, last.upperBound >= range.lowerBound else { return merged.append(range) }
            merged[merged.count - 1] = last.lowerBound..<max(last.upperBound, range.upperBound)
        }
    }

    /// How many bytes are held back.
    package var heldCount: Int { held.count }

    /// Takes the next bytes and appends what is decided.
    ///
    /// - Parameters:
    ///   - bytes: the next chunk, of any size.
    ///   - output: where the masked bytes go.
    package mutating func write(_ bytes: some Sequence<UInt8>, into output: inout [UInt8]) {
        let start = held.count
        held.append(contentsOf: bytes)
        for index in start..<held.count { look(at: index) }
        release(upTo: held.count - mask.depth(of: node), into: &output)
    }

    /// Lets out what was held back and starts anew.
    package mutating func finish(into output: inout [UInt8]) {
        release(upTo: held.count, into: &output)
        node = 0
        inValue = false
    }

    private mutating func look(at index: Int) {
        node = mask.step(node, held[index])
        guard node != 0 else { return }
        let length = mask.matchLength(at: node)
        if length > 0 { cover(index + 1 - length..<index + 1) }
    }

    /// Ranges come by rising end; one that touches those before takes them in.
    private mutating func cover(_ range: Range<Int>) {
        var lower = range.lowerBound
        while let last = covered.last, last.upperBound >= lower {
            lower = min(lower, last.lowerBound)
            covered.removeLast()
        }
        covered.append(lower..<range.upperBound)
    }

    private mutating func release(upTo end: Int, into output: inout [UInt8]) {
        guard end > 0 else { return }
        var at = 0
        for range in covered where range.lowerBound < end {
            if range.lowerBound > at {
                output.append(contentsOf: held[at..<range.lowerBound])
                inValue = false
            }
            if !inValue { output.append(contentsOf: SecretMask.marker) }
            inValue = true
            at = min(range.upperBound, end)
        }
        if at < end {
            output.append(contentsOf: held[at..<end])
            inValue = false
        }
        held.removeFirst(end)
        covered = covered.compactMap { $0.upperBound > end ? max(0, $0.lowerBound - end)..<$0.upperBound - end : nil }
    }
}
