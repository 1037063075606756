package import AegisCore
internal import COpenSSL
internal import Synchronization

/// A certificate authority in memory: its key is written nowhere in the clear, and is overwritten at its end.
///
/// It makes certificates for servers as they are asked for, and remembers the last ones used.
@safe
package final class CertificateAuthority: @unchecked Sendable {
    private struct Entry {
        var leaf: TLSLeaf
        /// Seconds since 1970 from which a new one is made.
        var renewal: Int64
        var use: UInt64
    }
    private struct Cache {
        var leaves: [String: Entry] = [:]
        var uses: UInt64 = 0
    }

    /// SAFETY: not changed after `init`, and freed in `deinit`. That, and the lock, make this `@unchecked Sendable`.
    private let raw: OpaquePointer
    /// The certificate, for those who are to trust it.
    package let certificate: String
    private let cache = Mutex(Cache())
    private let limit: Int
    private let now: @Sendable () -> Timestamp

    /// How long it is valid, in seconds.
    private static var lifetime: Int64 { 10 * 365 * 86_400 }
    /// How long a server's certificate is valid, in seconds: 7 days.
    private static var leafLifetime: Int64 { 7 * 86_400 }
    /// How far a client's clock may be behind, in seconds: a day.
    private static var skew: Int64 { 86_400 }

    /// Makes an authority.
    ///
    /// - Parameters:
    ///   - name: its subject; 64 bytes at most are shown.
    ///   - limit: how many servers' certificates are kept.
    ///   - now: whose time certificates are made by.
    /// - Throws: `tls-failed` when the library makes no key.
    package init(
        name: String, limit: Int = 256, now: @escaping @Sendable () -> Timestamp = { .now() }
    ) throws(TLSError) {
        var problem = al_tls_problem()
        let start = now().milliseconds / 1000
        let made = unsafe al_tls_authority_new(name, start - Self.skew, start + Self.lifetime, &problem)
        guard let raw = unsafe made else { throw TLSError(TLSProblem(problem), host: nil) }
        unsafe self.raw = raw
        self.limit = max(1, limit)
        self.now = now
        certificate = unsafe pemText { unsafe al_tls_authority_pem(raw, $0, $1) }
    }

    /// Makes an authority that was made before.
    ///
    /// - Parameters:
    ///   - certificate: its certificate.
    ///   - key: its private key, as `privateKey` gave it.
    ///   - limit: how many servers' certificates are kept.
    ///   - now: whose time certificates are made by.
    /// - Throws: `tls-failed` when one of them cannot be read, or they do not belong together.
    package init(
        certificate: String, key: Secret<[UInt8]>, limit: Int = 256,
        now: @escaping @Sendable () -> Timestamp = { .now() }
    ) throws(TLSError) {
        var problem = al_tls_problem()
        let (pem, der) = (Array(certificate.utf8).map(CChar.init(bitPattern:)), key.reveal())
        guard pem.count < 1 << 20, der.count < 1 << 20,
            let raw = unsafe al_tls_authority_load(pem, pem.count, der, der.count, &problem)
        else { throw TLSError(TLSProblem(problem), host: nil) }
        unsafe self.raw = raw
        self.limit = max(1, limit)
        self.now = now
        self.certificate = unsafe pemText { unsafe al_tls_authority_pem(raw, $0, $1) }
    }

    deinit { unsafe al_tls_authority_free(raw) }

    /// Its private key, to be kept where nobody else reads it; empty when the library does not give it.
    package var privateKey: Secret<[UInt8]> {
        let raw = unsafe raw
        var room = [UInt8](repeating: 0, count: 4096)
        let length = unsafe room.withUnsafeMutableBufferPointer {
            unsafe al_tls_authority_key(raw, $0.baseAddress, $0.count)
        }
        return Secret(Array(room.prefix(length <= room.count ? length : 0)))
    }

    /// How many servers' certificates are kept at present.
    package var cachedLeaves: Int { cache.withLock { $0.leaves.count } }

    /// A certificate with its key for a server.
    ///
    /// - Parameter name: a DNS name in lower case without a final dot, or a numeric address.
    /// - Returns: one that is valid for 3 days at least.
    /// - Throws: `tls-failed` for a name that cannot stand in a certificate.
    package func leaf(for name: String) throws(TLSError) -> TLSLeaf {
        let time = now().milliseconds / 1000
        let known = cache.withLock { cache -> TLSLeaf? in
            cache.uses += 1
            guard let entry = cache.leaves[name], entry.renewal > time else { return nil }
            cache.leaves[name]?.use = cache.uses
            return entry.leaf
        }
        if let known { return known }
        guard !name.isEmpty, name.utf8.count <= 253, name.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            throw TLSError(.failed, "a certificate cannot be made for such a name")
        }
        let leaf = try makeLeaf(name, time)
        cache.withLock { cache in
            cache.leaves[name] = Entry(leaf: leaf, renewal: time + Self.leafLifetime / 2, use: cache.uses)
            guard cache.leaves.count > limit else { return }
            if let oldest = cache.leaves.min(by: { $0.value.use < $1.value.use }) {
                cache.leaves.removeValue(forKey: oldest.key)
            }
        }
        return leaf
    }

    private func makeLeaf(_ name: String, _ time: Int64) throws(TLSError) -> TLSLeaf {
        var problem = al_tls_problem()
        let made = unsafe al_tls_leaf_new(
            raw, name, isNumericAddress(name) ? 1 : 0, time - Self.skew, time + Self.leafLifetime, &problem)
        guard let leaf = unsafe made else { throw TLSError(TLSProblem(problem), host: nil) }
        return unsafe TLSLeaf(leaf)
    }
}

/// A server's certificate with its key; it does not change (hence `@unchecked Sendable`).
@safe
package final class TLSLeaf: @unchecked Sendable {
    /// SAFETY: freed in `deinit`.
    let raw: OpaquePointer

    init(_ raw: OpaquePointer) { unsafe self.raw = raw }
    deinit { unsafe al_tls_leaf_free(raw) }

    /// The certificate.
    package var certificate: String {
        let raw = unsafe raw
        return unsafe pemText { unsafe al_tls_leaf_pem(raw, $0, $1) }
    }
}

/// A text that a call writes when it has room enough, and whose length it tells.
private func pemText(_ write: (UnsafeMutablePointer<CChar>?, Int) -> Int) -> String {
    var room = [CChar](repeating: 0, count: 4096)
    let length = unsafe room.withUnsafeMutableBufferPointer { unsafe write($0.baseAddress, $0.count) }
    return String(decoding: room.prefix(min(length, room.count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
}

/// Whether a host is written as an address and not as a name.
func isNumericAddress(_ host: String) -> Bool {
    if host.contains(":") { return true }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { !$0.isEmpty && $0.utf8.allSatisfy { (48...57).contains($0) } }
}
