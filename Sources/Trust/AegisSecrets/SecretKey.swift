internal import AegisCore
internal import CSodium

/// The store's key, in memory that is never swapped or dumped and cannot be written any more.
///
/// It hands out uses, never its bytes (decision D30); `withBytes` exists for the one moment when the file is written.
@safe final class SecretKey: @unchecked Sendable {
    static let count = AL_XCHACHA_KEY_BYTES
    private static let nonceCount = AL_XCHACHA_NONCE_BYTES
    private static let tagCount = AL_XCHACHA_TAG_BYTES
    /// First byte of everything sealed, so that another cipher can follow one day.
    private static let version: UInt8 = 1

    // SAFETY (also of @unchecked Sendable): allocated and filled in init, read-only by mprotect from there on, freed in deinit.
    private let memory: UnsafeMutableRawPointer

    /// Takes key bytes over: the array that the caller gives is wiped.
    convenience init(taking bytes: inout [UInt8]) throws(AegisError) {
        precondition(bytes.count == Self.count, "the caller has checked the size")
        try unsafe self.init { unsafe $0.copyMemory(from: bytes, byteCount: Self.count) }
        Self.wipe(&bytes)
    }

    /// Makes a new random key.
    convenience init() throws(AegisError) {
        try unsafe self.init { unsafe randombytes_buf($0, Self.count) }
    }

    private init(fill: (UnsafeMutableRawPointer) -> Void) throws(AegisError) {
        // sodium_malloc puts guard pages around the key and excludes it from core dumps; it locks it too, but does not
        // tell when that failed, so it is locked once more.
        guard sodium_init() >= 0, let memory = unsafe sodium_malloc(Self.count) else {
            throw .failed("secret-memory", "no protected memory for the key of the secret store")
        }
        unsafe self.memory = unsafe memory
        guard unsafe sodium_mlock(memory, Self.count) == 0 else {
            throw .failed(
                "secret-memory", "the key of the secret store cannot be locked in memory",
                hint: "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=) to at least 64 KiB")
        }
        unsafe fill(memory)
        unsafe sodium_mprotect_readonly(memory)
    }

    deinit { unsafe sodium_free(memory) }

    /// Lends the key's bytes.
    func withBytes<T>(_ body: (UnsafeRawBufferPointer) throws(AegisError) -> T) throws(AegisError) -> T {
        try unsafe body(UnsafeRawBufferPointer(start: memory, count: Self.count))
    }

    /// Encrypts under a random nonce; only `open` with the same label opens it.
    func seal(_ plain: [UInt8], label: String) -> [UInt8] {
        let header = 1 + Self.nonceCount
        var sealed = [UInt8](repeating: Self.version, count: header + plain.count + Self.tagCount)
        let label = Array(label.utf8)
        // SAFETY: `sealed` has room for nonce, text and tag; the function writes exactly the last two behind the nonce.
        unsafe sealed.withUnsafeMutableBufferPointer { out in
            guard let base = out.baseAddress else { return }
            let nonce = unsafe base + 1
            unsafe randombytes_buf(nonce, Self.nonceCount)
            unsafe crypto_aead_xchacha20poly1305_ietf_encrypt(
                base + header, nil, plain, UInt64(plain.count), label, UInt64(label.count), nil, nonce,
                memory.assumingMemoryBound(to: UInt8.self))
        }
        return sealed
    }

    /// Decrypts; nil when key, label or a single bit is not the one that it was sealed with.
    func open(_ sealed: [UInt8], label: String) -> [UInt8]? {
        let header = 1 + Self.nonceCount
        guard sealed.count >= header + Self.tagCount, sealed[0] == Self.version else { return nil }
        var plain = [UInt8](repeating: 0, count: sealed.count - header - Self.tagCount)
        let label = Array(label.utf8)
        // SAFETY: `plain` has room for the text; the function writes nothing when the tag is wrong.
        let code = unsafe sealed.withUnsafeBufferPointer { bytes -> Int32 in
            guard let base = bytes.baseAddress else { return -1 }
            return unsafe plain.withUnsafeMutableBufferPointer { out in
                unsafe crypto_aead_xchacha20poly1305_ietf_decrypt(
                    out.baseAddress, nil, nil, base + header, UInt64(bytes.count - header), label, UInt64(label.count),
                    base + 1, memory.assumingMemoryBound(to: UInt8.self))
            }
        }
        return code == 0 ? plain : nil
    }

    /// Overwrites bytes in a way that the compiler does not remove.
    static func wipe(_ bytes: inout [UInt8]) {
        unsafe bytes.withUnsafeMutableBytes { unsafe sodium_memzero($0.baseAddress, $0.count) }
    }
}
