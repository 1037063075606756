internal import CSodium

/// SHA-256, for binding approvals and records to exactly one input.
package enum Fingerprint {
    /// The 64 hexadecimal digits of some bytes.
    ///
    /// - Parameter bytes: what is hashed.
    /// - Returns: small letters and digits.
    package static func hex(of bytes: [UInt8]) -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        // SAFETY: reads `count` bytes, writes 32.
        _ = unsafe crypto_hash_sha256(&digest, bytes, UInt64(bytes.count))
        let digits = Array("0123456789abcdef".utf8)
        var text = [UInt8]()
        text.reserveCapacity(64)
        for byte in digest {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }
}
