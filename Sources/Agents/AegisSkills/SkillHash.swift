import CSodium

/// SHA-256 as 64 hexadecimal digits.
enum SkillHash {
    static func of(_ bytes: [UInt8]) -> String {
        var out = [UInt8](repeating: 0, count: 32)
        // SAFETY: reads `count` bytes of the array and writes 32.
        _ = unsafe crypto_hash_sha256(&out, bytes, UInt64(bytes.count))
        return out.reduce(into: "") { text, byte in
            text += String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
        }
    }

    /// Of a folder's files: what they are called and what is in them, so that any change makes another hash.
    static func of(_ files: [SkillFile]) -> String {
        var bytes: [UInt8] = []
        for file in files {
            bytes.append(contentsOf: file.path.utf8)
            bytes.append(0)
            bytes.append(contentsOf: file.hash.utf8)
            bytes.append(10)
        }
        return of(bytes)
    }
}
