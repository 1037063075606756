internal import AegisCore
internal import CSodium

/// The two keys that a passphrase makes: one for the stream, one for the check of the header.
struct BackupKey {
    /// What guessing one passphrase costs (Argon2id).
    struct Cost: Equatable {
        var passes: UInt64
        /// In bytes.
        var memory: UInt64
        /// libsodium's "moderate": about 0.7 s and 256 MiB.
        static let usual = Cost(passes: 3, memory: 256 << 20)
        /// Whether a file may ask for it: one that was made to harm could ask for all memory and all day.
        var isBearable: Bool { (1...16).contains(passes) && (8192...(1 << 30)).contains(memory) }
    }

    private(set) var stream: [UInt8]
    private var check: [UInt8]

    /// Makes the keys; takes the time that `cost` says.
    ///
    /// - Throws: `backup-memory` when there is not enough of it.
    init(_ passphrase: Secret<[UInt8]>, salt: [UInt8], cost: Cost) throws(AegisError) {
        guard sodium_init() >= 0 else { throw Self.noMemory(cost) }
        var keys = [UInt8](repeating: 0, count: AL_STREAM_KEY_BYTES + BackupHeader.checkBytes)
        defer { SecretKey.wipe(&keys) }
        let words = passphrase.reveal()
        // SAFETY: every pointer is valid for the call and has the length that is given beside it; the salt's is fixed.
        let code = unsafe words.withUnsafeBufferPointer { words in
            unsafe words.withMemoryRebound(to: CChar.self) { words -> Int32 in
                guard let base = words.baseAddress else { return -1 }
                return unsafe crypto_pwhash(
                    &keys, UInt64(keys.count), base, UInt64(words.count), salt, cost.passes, Int(cost.memory),
                    Int32(AL_PWHASH_ARGON2ID13))
            }
        }
        guard code == 0 else { throw Self.noMemory(cost) }
        stream = Array(keys.prefix(AL_STREAM_KEY_BYTES))
        check = Array(keys.suffix(BackupHeader.checkBytes))
    }

    /// What only who knows the passphrase can say of these bytes.
    func check(of bytes: [UInt8]) -> [UInt8] { Self.hash(bytes, key: check) }

    /// Compares in a time that does not depend on where two values differ.
    static func same(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        guard a.count == b.count else { return false }
        return unsafe sodium_memcmp(a, b, a.count) == 0
    }

    /// BLAKE2b of bytes.
    static func hash(_ bytes: [UInt8], key: [UInt8] = []) -> [UInt8] {
        var hash = [UInt8](repeating: 0, count: BackupHeader.checkBytes)
        unsafe crypto_generichash(&hash, hash.count, bytes, UInt64(bytes.count), key, key.count)
        return hash
    }

    /// Random bytes for a salt.
    static func salt() -> [UInt8] {
        var salt = [UInt8](repeating: 0, count: AL_PWHASH_SALT_BYTES)
        unsafe randombytes_buf(&salt, salt.count)
        return salt
    }

    /// Overwrites the keys.
    mutating func wipe() {
        SecretKey.wipe(&stream)
        SecretKey.wipe(&check)
    }

    private static func noMemory(_ cost: Cost) -> AegisError {
        .failed(
            "backup-memory", "no \(cost.memory >> 20) MiB of memory to make the key from the passphrase",
            hint: "try again when more is free")
    }
}
