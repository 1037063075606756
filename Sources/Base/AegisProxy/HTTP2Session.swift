import AegisIO
import AegisWire
import CNghttp2

/// What a session tells its owner, always from inside `receive` or `produce`.
protocol HTTP2Events: AnyObject {
    /// A header or trailer section is whole.
    func headers(_ stream: Int32, _ section: HTTP2Fields, ends: Bool)
    /// A part of a body has come; the sender's window stays smaller by it until it is consumed.
    func data(_ stream: Int32, _ bytes: Span<UInt8>)
    /// The peer's body is over.
    func ended(_ stream: Int32)
    /// Our side of the stream has been sent to its end.
    func finished(_ stream: Int32)
    /// The stream is over in both directions.
    func closed(_ stream: Int32, code: UInt32)
    /// The request cannot be sent on this connection.
    func unsent(_ stream: Int32)
    /// The peer takes no more requests.
    func goaway()
    /// A section breaks the protocol's rules, and its stream is reset; this is what came before the fault.
    func invalid(_ stream: Int32, _ section: HTTP2Fields)
    /// Fills room with a body's next bytes.
    func produce(_ stream: Int32, into room: UnsafeMutableRawBufferPointer) -> HTTP2Portion
}

/// A part of a body that goes out.
struct HTTP2Portion {
    enum Next: Int32 {
        case more = 0
        /// These are the last.
        case end = 1
        /// Trailers follow.
        case trailers = 2
        /// Nothing is there at present; `resume` tells that something is.
        case nothingNow = 3
    }
    var count: Int
    var next: Next
}

/// One side of an HTTP/2 connection: nghttp2 frames and checks, nothing here reads or writes.
///
/// It belongs to one loop's thread (hence `@unchecked Sendable`). Windows open only as bytes are consumed.
@safe final class HTTP2Session: @unchecked Sendable {
    /// The kinds of sections that can be sent.
    enum Section: Int {
        case request, response, interim, trailers
        fileprivate var code: Int32 { Int32(rawValue) }
    }

    private let handle: UnsafeMutablePointer<al_h2>
    weak var events: (any HTTP2Events)?
    private let limits: HTTPLimits
    private var section = HTTP2Fields()
    /// A header section has begun and is not whole.
    private(set) var isInSection = false

    /// A session whose settings are queued.
    ///
    /// - Returns: nil when there is no memory.
    init?(isServer: Bool, limits: ProxyLimits) {
        self.limits = limits.message
        let none: UnsafeMutableRawPointer? = nil
        guard let made = unsafe al_h2_new(isServer ? 1 : 0, HTTP2Calls.table, none) else { return nil }
        unsafe handle = made
        unsafe handle.pointee.user = Unmanaged.passUnretained(self).toOpaque()
        _ = unsafe al_h2_settings(
            handle, UInt32(limits.streams), UInt32(limits.streamWindow), Int32(limits.connectionWindow),
            UInt32(limits.message.headerSection))
    }

    deinit { unsafe al_h2_free(handle) }

    /// Takes bytes of the peer.
    ///
    /// - Returns: nil, or why the connection cannot go on.
    func receive(_ bytes: ArraySlice<UInt8>) -> String? {
        let result = unsafe bytes.withUnsafeBufferPointer { unsafe al_h2_receive(handle, $0.baseAddress, $0.count) }
        guard result < 0 else { return nil }
        return unsafe String(cString: al_h2_problem(result))
    }

    /// Appends what is to be sent, about as much as asked for.
    ///
    /// - Returns: false when the session is beyond repair.
    func produce(into out: inout ByteBuffer, about limit: Int) -> Bool {
        while out.readableBytes < limit {
            var bytes: UnsafePointer<UInt8>?
            let count = unsafe al_h2_produce(handle, &bytes)
            guard count > 0 else { return count == 0 }
            let all = unsafe UnsafeBufferPointer(start: bytes, count: count)
            out.append(unsafe Span(_unsafeElements: all))
        }
        return true
    }

    /// Queues a section.
    ///
    /// - Returns: the stream, a new one for a request; nil when it cannot be.
    @discardableResult
    func submit(_ kind: Section, _ stream: Int32 = 0, _ fields: HTTP2Fields, ends: Bool = false) -> Int32? {
        let result = unsafe fields.bytes.withUnsafeBufferPointer { bytes in
            unsafe fields.places.withUnsafeBufferPointer { places in
                unsafe al_h2_submit(
                    handle, kind.code, stream, bytes.baseAddress, places.baseAddress, places.count, ends ? 1 : 0)
            }
        }
        return result < 0 ? nil : result
    }

