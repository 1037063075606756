package import AegisCore
internal import AegisIO

/// One frame of aegis-stream/1: 8 bytes of header and up to 256 KiB of payload.
///
/// Header: kind u8, flags u8, stream u16, length u32, big-endian. `stream` tells apart several processes on one
/// connection; a connection for one process uses 0.
///
/// | kind | | payload |
/// |---|---|---|
/// | 0 | stdin | bytes, to the process; flag `end` = no more |
/// | 1, 2 | stdout, stderr | bytes, from the process; flag `end` = no more |
/// | 3 | resize | rows u16, columns u16 |
/// | 4 | signal | Linux signal number u8 (1 to 64) |
/// | 5 | exit | status i32 as a shell tells it (128+n when signalled), then optional JSON text; nothing follows |
/// | 6 | error | JSON text of the error body; nothing follows on this stream |
/// | 7 | window | bytes u32 that the other side may send in addition; flags name the stream's direction by kind |
/// | 8 | ack | offset u64: bytes of that stream consumed for good, which the sender need not keep for a resume |
/// | 9 | hello | JSON text; the first frame of each side when the client wants to resume |
/// | 10 | notice | JSON text `{"kind", "text"}` for a waiting person, also before hello: a pull's progress, for example |
package struct StreamFrame: Sendable, Equatable {
    /// What a frame is about.
    package enum Kind: UInt8, Sendable, CaseIterable {
        case stdin = 0, stdout, stderr, resize, signal, exit, error, window, ack, hello, notice

        /// Whether the payload is bytes of a process, which need credit.
        package var isData: Bool { rawValue <= Kind.stderr.rawValue }
    }

    /// Bits of the second byte.
    package struct Flags: OptionSet, Sendable, Hashable {
        package let rawValue: UInt8
        /// Flags from the byte on the wire.
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// This is the last frame of its kind on this stream.
        package static let end = Flags(rawValue: 1)
        /// For window and ack: which data the number is about (bits 1 and 2).
        package static func about(_ kind: Kind) -> Flags { Flags(rawValue: (kind.rawValue & 3) << 1) }
        /// The kind that a window or ack frame is about.
        package var subject: Kind? {
            switch rawValue >> 1 & 3 {
            case 0: .stdin
            case 1: .stdout
            case 2: .stderr
            default: nil
            }
        }
    }

    /// The header in front of a payload.
    package struct Header: Sendable, Equatable {
        /// What the frame is about.
        package var kind: Kind
        /// See `Flags`.
        package var flags: Flags
        /// Which process.
        package var stream: UInt16
        /// Bytes of payload, 0 to `StreamFrame.maximumPayload`.
        package var length: Int
    }

    /// The most bytes of payload: 256 KiB.
    package static let maximumPayload = 256 << 10
    /// The most bytes of text in exit, error and hello frames: 64 KiB.
    package static let maximumText = 64 << 10
    /// Bytes of the header.
    package static let headerSize = 8

    /// What the frame is about.
    package var kind: Kind
    /// See `Flags`.
    package var flags: Flags
    /// Which process.
    package var stream: UInt16
    /// The content.
    package var payload: [UInt8]

    /// Makes a frame as it is.
    package init(_ kind: Kind, stream: UInt16 = 0, flags: Flags = [], payload: [UInt8] = []) {
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    /// The terminal has a new size.
    package static func resize(rows: UInt16, columns: UInt16, stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.resize, stream: stream, payload: BigEndian.bytes(rows) + BigEndian.bytes(columns))
    }
    /// Send a signal (1 to 64) to the process.
    package static func signal(_ number: UInt8, stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.signal, stream: stream, payload: [number])
    }
    /// The process has ended; `detail` is JSON text or empty.
    package static func exit(_ status: Int32, detail: String = "", stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.exit, stream: stream, payload: BigEndian.bytes(UInt32(bitPattern: status)) + Array(detail.utf8))
    }
    /// Aegis failed; the payload is the error body of the REST API.
    package static func error(_ error: AegisError, stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.error, stream: stream, payload: error.jsonBody)
    }
    /// The other side may send that many bytes more of a kind.
    package static func window(_ bytes: UInt32, of kind: Kind, stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.window, stream: stream, flags: .about(kind), payload: BigEndian.bytes(bytes))
    }
    /// All bytes of a kind before an offset are safe.
    package static func ack(_ offset: UInt64, of kind: Kind, stream: UInt16 = 0) -> StreamFrame {
        StreamFrame(.ack, stream: stream, flags: .about(kind), payload: BigEndian.bytes(offset))
    }
    /// The JSON text with which a side begins.
    package static func hello(_ json: String) -> StreamFrame { StreamFrame(.hello, payload: Array(json.utf8)) }
    /// JSON text for a waiting person.
    package static func notice(_ json: String) -> StreamFrame { StreamFrame(.notice, payload: Array(json.utf8)) }

    /// Rows and columns of a resize frame.
    package var size: (rows: UInt16, columns: UInt16)? {
        guard kind == .resize, payload.count == 4 else { return nil }
        return (BigEndian.number(payload[0..<2]), BigEndian.number(payload[2..<4]))
    }
    /// The signal's number.
    package var signalNumber: UInt8? { kind == .signal ? payload.first : nil }
    /// The status of an exit frame.
    package var exitStatus: Int32? {
        kind == .exit && payload.count >= 4 ? Int32(bitPattern: BigEndian.number(payload[0..<4])) : nil
    }
    /// The bytes that a window frame grants.
    package var credit: UInt32? { kind == .window && payload.count == 4 ? BigEndian.number(payload[...]) : nil }
    /// The offset of an ack frame.
    package var offset: UInt64? { kind == .ack && payload.count == 8 ? BigEndian.number(payload[...]) : nil }
    /// The text of a hello, notice or error frame, or the detail of an exit frame.
    package var text: String? {
        switch kind {
        case .hello, .notice, .error: String(validating: payload, as: UTF8.self)
        case .exit where payload.count >= 4: String(validating: payload.dropFirst(4), as: UTF8.self)
        default: nil
        }
    }
}

