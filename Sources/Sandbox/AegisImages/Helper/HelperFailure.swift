import CLinux

/// Why a helper gives up: a code that the daemon passes on, and a text.
struct HelperFailure: Error, Equatable {
    var code: String
    var message: String

    init(_ code: String, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The failure of a system call, by what it means to the user.
    init(errno code: Int32, _ what: String) {
        switch code {
        case Self.noSpace, Self.overQuota: self.init("disk-full", "no space left while \(what)")
        case Self.tooBig: self.init("image-too-large", "a file is larger than the limit, while \(what)")
        default: self.init("unpack-failed", "\(what): error \(code)")
        }
    }

    static let noEntry: Int32 = 2
    static let exists: Int32 = 17
    static let tooBig: Int32 = 27
    static let noSpace: Int32 = 28
    static let overQuota: Int32 = 122
}

/// The value of a call that answers -errno on failure.
@discardableResult
func checked<T: SignedInteger>(_ result: T, _ what: @autoclosure () -> String) throws(HelperFailure) -> T {
    guard result >= 0 else { throw HelperFailure(errno: Int32(-result), what()) }
    return result
}

/// Bytes of a text with an ending NUL, for a C call.
func cString(_ bytes: some Sequence<UInt8>) -> [CChar] { bytes.map { CChar(bitPattern: $0) } + [0] }

/// A path for a message.
func shown(_ path: some Sequence<UInt8>) -> String { String(decoding: Array(path).prefix(200), as: UTF8.self) }

/// A descriptor of a helper or of the store's own work, closed with its owner.
struct Handle: ~Copyable {
    let raw: Int32
    init(_ raw: Int32) { self.raw = raw }
    deinit { al_tree_close(raw) }

    /// Gives up ownership.
    consuming func take() -> Int32 {
        let number = raw
        discard self
        return number
    }
}
