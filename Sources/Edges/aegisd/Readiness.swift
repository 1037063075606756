internal import AegisAPI
internal import AegisCore
internal import Glibc
internal import LinuxSys

/// Tells whoever started the daemon (`aegis up`, a service manager) that it is ready, or why it is not.
///
/// The starter names a descriptor in AEGIS_READY_FD; it gets the line `ready`, or the error as JSON.
final class Readiness: Sendable {
    private let descriptor: Int32?

    init() { descriptor = environmentValue("AEGIS_READY_FD").flatMap { Int32($0) }.flatMap { $0 > 2 ? $0 : nil } }

    func ready() { finish("ready\n") }

    func fail(_ error: AegisError) {
        say("aegisd: \(error)")
        finish((try? JSONBody.encode(Failure(error))).map { String(decoding: $0, as: UTF8.self) } ?? "\(error)\n")
    }

    /// The error with its kind, so that the starter ends with the same exit code.
    private struct Failure: Encodable {
        struct Fields: Encodable {
            var code: String
            var hint: String?
            var kind: String
            var message: String
        }
        var error: Fields
        init(_ error: AegisError) {
            self.error = Fields(
                code: error.code, hint: error.hint, kind: error.kind.rawValue, message: error.message)
        }
    }

    private func finish(_ text: String) {
        guard let descriptor else { return }
        let owned = FileDescriptor(owning: descriptor)
        try? owned.writeAll(Array(text.utf8)[...])
    }
}
