package import AegisWire

/// The head of an answer.
package struct ClientResponseHead: Sendable, Equatable {
    /// 200 to 599.
    package var status: Int
    /// The fields, in order; bytes that are not UTF-8 are repaired.
    package var headers: HTTPHeaders
    /// Whether HTTP/2 was spoken.
    package var isHTTP2: Bool
}

/// Makes the head of an answer from the lines that come before its body. Pure.
struct HeadReader: Sendable {
    enum Step: Equatable {
        case more
        case head(ClientResponseHead)
        case failed(String)
    }

    /// The most bytes of all header sections of an answer, interim ones and trailers included.
    static let maximumBytes = 256 << 10
    /// The most fields of a section.
    static let maximumFields = 512

    private var status = 0
    private var isHTTP2 = false
    private var headers = HTTPHeaders()
    private var bytes = 0
    private var isDone = false

    /// Takes one line with its end.
    mutating func take(_ line: [UInt8]) -> Step {
        bytes += line.count
        guard bytes <= Self.maximumBytes else {
            return .failed("the answer's header has more than \(Self.maximumBytes) bytes")
        }
        var text = line[...]
        while let last = text.last, last == 10 || last == 13 || last == 32 || last == 9 { text.removeLast() }
        // Trailers are not kept.
        if isDone { return .more }
        if text.starts(with: "HTTP/".utf8) { return begin(text) }
        if text.isEmpty { return end() }
        guard status > 0 else { return .failed("the answer begins with no status") }
        // A folded line belongs to the one before; no client has to take it.
        if line[0] == 32 || line[0] == 9 { return .more }
        guard let colon = text.firstIndex(of: 58) else { return .more }
        guard headers.count < Self.maximumFields else {
            return .failed("the answer has more than \(Self.maximumFields) header fields")
        }
        let value = text[(colon + 1)...].drop { $0 == 32 || $0 == 9 }
        // What HTTP does not allow is left out by the list itself.
        headers.add(String(decoding: text[..<colon], as: UTF8.self), String(decoding: value, as: UTF8.self))
        return .more
    }

    private mutating func begin(_ line: ArraySlice<UInt8>) -> Step {
        let words = line.split(separator: 32, maxSplits: 2)
        guard words.count >= 2, words[1].count == 3, let code = Int(String(decoding: words[1], as: UTF8.self)),
            (100...599).contains(code)
        else { return .failed("the answer's status is none") }
        status = code
        isHTTP2 = words[0].starts(with: "HTTP/2".utf8)
        headers = [:]
        return .more
    }

    private mutating func end() -> Step {
        guard status > 0 else { return .failed("the answer begins with no status") }
        // An interim answer: another one follows.
        if status < 200 { return .more }
        isDone = true
        return .head(ClientResponseHead(status: status, headers: headers, isHTTP2: isHTTP2))
    }
}
