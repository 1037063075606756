/// Masks one stream of bytes that comes in chunks, in all spellings of `EncodedMask`, byte for byte.
///
/// It holds back what may still become a value: not more than about twelve times the longest one, whatever comes.
package struct EncodedMaskStream: Sendable {
    private let mask: EncodedMask
    /// Bytes that are not decided yet, and where in the stream the first of them is.
    private var held: [UInt8] = []
    private var base = 0
    /// Where the bytes of values are: apart from each other, in order.
    private var covered: [Range<Int>] = []
    /// The automaton's place in the bytes as they are.
    private var node: Int32 = 0
    private var spellings: [Spelling]
    /// Beginnings of values of fewer bytes are not held back.
    private let patience: Int
    /// How often a value was found.
    package private(set) var hits = 0

    /// Starts a stream.
    ///
    /// - Parameters:
    ///   - mask: what to look for.
    ///   - isLive: whether somebody waits for what has come (events, a conversation): then up to 3 bytes that might begin a
    ///     value go out at once. When it was one, they are seen, and the rest of it is not.
    package init(_ mask: EncodedMask, isLive: Bool = false) {
        self.init(mask, showing: isLive ? SecretMask.shortestValue - 1 : 0)
    }

    /// Starts a stream in which so many bytes that might begin a value go out at once.
    package init(_ mask: EncodedMask, showing shown: Int) {
        self.mask = mask
        patience = shown + 1
        spellings = [.percent, .json, .base64].map { Spelling($0, longest: mask.longest) }
        if mask.hasBlank { spellings.append(Spelling(.form, longest: mask.longest)) }
    }

    /// How many bytes are held back.
    package var heldCount: Int { held.count }

    /// Takes the next bytes and appends what is decided.
    ///
    /// - Parameters:
    ///   - bytes: the next chunk, of any size.
    ///   - output: where as many bytes go, now or later, as were written.
    package mutating func write(_ bytes: ArraySlice<UInt8>, into output: inout [UInt8]) {
        guard !mask.isEmpty else { return output.append(contentsOf: bytes) }
        var place = base + held.count
        held.append(contentsOf: bytes)
        var isQuiet = isAtRest
        for byte in bytes {
            if isQuiet, mask.isQuiet[Int(byte)] {
                place += 1
                continue
            }
            let before = node
            node = mask.automaton.step(before, byte)
            let length = node == 0 ? 0 : mask.automaton.matchLength(at: node)
            if length > 0 { cover(place + 1 - length..<place + 1) }
            for index in spellings.indices where spellings[index].isApart || spellings[index].concerns(byte) {
                if let range = spellings[index].take(byte, at: place, (before, node), mask.automaton) { cover(range) }
            }
            place += 1
            isQuiet = isAtRest
        }
        release(upTo: undecided(place), into: &output)
    }

    /// Whether nothing has begun that could become a value.
    private var isAtRest: Bool { node == 0 && !spellings.contains { $0.isApart } }

    /// Lets out what was held back and starts anew.
    package mutating func finish(into output: inout [UInt8]) {
        release(upTo: base + held.count, into: &output)
        node = 0
        for index in spellings.indices { spellings[index].restart() }
    }

    /// Where the first byte is that may still belong to a value; `end` when there is none.
    private func undecided(_ end: Int) -> Int {
        let depth = mask.automaton.depth(of: node)
        var first = depth >= patience ? end - depth : end
        for spelling in spellings where spelling.isApart {
            first = min(first, spelling.undecided(end, mask.automaton, patience))
        }
        return first
    }

    /// Ranges come by rising end; one that touches those before takes them in.
    private mutating func cover(_ range: Range<Int>) {
        hits += 1
        var lower = range.lowerBound
        while let last = covered.last, last.upperBound >= lower {
            lower = min(lower, last.lowerBound)
            covered.removeLast()
        }
        covered.append(lower..<range.upperBound)
    }

    private mutating func release(upTo end: Int, into output: inout [UInt8]) {
        guard end > base else { return }
        for range in covered {
            let part = range.clamped(to: base..<end)
            for place in part { held[place - base] = EncodedMask.star }
        }
        output.append(contentsOf: held[..<(end - base)])
        held.removeFirst(end - base)
        base = end
        covered.removeAll { $0.upperBound <= end }
    }
}

