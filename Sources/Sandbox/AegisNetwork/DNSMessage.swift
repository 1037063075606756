/// One question to the resolver, read strictly, and the answers that it can have.
struct DNSQuery: Equatable {
    /// What is asked for.
    enum Kind: Equatable { case address, other(UInt16) }
    /// What the answer says.
    enum Answer: Equatable {
        case address(UInt32)
        /// The address of another instance, which may have another one soon.
        case member(UInt32)
        /// The name is there, but has nothing of the kind.
        case empty
        case noSuchName
        case refused, failed
    }

    /// Why bytes are no question.
    enum Problem: Error, Equatable {
        /// Not even an identifier is there: nothing can be said.
        case unanswerable
        /// Answered with this response code.
        case malformed(id: UInt16, code: UInt8)
    }

    let id: UInt16
    /// The name as it was asked for, its labels joined by dots; bytes that are no ASCII are kept.
    let name: String
    let kind: Kind
    private let wantsRecursion: Bool
    /// The question as it came, to be repeated.
    private let question: ArraySlice<UInt8>

    /// How long an answer may be remembered, in seconds: the name keeps its address, but its grant may go.
    private static var lifetime: UInt32 { 60 }
    /// That of a member.
    private static var memberLifetime: UInt32 { 2 }

    /// Reads a question.
    init(_ bytes: ArraySlice<UInt8>) throws(Problem) {
        let start = bytes.startIndex
        func number(_ offset: Int) -> UInt16 {
            UInt16(bytes[start + offset]) << 8 | UInt16(bytes[start + offset + 1])
        }
        guard bytes.count >= 12, bytes[start + 2] & 0x80 == 0 else { throw .unanswerable }
        id = number(0)
        let flags = number(2)
        guard flags & 0x7800 == 0 else { throw .malformed(id: id, code: 4) }
        guard number(4) == 1 else { throw .malformed(id: id, code: 1) }
        wantsRecursion = flags & 0x0100 != 0
        var labels: [String] = []
        var at = 12
        var length = 0
        while true {
            guard at < bytes.count else { throw .malformed(id: id, code: 1) }
            let count = Int(bytes[start + at])
            at += 1
            if count == 0 { break }
            length += count + 1
            // No pointers: there is nothing before the question that one could point to.
            guard count < 64, length < 255, at + count <= bytes.count else { throw .malformed(id: id, code: 1) }
            labels.append(String(decoding: bytes[(start + at)..<(start + at + count)], as: UTF8.self))
            at += count
        }
        guard at + 4 <= bytes.count else { throw .malformed(id: id, code: 1) }
        let type = number(at)
        guard number(at + 2) == 1 else { throw .malformed(id: id, code: 5) }
        kind = type == 1 ? .address : .other(type)
        name = labels.joined(separator: ".")
        question = bytes[(start + 12)..<(start + at + 4)]
    }

    /// The answer as it travels.
    func response(_ answer: Answer) -> [UInt8] {
        let code: UInt8 =
            switch answer {
            case .address, .member, .empty: 0
            case .failed: 2
            case .noSuchName: 3
            case .refused: 5
            }
        var out = Self.header(id, recursion: wantsRecursion, code: code, questions: 1)
        out += question
        let (address, lifetime): (UInt32, UInt32)
        switch answer {
        case .address(let found): (address, lifetime) = (found, Self.lifetime)
        case .member(let found): (address, lifetime) = (found, Self.memberLifetime)
        case .empty, .noSuchName, .refused, .failed: return out
        }
        out[7] = 1
        out += [0xc0, 0x0c, 0, 1, 0, 1]
        out += Self.bytes(lifetime) + [0, 4] + Self.bytes(address)
        return out
    }

    /// The answer to what is no question.
    static func response(to problem: Problem) -> [UInt8]? {
        guard case .malformed(let id, let code) = problem else { return nil }
        return header(id, recursion: false, code: code, questions: 0)
    }

    private static func header(_ id: UInt16, recursion: Bool, code: UInt8, questions: UInt8) -> [UInt8] {
        [
            UInt8(id >> 8), UInt8(truncatingIfNeeded: id), 0x84 | (recursion ? 1 : 0), 0x80 | code, 0, questions, 0, 0,
            0,
            0, 0, 0,
        ]
    }

    private static func bytes(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }
}
