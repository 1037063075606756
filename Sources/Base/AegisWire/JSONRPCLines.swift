internal import AegisIO

/// Cuts bytes into lines, with a bound: what is longer is told once and skipped to its end.
struct JSONRPCLines: Sendable {
    enum Line: Sendable, Equatable {
        case line([UInt8])
        case tooLong
    }

    /// The longest line in bytes, without its end.
    let limit: Int
    /// How far the waiting bytes have been searched.
    private var searched = 0
    private var isSkipping = false

    init(limit: Int) { self.limit = limit }

    /// Takes the next line; nil when none is whole yet.
    ///
    /// - Parameters:
    ///   - buffer: what came and was not used.
    ///   - ended: nothing more comes: what is left is a line too.
    /// - Returns: never a line without anything but white space.
    mutating func next(in buffer: inout ByteBuffer, ended: Bool) -> Line? {
        while true {
            guard let end = buffer.firstOffset(of: 10, from: searched) else {
                searched = buffer.readableBytes
                return rest(of: &buffer, ended: ended)
            }
            searched = 0
            if isSkipping {
                isSkipping = false
                buffer.consume(end + 1)
            } else if end > limit {
                buffer.consume(end + 1)
                return .tooLong
            } else {
                let line = buffer.take(end)
                buffer.consume(1)
                if !Self.isBlank(line) { return .line(line) }
            }
        }
    }

    private mutating func rest(of buffer: inout ByteBuffer, ended: Bool) -> Line? {
        if isSkipping {
            buffer.removeAll()
            searched = 0
            return nil
        }
        if searched > limit {
            buffer.removeAll()
            searched = 0
            isSkipping = true
            return .tooLong
        }
        guard ended, searched > 0 else { return nil }
        searched = 0
        let line = buffer.takeAll()
        return Self.isBlank(line) ? nil : .line(line)
    }

    private static func isBlank(_ line: [UInt8]) -> Bool { line.allSatisfy { $0 == 32 || $0 == 9 || $0 == 13 } }
}