/// One way to write bytes, read along with the stream: what is decoded goes through the automaton, too.
///
/// Where nothing was encoded since what may become a value began, its place in the automaton is that of the bytes as they are,
/// and it costs nothing.
private struct Spelling: Sendable {
    enum Kind { case percent, form, json, base64 }
    private enum Step {
        /// More bytes are needed.
        case pending
        /// They mean these.
        case decoded([UInt8])
        /// They are an interruption that means nothing.
        case dropped
        /// They mean nothing but themselves.
        case none
    }

    private let kind: Kind
    private let longest: Int
    /// Whether its place differs from that of the bytes as they are.
    private(set) var isApart = false
    private var node: Int32 = 0
    /// Where in the stream the last decoded bytes begin, as a ring.
    private var starts: [Int]
    private var units = 0
    /// How many bytes have stood for themselves since the last that did not.
    private var plain = 0
    /// Line ends in a row.
    private var drops = 0
    private var lastDrop: UInt8 = 0
    private var pending: [UInt8] = []

    init(_ kind: Kind, longest: Int) {
        self.kind = kind
        self.longest = longest
        starts = [Int](repeating: 0, count: longest + 1)
    }

    mutating func restart() { self = Spelling(kind, longest: longest) }

    /// Whether a byte may mean another than itself.
    func concerns(_ byte: UInt8) -> Bool {
        switch kind {
        case .percent: byte == 0x25
        case .form: byte == 0x25 || byte == 0x2b
        case .json: byte == 0x5c
        case .base64: byte == 0x0a || byte == 0x0d || byte == 0x2d || byte == 0x5f
        }
    }

    func undecided(_ end: Int, _ automaton: SecretMask, _ patience: Int) -> Int {
        let depth = automaton.depth(of: node)
        // What is pending may become one byte more.
        guard depth + (pending.isEmpty ? 0 : 1) >= patience else { return end }
        return depth > 0 ? starts[(units - depth) % starts.count] : end - pending.count
    }

    /// Reads a byte.
    ///
    /// - Parameters:
    ///   - byte: the byte.
    ///   - place: where it is in the stream.
    ///   - nodes: the automaton's place in the bytes as they are before it, and behind it.
    ///   - automaton: what looks for values.
    /// - Returns: where a value is that ends here; nil when none does.
    mutating func take(
        _ byte: UInt8, at place: Int, _ nodes: (before: Int32, after: Int32), _ automaton: SecretMask
    ) -> Range<Int>? {
        if !isApart { depart(at: place, nodes.before, automaton) }
        // Where both are at the same place by the same bytes, they stay together.
        defer { isApart = !pending.isEmpty || node != nodes.after || plain < automaton.depth(of: node) }
        if pending.isEmpty, !concerns(byte) { return enterPlain(byte, at: place, automaton) }
        pending.append(byte)
        let start = place + 1 - pending.count
        var found: Range<Int>?
        switch read() {
        case .pending: break
        case .dropped:
            pending.removeAll(keepingCapacity: true)
            drops += 1
            plain = 0
            // Base64 in lines has no empty ones; who sends events ends each with one.
            if drops > 2 || (drops == 2 && lastDrop == byte) { node = 0 }
            lastDrop = byte
        case .decoded(let bytes):
            pending.removeAll(keepingCapacity: true)
            plain = 0
            for byte in bytes { found = Self.joined(found, enter(byte, start..<place + 1, automaton)) }
        case .none:
            let bytes = pending
            pending.removeAll(keepingCapacity: true)
            for (offset, byte) in bytes.enumerated() {
                // The last one may begin something itself.
                let again = offset > 0 && offset == bytes.count - 1 && concerns(byte)
                let match =
                    again ? take(byte, at: place, nodes, automaton) : enterPlain(byte, at: start + offset, automaton)
                found = Self.joined(found, match)
            }
        }
        return found
    }