    /// There are bytes again, or the end, for a stream that had none.
    func resume(_ stream: Int32) { unsafe al_h2_resume(handle, stream) }
    func reset(_ stream: Int32, _ code: HTTP2Code) { unsafe al_h2_reset(handle, stream, code.rawValue) }
    /// Lets the sender of a stream send as much again.
    func consume(_ count: Int, of stream: Int32) { unsafe al_h2_consume_stream(handle, stream, count) }
    /// Lets the peer send as much again on any stream.
    func consume(_ count: Int) { unsafe al_h2_consume_connection(handle, count) }
    func goaway(_ code: HTTP2Code) { unsafe al_h2_goaway(handle, code.rawValue) }
    /// Frames that wait to be sent.
    var queued: Int { unsafe al_h2_queued(handle) }
    var isAlive: Bool { unsafe al_h2_lives(handle) != 0 }
    /// The peer has sent its settings: it speaks the protocol.
    var hasGreeted: Bool { unsafe handle.pointee.has_settings != 0 }
    var takesRequests: Bool { unsafe al_h2_takes_requests(handle) != 0 }

    // MARK: What nghttp2 tells

    fileprivate func begin() {
        section.removeAll()
        isInSection = true
    }
    fileprivate func field(
        _ name: UnsafeBufferPointer<UInt8>, _ value: UnsafeBufferPointer<UInt8>, _ neverIndex: Bool
    ) {
        unsafe section.add(name: name, value: value, neverIndex: neverIndex, limits: limits)
    }
    fileprivate func invalid(_ stream: Int32) {
        isInSection = false
        events?.invalid(stream, section)
    }
    fileprivate func headers(_ stream: Int32, ends: Bool) {
        isInSection = false
        events?.headers(stream, section, ends: ends)
    }
}

/// The error codes of RFC 9113, 7, as they are: a peer's own go on unchanged.
struct HTTP2Code: RawRepresentable, Equatable {
    let rawValue: UInt32
    static let none = HTTP2Code(rawValue: 0)
    static let internalError = HTTP2Code(rawValue: 2)
    static let refused = HTTP2Code(rawValue: 7)
    static let cancel = HTTP2Code(rawValue: 8)
}

/// The table of C functions through which nghttp2 calls sessions.
@safe private enum HTTP2Calls {
    // SAFETY: written once before anybody reads it, and never freed.
    nonisolated(unsafe) static let table: UnsafePointer<al_h2_events> = {
        let table = UnsafeMutablePointer<al_h2_events>.allocate(capacity: 1)
        unsafe table.initialize(to: make())
        return unsafe UnsafePointer(table)
    }()

    private static func make() -> al_h2_events {
        unsafe al_h2_events(
            begin: { user, _ in unsafe session(user)?.begin() },
            field: { user, _, name, nameCount, value, valueCount, neverIndex in
                unsafe session(user)?.field(
                    UnsafeBufferPointer(start: name, count: nameCount),
                    UnsafeBufferPointer(start: value, count: valueCount), neverIndex != 0)
            },
            headers: { user, stream, ends in unsafe session(user)?.headers(stream, ends: ends != 0) },
            data: { user, stream, bytes, count in
                unsafe session(user)?.events?.data(
                    stream, Span(_unsafeElements: UnsafeBufferPointer(start: bytes, count: count)))
            },
            ended: { user, stream in unsafe session(user)?.events?.ended(stream) },
            finished: { user, stream in unsafe session(user)?.events?.finished(stream) },
            closed: { user, stream, code in unsafe session(user)?.events?.closed(stream, code: code) },
            unsent: { user, stream in unsafe session(user)?.events?.unsent(stream) },
            goaway: { user in unsafe session(user)?.events?.goaway() },
            invalid: { user, stream in unsafe session(user)?.invalid(stream) },
            produce: { user, stream, room, count, ends in
                let buffer = unsafe UnsafeMutableRawBufferPointer(start: room, count: count)
                guard let portion = unsafe session(user)?.events?.produce(stream, into: buffer) else {
                    unsafe ends?.pointee = HTTP2Portion.Next.nothingNow.rawValue
                    return 0
                }
                unsafe ends?.pointee = portion.next.rawValue
                return portion.count
            })
    }
}

/// SAFETY: `user` is the session, which is alive while it receives or produces.
private func session(_ user: UnsafeMutableRawPointer?) -> HTTP2Session? {
    unsafe user.map { unsafe Unmanaged<HTTP2Session>.fromOpaque($0).takeUnretainedValue() }
}
