/// What the first message of a TLS client says of the server that it wants, read without being part of the conversation.
enum ClientHello {
    /// What could be read so far.
    enum Reading: Equatable {
        /// More bytes are needed.
        case incomplete
        /// The server's name as it was sent; nil when the client names none.
        case name(String?)
        /// This is not the beginning of TLS.
        case malformed
    }

    /// The most bytes that a first message may take; the largest with keys against quantum computers have some 2 KiB.
    static let limit = 64 << 10

    /// Reads the bytes that came first on a connection.
    static func read(_ bytes: ArraySlice<UInt8>) -> Reading {
        // The message may be cut into several records.
        var message: [UInt8] = []
        var rest = bytes
        while true {
            guard let type = rest.first else { return .incomplete }
            guard type == 22 else { return .malformed }
            guard rest.count >= 5 else { return .incomplete }
            let start = rest.startIndex
            let length = Int(rest[start + 3]) << 8 | Int(rest[start + 4])
            guard rest[start + 1] == 3, (1...16_384).contains(length) else { return .malformed }
            let fragment = rest.dropFirst(5).prefix(length)
            message += fragment
            if let first = message.first, first != 1 { return .malformed }
            if message.count >= 4 {
                let wanted = Int(message[1]) << 16 | Int(message[2]) << 8 | Int(message[3])
                guard wanted <= limit else { return .malformed }
                if message.count >= wanted + 4 { return hello(message[4..<(wanted + 4)]) }
            }
            guard fragment.count == length else { return .incomplete }
            rest = rest.dropFirst(5 + length)
        }
    }

    private static func hello(_ body: ArraySlice<UInt8>) -> Reading {
        var rest = Cursor(body)
        // Version and random.
        guard rest.take(34) != nil, rest.vector(1) != nil, rest.vector(2) != nil, rest.vector(1) != nil else {
            return .malformed
        }
        if rest.isEmpty { return .name(nil) }
        guard let extensions = rest.vector(2), rest.isEmpty else { return .malformed }
        var all = Cursor(extensions)
        var name: String?
        while !all.isEmpty {
            guard let type = all.number(2), let value = all.vector(2) else { return .malformed }
            guard type == 0 else { continue }
            // RFC 6066: one list, with at most one name of each kind; twice is nothing that an honest client sends.
            guard name == nil, let found = serverName(value) else { return .malformed }
            name = found
        }
        return .name(name)
    }

    private static func serverName(_ value: ArraySlice<UInt8>) -> String? {
        var outer = Cursor(value)
        guard let list = outer.vector(2), outer.isEmpty else { return nil }
        var names = Cursor(list)
        guard names.number(1) == 0, let name = names.vector(2), names.isEmpty, !name.isEmpty,
            name.allSatisfy({ $0 > 0x20 && $0 < 0x7f })
        else { return nil }
        return String(decoding: name, as: UTF8.self)
    }

    /// Takes parts off the front.
    private struct Cursor {
        private var rest: ArraySlice<UInt8>
        init(_ bytes: ArraySlice<UInt8>) { rest = bytes }
        var isEmpty: Bool { rest.isEmpty }

        mutating func take(_ count: Int) -> ArraySlice<UInt8>? {
            guard rest.count >= count else { return nil }
            defer { rest = rest.dropFirst(count) }
            return rest.prefix(count)
        }
        mutating func number(_ width: Int) -> Int? { take(width).map { $0.reduce(0) { $0 << 8 | Int($1) } } }
        /// Bytes behind their count.
        mutating func vector(_ width: Int) -> ArraySlice<UInt8>? { number(width).flatMap { take($0) } }
    }
}