    private static func joined(_ a: Range<Int>?, _ b: Range<Int>?) -> Range<Int>? {
        guard let a, let b else { return a ?? b }
        return min(a.lowerBound, b.lowerBound)..<max(a.upperBound, b.upperBound)
    }

    private mutating func enterPlain(_ byte: UInt8, at place: Int, _ automaton: SecretMask) -> Range<Int>? {
        let found = enter(byte, place..<place + 1, automaton)
        plain += 1
        return found
    }

    private mutating func depart(at place: Int, _ before: Int32, _ automaton: SecretMask) {
        isApart = true
        node = before
        units = automaton.depth(of: before)
        for index in 0..<units { starts[index] = place - units + index }
        plain = 0
        drops = 0
    }

    /// Reads a byte that stands in the stream in some way.
    private mutating func enter(_ byte: UInt8, _ place: Range<Int>, _ automaton: SecretMask) -> Range<Int>? {
        drops = 0
        node = automaton.step(node, byte)
        starts[units % starts.count] = place.lowerBound
        units += 1
        let length = automaton.matchLength(at: node)
        return length > 0 ? starts[(units - length) % starts.count]..<place.upperBound : nil
    }

    // MARK: What bytes mean

    private func read() -> Step {
        switch kind {
        case .percent: percent()
        case .form: pending == [0x2b] ? .decoded([0x20]) : percent()
        case .json: json()
        case .base64:
            switch pending[0] {
            case 0x0a, 0x0d: .dropped
            case 0x2d: .decoded([0x2b])
            case 0x5f: .decoded([0x2f])
            default: .none
            }
        }
    }

    private func percent() -> Step {
        guard pending[0] == 0x25 else { return .none }
        guard pending.dropFirst().allSatisfy({ Self.hex($0) != nil }) else { return .none }
        guard pending.count == 3, let high = Self.hex(pending[1]), let low = Self.hex(pending[2]) else {
            return .pending
        }
        return .decoded([high << 4 | low])
    }

    private func json() -> Step {
        guard pending[0] == 0x5c else { return .none }
        guard pending.count > 1 else { return .pending }
        switch pending[1] {
        case 0x22, 0x2f, 0x5c: return .decoded([pending[1]])
        case 0x62: return .decoded([8])
        case 0x66: return .decoded([12])
        case 0x6e: return .decoded([10])
        case 0x72: return .decoded([13])
        case 0x74: return .decoded([9])
        case 0x75: return unicode()
        default: return .none
        }
    }

    /// `\uXXXX`, or two of them that stand for one character.
    private func unicode() -> Step {
        guard let first = unit(at: 2) else { return pending.count < 6 && hasOnlyHex(from: 2) ? .pending : .none }
        guard (0xd800..<0xdc00).contains(first) else {
            return Unicode.Scalar(first).map { .decoded(Array(String(Character($0)).utf8)) } ?? .none
        }
        if pending.count > 6, pending[6] != 0x5c { return .none }
        if pending.count > 7, pending[7] != 0x75 { return .none }
        guard let second = unit(at: 8) else { return pending.count < 12 && hasOnlyHex(from: 8) ? .pending : .none }
        guard (0xdc00..<0xe000).contains(second),
            let scalar = Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00))
        else { return .none }
        return .decoded(Array(String(Character(scalar)).utf8))
    }

    private func unit(at offset: Int) -> UInt32? {
        guard pending.count >= offset + 4 else { return nil }
        var value: UInt32 = 0
        for byte in pending[offset..<offset + 4] {
            guard let digit = Self.hex(byte) else { return nil }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    private func hasOnlyHex(from offset: Int) -> Bool {
        pending.count <= offset || pending[offset...].allSatisfy { Self.hex($0) != nil }
    }

    private static func hex(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }
}
