import CSodium

/// A content address: `sha256:` and 64 lower-case hexadecimal digits.
package struct Digest: Sendable, Hashable, CustomStringConvertible {
    /// The 64 hexadecimal digits.
    package let hex: String

    /// Reads `sha256:HEX`; nil for anything else.
    package init?(_ text: String) {
        guard text.hasPrefix("sha256:") else { return nil }
        self.init(hex: String(text.dropFirst(7)))
    }
    /// Takes 64 lower-case hexadecimal digits; nil for anything else.
    package init?(hex: String) {
        guard hex.utf8.count == 64, hex.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }) else {
            return nil
        }
        self.hex = hex
    }
    /// The address of some bytes.
    package init(of bytes: some Sequence<UInt8>) {
        var hasher = DigestHasher()
        hasher.update(Array(bytes))
        self = hasher.finish()
    }
    fileprivate init(bytes: [UInt8]) {
        hex = bytes.reduce(into: "") { text, byte in
            text += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }
    }

    package var description: String { "sha256:\(hex)" }
}

/// SHA-256 of a stream, by libsodium.
struct DigestHasher: ~Copyable {
    private var state = crypto_hash_sha256_state()

    init() { unsafe crypto_hash_sha256_init(&state) }  // SAFETY: the call fills the whole state

    /// Takes the next bytes.
    mutating func update(_ bytes: [UInt8]) {
        unsafe bytes.withUnsafeBufferPointer { unsafe update($0.baseAddress, $0.count) }
    }
    /// Takes the next bytes from memory that is valid during the call.
    mutating func update(_ start: UnsafePointer<UInt8>?, _ count: Int) {
        guard let start = unsafe start, count > 0 else { return }
        unsafe crypto_hash_sha256_update(&state, start, UInt64(count))  // SAFETY: reads `count` bytes at `start`
    }
    /// The digest of all bytes taken.
    consuming func finish() -> Digest {
        var out = [UInt8](repeating: 0, count: 32)
        unsafe crypto_hash_sha256_final(&state, &out)  // SAFETY: writes 32 bytes
        return Digest(bytes: out)
    }
}
