internal import COpenSSL

/// What sessions of one kind have in common; it does not change (hence `@unchecked Sendable`).
@safe
final class TLSSettings: @unchecked Sendable {
    /// SAFETY: freed in `deinit`; OpenSSL counts the sessions that use it.
    let raw: OpaquePointer

    init(serving protocols: [String]) throws(TLSError) {
        var problem = al_tls_problem()
        let list = try Self.wire(protocols)
        guard let raw = unsafe al_tls_server_settings(list, list.count, &problem) else {
            throw TLSError(TLSProblem(problem), host: nil)
        }
        unsafe self.raw = raw
    }

    /// What clients have in common, with the certificates of a text to trust, and those of the system's store.
    init(trusting pem: [UInt8]?, andSystem system: Bool, _ protocols: [String]) throws(TLSError) {
        var problem = al_tls_problem()
        let list = try Self.wire(protocols)
        let made: OpaquePointer?
        if let pem {
            unsafe made = pem.withUnsafeBytes { bytes in
                unsafe al_tls_client_settings(
                    bytes.assumingMemoryBound(to: CChar.self).baseAddress, bytes.count, system ? 1 : 0, list,
                    list.count,
                    &problem)
            }
        } else {
            unsafe made = al_tls_client_settings(nil, 0, system ? 1 : 0, list, list.count, &problem)
        }
        guard let raw = unsafe made else {
            throw TLSError(.failed, "no trusted certificates: \(TLSProblem(problem).text)")
        }
        unsafe self.raw = raw
    }

    deinit { unsafe al_tls_settings_free(raw) }

    /// Protocols as ALPN writes them, each behind its length.
    static func wire(_ protocols: [String]) throws(TLSError) -> [UInt8] {
        var out: [UInt8] = []
        for name in protocols {
            guard (1...32).contains(name.utf8.count) else { throw TLSError(.failed, "'\(name)' is no protocol's name") }
            out.append(UInt8(name.utf8.count))
            out += Array(name.utf8)
        }
        return out
    }

    /// The same the other way; a name that is not whole is left out.
    static func names(_ list: [UInt8]) -> [String] {
        var out: [String] = []
        var place = 0
        while place < list.count {
            let end = place + 1 + Int(list[place])
            guard end <= list.count else { break }
            out.append(String(decoding: list[place + 1..<end], as: UTF8.self))
            place = end
        }
        return out
    }
}
