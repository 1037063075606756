package import AegisCore
internal import CSodium
internal import LinuxSys

/// The public half of a ledger's key, which checks signatures.
package struct LedgerPublicKey: Hashable, Sendable, CustomStringConvertible {
    let bytes: [UInt8]

    init?(bytes: [UInt8]) {
        guard bytes.count == AL_SIGN_PUBLIC_BYTES else { return nil }
        self.bytes = bytes
    }

    /// Reads `ed25519:` and 64 hexadecimal digits, or the digits alone.
    ///
    /// - Throws: `invalid-argument` with the right form.
    package init(parsing text: String) throws(AegisError) {
        let digits = text.hasPrefix("ed25519:") ? String(text.dropFirst(8)) : text
        guard let bytes = Hex.bytes(digits), let key = LedgerPublicKey(bytes: bytes) else {
            throw .usage(
                "'\(text)' is not the key of a ledger", hint: "write ed25519:… as 'aegis audit head' prints it")
        }
        self = key
    }

    package var description: String { "ed25519:\(Hex.text(bytes))" }

    /// Whether a text was signed with the other half.
    func verify(_ signature: [UInt8], of text: [UInt8]) -> Bool {
        guard signature.count == AL_SIGN_BYTES else { return false }
        return unsafe crypto_sign_verify_detached(signature, text, UInt64(text.count), bytes) == 0
    }
}

/// The key that signs checkpoints and seals, in memory that is never swapped or dumped.
@safe package final class LedgerKey: @unchecked Sendable {
    // SAFETY (also of @unchecked Sendable): allocated and filled in init, read-only by mprotect from there on, freed in deinit.
    private let memory: UnsafeMutableRawPointer
    /// The half that anybody may know.
    package let publicKey: LedgerPublicKey

    private init(seed: [UInt8]) throws(AegisError) {
        guard sodium_init() >= 0, let memory = unsafe sodium_malloc(AL_SIGN_SECRET_BYTES) else {
            throw .failed("audit-key", "no protected memory for the key of the ledger")
        }
        unsafe self.memory = unsafe memory
        var known = [UInt8](repeating: 0, count: AL_SIGN_PUBLIC_BYTES)
        unsafe crypto_sign_seed_keypair(&known, memory.assumingMemoryBound(to: UInt8.self), seed)
        unsafe sodium_mprotect_readonly(memory)
        guard let key = LedgerPublicKey(bytes: known) else { preconditionFailure("the array has the size of a key") }
        publicKey = key
    }

    deinit { unsafe sodium_free(memory) }

    /// Signs a text.
    func sign(_ text: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: AL_SIGN_BYTES)
        unsafe crypto_sign_detached(
            &signature, nil, text, UInt64(text.count), memory.assumingMemoryBound(to: UInt8.self))
        return signature
    }

    /// Reads the key of a file, or makes both.
    ///
    /// - Parameter path: the file; it holds 32 bytes, mode 0600, and belongs to the caller.
    /// - Returns: the key.
    /// - Throws: `audit-key` when the file is not such a one, or cannot be made.
    package static func open(_ path: String) throws(AegisError) -> LedgerKey {
        if let key = try load(path) { return key }
        do {
            var seed = try Random.bytes(AL_SIGN_SEED_BYTES)
            defer { wipe(&seed) }
            try Files.writeAtomically(path, seed, mode: 0o600, synced: true)
            return try LedgerKey(seed: seed)
        } catch let error as AegisError { throw error } catch {
            throw .failed("audit-key", "the key of the ledger cannot be made at \(path): \(error)")
        }
    }

    /// Reads the key of a file; nil when there is none.
    ///
    /// - Throws: `audit-key` when the file is not 32 bytes of the caller's that nobody else may read.
    package static func load(_ path: String) throws(AegisError) -> LedgerKey? {
        do {
            let file = try FileDescriptor.open(path, [.readOnly, .noFollow, .nonblocking, .noTerminal])
            let status = try file.status()
            guard status.type == .regular, status.user == CurrentProcess.effectiveUser,
                status.permissions & 0o7077 == 0, status.size == UInt64(AL_SIGN_SEED_BYTES)
            else {
                throw AegisError.failed(
                    "audit-key",
                    "the key of the ledger at \(path) is not used: it is no file of this user's, with 32 "
                        + "bytes, that nobody else may read",
                    hint: "restore it from a backup, or move it away: a new one is made then, and the ledger tells")
            }
            var seed = [UInt8](repeating: 0, count: AL_SIGN_SEED_BYTES)
            defer { wipe(&seed) }
            guard try file.read(into: &seed) == seed.count else { throw Errno.ioError }
            return try LedgerKey(seed: seed)
        } catch let error as AegisError { throw error } catch let error as Errno {
            if error == .noSuchFile { return nil }
            throw .failed("audit-key", "the key of the ledger at \(path) cannot be read: \(error)")
        } catch { throw .failed("audit-key", "the key of the ledger at \(path) cannot be read: \(error)") }
    }

    private static func wipe(_ bytes: inout [UInt8]) {
        unsafe bytes.withUnsafeMutableBytes { unsafe sodium_memzero($0.baseAddress, $0.count) }
    }
}

/// What signatures are made over.
enum SignedText {
    /// The text of a checkpoint: the hash before it stands for everything before it.
    static func checkpoint(node: String, seq: UInt64, time: String, prev: AuditHash) -> [UInt8] {
        Array("aegis-audit/1 checkpoint node=\(node) seq=\(seq) time=\(time) prev=\(prev)".utf8)
    }

    /// The text of a seal.
    static func seal(
        node: String, seq: UInt64, time: String, prev: AuditHash, segment: UInt64, first: UInt64, previous: AuditHash
    ) -> [UInt8] {
        Array(
            ("aegis-audit/1 seal node=\(node) seq=\(seq) time=\(time) prev=\(prev) segment=\(segment) first=\(first) "
                + "previous=\(previous)").utf8)
    }
}
