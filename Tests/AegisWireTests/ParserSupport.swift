import AegisWire

/// What a parser said about some bytes, in a form that can be compared.
struct Transcript: Equatable, CustomStringConvertible {
    var events: [String] = []
    var error: HTTPError?
    var description: String {
        (events + [error.map { "! \($0.status) \($0.message)" } ?? "ok"]).joined(separator: "\n")
    }

    fileprivate mutating func body(_ bytes: ArraySlice<UInt8>) {
        // Byte by byte, since a split may lie within a character.
        let text = bytes.map { $0 < 128 ? String(UnicodeScalar($0)) : "\\x\($0)" }.joined()
        if let last = events.last, last.hasPrefix("body ") {
            events[events.count - 1] = last + text
        } else {
            events.append("body " + text)
        }
    }
}

/// Feeds pieces of a stream to a request parser, keeping what it has not used, as a connection does.
func requests(_ pieces: [[UInt8]], limits: HTTPLimits = HTTPLimits()) -> Transcript {
    var parser = HTTPRequestParser(limits: limits)
    return run(pieces) { bytes, cursor throws(HTTPError) in
        switch try parser.next(bytes.span, &cursor) {
        case .needMore: return nil
        case .head(let start): return .event(describe(start))
        case .body(let range): return .body(range)
        case .end(let trailers): return .event("end" + describe(trailers))
        }
    }
}

/// Feeds pieces of a stream to a response parser that expects answers to these methods.
func responses(
    _ pieces: [[UInt8]], to methods: [HTTPMethod] = [.get], closes: Bool = false, limits: HTTPLimits = HTTPLimits()
) -> Transcript {
    var parser = HTTPResponseParser(limits: limits)
    var methods = methods
    parser.expect(methods.removeFirst())
    var transcript = run(pieces) { bytes, cursor throws(HTTPError) in
        switch try parser.next(bytes.span, &cursor) {
        case .needMore: return nil
        case .head(let start): return .event(describe(start))
        case .body(let range): return .body(range)
        case .end(let trailers):
            if !methods.isEmpty { parser.expect(methods.removeFirst()) }
            return .event("end" + describe(trailers))
        }
    }
    if closes, transcript.error == nil { transcript.events.append(parser.streamEnded() ? "closed" : "cut") }
    return transcript
}

private enum Found {
    case event(String)
    case body(Range<Int>)
}

private func run(
    _ pieces: [[UInt8]], _ next: (_ bytes: [UInt8], _ cursor: inout Int) throws(HTTPError) -> Found?
) -> Transcript {
    var transcript = Transcript()
    var pending: [UInt8] = []
    for piece in pieces {
        pending += piece
        var cursor = 0
        do throws(HTTPError) {
            while let found = try next(pending, &cursor) {
                switch found {
                case .event(let text): transcript.events.append(text)
                case .body(let range): transcript.body(pending[range])
                }
            }
        } catch {
            transcript.error = error
            return transcript
        }
        pending.removeFirst(cursor)
    }
    return transcript
}

private func describe(_ start: HTTPRequestStart) -> String {
    let head = start.head
    return "\(head.method) \(head.target.raw) \(head.version) \(start.framing)"
        + (start.keepAlive ? "" : " close") + (start.expectsContinue ? " expects" : "")
        + (start.wantsUpgrade ? " upgrade" : "") + describe(head.headers)
}

private func describe(_ start: HTTPResponseStart) -> String {
    "\(start.head.status) \(start.head.reason) \(start.head.version) \(start.framing)"
        + (start.keepAlive ? "" : " close") + (start.isUpgrade ? " upgraded" : "") + describe(start.head.headers)
}

private func describe(_ headers: HTTPHeaders) -> String {
    headers.isEmpty ? "" : " [" + headers.map { "\($0.name)=\($0.value)" }.joined(separator: "|") + "]"
}

/// A stream cut in two at each place, and into single bytes.
func splits(_ bytes: [UInt8]) -> [[[UInt8]]] {
    (1..<max(2, bytes.count)).map { [Array(bytes.prefix($0)), Array(bytes.dropFirst($0))] } + [bytes.map { [$0] }]
}

/// Bytes of a text in which `¬` stands for CR LF, so that tables stay readable.
func wire(_ text: String) -> [UInt8] {
    var out: [UInt8] = []
    for scalar in text.unicodeScalars {
        if scalar == "¬" { out += [13, 10] } else { out += Array(String(scalar).utf8) }
    }
    return out
}