/// Why frames could not be read or written.
package struct StreamFrameError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The stable word for a cause.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String {
            case malformed = "malformed-frame"
            case closed = "stream-lost"
            case cancelled
            case busy = "stream-busy"
        }
        private var value: Value
        /// The peer, or the caller, made a frame that version 1 does not define.
        package static let malformed = Code(value: .malformed)
        /// The stream ended or failed.
        package static let closed = Code(value: .closed)
        /// The task was cancelled.
        package static let cancelled = Code(value: .cancelled)
        /// Two tasks read at once.
        package static let busy = Code(value: .busy)
        package var description: String { value.rawValue }
    }

    /// The cause.
    package let code: Code
    /// What was wrong.
    package let message: String

    /// Makes an error.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    package var description: String { "aegis-stream: \(message)" }
    /// The same failure in the shape of the rest of Aegis.
    package var aegisError: AegisError {
        AegisError(
            code == .malformed ? .usage : code == .closed ? .unavailable : .failed, code.description, description)
    }
}

extension StreamFrameError {
    /// What a frame failed with when its stream did.
    init(_ error: IOError) {
        self.init(error.kind == .cancelled ? .cancelled : .closed, error.message)
    }
}

/// Numbers in network order.
enum BigEndian {
    static func bytes<Number: FixedWidthInteger & UnsignedInteger>(_ value: Number) -> [UInt8] {
        stride(from: Number.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> Number($0)) }
    }
    static func number<Number: FixedWidthInteger & UnsignedInteger>(_ bytes: ArraySlice<UInt8>) -> Number {
        bytes.reduce(0) { $0 << 8 | Number($1) }
    }
}
