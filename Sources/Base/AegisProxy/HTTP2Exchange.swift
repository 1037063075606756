import AegisCore
import AegisIO
import AegisWire

/// A body, or the part of one, that has come and not gone on yet. Its sender's window bounds it.
struct HTTP2Body {
    private(set) var bytes = ByteBuffer()
    /// The sender has said that it is whole.
    var isWhole = false
    /// What follows the bytes.
    var trailers: HTTP2Fields?
    /// Bytes that the sender's connection window still waits for.
    private(set) var owed = 0
    /// Bytes that the sender may send again although they are still here.
    private var prepaid = 0

    /// Takes bytes.
    ///
    /// - Parameters:
    ///   - more: the bytes.
    ///   - proxy: whose memory they take.
    ///   - came: how many have come for them, where some are held back or let out; nil when it is as many.
    /// - Returns: whether the connection may get as many again at once.
    mutating func append(_ more: Span<UInt8>, _ proxy: HTTPProxy, came: Int? = nil) -> Bool {
        if !more.isEmpty {
            if bytes.capacity == 0 { bytes = proxy.pools.takeBuffer() }
            bytes.append(more)
            proxy.heldBytes += more.count
        }
        // Slow streams do not keep others of their connection waiting, unless memory is short.
        guard proxy.heldBytes > proxy.limits.heldBytes else { return true }
        owed += came ?? more.count
        return false
    }

    /// Pays for bytes that somebody holds back until more come: the sender's window must not wait for them.
    ///
    /// - Returns: how many the stream may send again at once.
    mutating func prepay(_ held: Int) -> Int {
        let more = max(0, held - prepaid)
        prepaid += more
        return more
    }

    /// Moves bytes out.
    ///
    /// - Returns: what moved, and how many bytes the sender's stream and its connection are owed.
    mutating func produce(
        into room: UnsafeMutableRawBufferPointer, _ proxy: HTTPProxy
    ) -> (portion: HTTP2Portion, credit: Int, owed: Int) {
        let count = min(room.count, bytes.readableBytes)
        if count > 0 {
            unsafe bytes.withUnsafeReadable { all in
                unsafe room.copyMemory(from: UnsafeRawBufferPointer(rebasing: all[..<count]))
            }
            bytes.consume(count)
            proxy.heldBytes -= count
        }
        let paid = min(owed, count)
        owed -= paid
        let early = min(prepaid, count)
        prepaid -= early
        var next = HTTP2Portion.Next.more
        if bytes.isEmpty {
            proxy.pools.give(&bytes)
            next = !isWhole ? .nothingNow : trailers == nil ? .end : .trailers
        }
        // Nothing now, but something this time: it asks again.
        if next == .nothingNow, count > 0 { next = .more }
        return (HTTP2Portion(count: count, next: next), count - early, paid)
    }

    /// Drops what is left.
    ///
    /// - Returns: how many bytes the sender's connection is owed.
    mutating func drop(_ proxy: HTTPProxy) -> Int {
        proxy.heldBytes -= bytes.readableBytes
        bytes.removeAll()
        proxy.pools.give(&bytes)
        defer { owed = 0 }
        return owed
    }
}

/// One request of a client and its response.
///
/// On the proxy's loop only, hence `@unchecked Sendable`.
final class HTTP2Exchange: @unchecked Sendable {
    /// The client's number for it.
    let id: Int32
    var request: HTTP2Fields
    let isGRPC: Bool
    /// When the call's own time is over; nil when it has none, or when it is none of the relay's business.
    let deadline: UInt64?
    /// Looks at what goes through.
    var screen: (any HTTP2Screen)?
    /// Ends the wait for the server at that time.
    var timer: TaskScope.Handle?
    /// The server's connection and number for it, once it has been passed on.
    var server: HTTP2Server?
    var serverID: Int32 = 0
    /// The server has closed its stream.
    var isServerDone = false
    /// The answer comes from here.
    var isOurs = false
    /// A final response has been begun.
    var isAnswered = false
    /// The response has been sent to its end.
    var isFinished = false
    /// It was to go over a connection that took no more requests.
    var wasUnsent = false
    var up = HTTP2Body()
    var down = HTTP2Body()

    init(_ id: Int32, _ request: HTTP2Fields, isWhole: Bool, now: UInt64, isTimed: Bool) {
        self.id = id
        self.request = request
        up.isWhole = isWhole
        isGRPC = request.text("content-type")?.hasPrefix("application/grpc") == true
        deadline = (isTimed ? request.text("grpc-timeout") : nil).flatMap(GRPC.nanoseconds).map { span in
            let (end, isBeyond) = now.addingReportingOverflow(span)
            return isBeyond ? .max : end
        }
    }
}

/// What gRPC says over HTTP/2 that a relay has to speak itself.
enum GRPC {
    /// `grpc-timeout`: at most eight digits and a unit.
    ///
    /// - Returns: nanoseconds; nil when it is none.
    static func nanoseconds(_ text: String) -> UInt64? {
        let digits = text.utf8.dropLast()
        guard (1...8).contains(digits.count), digits.allSatisfy({ (48...57).contains($0) }),
            let count = UInt64(text.dropLast())
        else { return nil }
        let unit: UInt64
        switch text.utf8.last {
        case UInt8(ascii: "H"): unit = 3_600_000_000_000
        case UInt8(ascii: "M"): unit = 60_000_000_000
        case UInt8(ascii: "S"): unit = 1_000_000_000
        case UInt8(ascii: "m"): unit = 1_000_000
        case UInt8(ascii: "u"): unit = 1000
        case UInt8(ascii: "n"): unit = 1
        default: return nil
        }
        // Eight digits of hours are more than there are nanoseconds to count.
        let (span, isBeyond) = count.multipliedReportingOverflow(by: unit)
        return isBeyond ? .max : span
    }

    /// The same the other way, rounded up.
    static func timeout(_ nanoseconds: UInt64) -> String {
        let micros = (nanoseconds + 999) / 1000
        if micros < 100_000_000 { return "\(micros)u" }
        let millis = (micros + 999) / 1000
        if millis < 100_000_000 { return "\(millis)m" }
        return "\(min(99_999_999, (millis + 999) / 1000))S"
    }

    /// The status that a call ends with, as its trailers.
    static func status(_ error: AegisError) -> KeyValuePairs<String, String> {
        let code =
            switch error.kind {
            case .denied: "7"  // PERMISSION_DENIED
            case .tooLarge: "8"  // RESOURCE_EXHAUSTED
            default: "14"  // UNAVAILABLE
            }
        let text = error.hint.map { "\(error.message) (\(error.code); \($0))" } ?? "\(error.message) (\(error.code))"
        return ["grpc-status": code, "grpc-message": escaped(text)]
    }

    /// Percent-encodes what `grpc-message` cannot hold.
    static func escaped(_ text: String) -> String {
        var out: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        // A section has a limit at the other end, too.
        for byte in text.utf8.prefix(1024) {
            if (32..<127).contains(byte), byte != UInt8(ascii: "%") {
                out.append(byte)
            } else {
                out += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
