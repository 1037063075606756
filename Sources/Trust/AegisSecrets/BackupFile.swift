package import AegisCore
internal import CSodium
package import LinuxSys

/// A backup's file: a header, then its content in pieces of 64 KiB, sealed one after another to a passphrase.
///
/// The seal is libsodium's secretstream (XChaCha20-Poly1305): a piece that was changed, left out, moved or added does not
/// open, and the last one says that it is the last.
package enum BackupFile {
    static let pieceBytes = 64 << 10

    /// How many pieces hold that much content; an empty one is in one piece, too.
    static func pieces(_ content: UInt64) -> UInt64 {
        max(1, (content + UInt64(pieceBytes) - 1) / UInt64(pieceBytes))
    }

    static func truncated(_ path: String) -> AegisError {
        .failed(
            "backup-truncated", "\(path) is cut off: a part of the backup is missing",
            hint: "take another copy of it; nothing was changed")
    }

    static func damaged(_ path: String, _ why: String) -> AegisError {
        .failed(
            "backup-damaged", "\(path) is not as it was written: \(why)",
            hint: "take another copy of it; nothing was changed")
    }

    static func unreadable(_ path: String, _ error: Errno) -> AegisError {
        .failed("backup-unreadable", "\(path) cannot be read: \(error)", hint: "check the path and its rights")
    }

    static func open(_ path: String) throws(AegisError) -> FileDescriptor {
        do throws(Errno) { return try FileDescriptor.open(path, [.readOnly, .nonblocking, .noTerminal]) } catch {
            throw unreadable(path, error)
        }
    }

    /// Reads that many bytes, or as many as there are.
    static func read(_ count: Int, _ path: String, _ file: borrowing FileDescriptor) throws(AegisError) -> [UInt8] {
        var have: [UInt8] = []
        do throws(Errno) {
            while have.count < count {
                var bytes = [UInt8](repeating: 0, count: count - have.count)
                let more = try file.read(into: &bytes)
                if more == 0 { break }
                have += bytes[..<more]
            }
        } catch { throw unreadable(path, error) }
        return have
    }
}

/// Seals content into a new file.
package struct BackupWriter: ~Copyable {
    private let file: FileDescriptor
    private var state = crypto_secretstream_xchacha20poly1305_state()
    private var pending: [UInt8] = []
    /// Bytes that were announced and have not come.
    private var rest: UInt64

    /// Writes the header; takes about a second, to make guessing passphrases slow.
    ///
    /// - Parameters:
    ///   - file: an empty file.
    ///   - header: what the backup says of itself, the number of bytes that follow included.
    ///   - passphrase: at least one byte.
    /// - Throws: `backup-memory`, and what writing says.
    package init(_ file: consuming FileDescriptor, _ header: BackupHeader, passphrase: Secret<[UInt8]>) throws {
        self.file = file
        rest = header.contentBytes
        let (salt, cost) = (BackupKey.salt(), BackupKey.Cost.usual)
        var key = try BackupKey(passphrase, salt: salt, cost: cost)
        defer { key.wipe() }
        var stream = [UInt8](repeating: 0, count: AL_STREAM_HEADER_BYTES)
        unsafe crypto_secretstream_xchacha20poly1305_init_push(&state, &stream, key.stream)
        let bytes = header.bytes(cost, salt: salt, stream: stream)
        let checked = bytes + key.check(of: bytes)
        try self.file.writeAll((checked + BackupKey.hash(checked))[...])
    }

    /// Adds content.
    package mutating func append(_ bytes: ArraySlice<UInt8>) throws {
        precondition(UInt64(bytes.count) <= rest, "more than was announced")
        rest -= UInt64(bytes.count)
        pending += bytes
        // One piece stays, so that there is a last one to mark.
        while pending.count > BackupFile.pieceBytes {
            var piece = Array(pending.prefix(BackupFile.pieceBytes))
            defer { SecretKey.wipe(&piece) }
            pending.removeFirst(piece.count)
            try push(piece, AL_STREAM_TAG_MESSAGE)
        }
    }

    /// Writes the end; everything is on the disk when it returns.
    package consuming func finish() throws {
        precondition(rest == 0, "less than was announced")
        try push(pending, AL_STREAM_TAG_FINAL)
        SecretKey.wipe(&pending)
        try file.sync()
    }

    private mutating func push(_ piece: [UInt8], _ tag: Int) throws(Errno) {
        var sealed = [UInt8](repeating: 0, count: piece.count + AL_STREAM_ADDED_BYTES)
        unsafe crypto_secretstream_xchacha20poly1305_push(
            &state, &sealed, nil, piece, UInt64(piece.count), nil, 0, UInt8(tag))
        try file.writeAll(sealed[...])
    }
}

/// Opens a backup's file piece by piece.
///
/// Nothing that it gives is to be used for good before `finish` has returned: only then is the end known to be there.
package struct BackupReader: ~Copyable {
    /// What the backup says of itself; proven by the passphrase.
    package let header: BackupHeader
    private let path: String
    private let file: FileDescriptor
    private var state: crypto_secretstream_xchacha20poly1305_state
    private var opened: ArraySlice<UInt8> = []
    private var piecesLeft: UInt64

    /// Reads the header and proves the passphrase.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - newestSchema: the version of the database that this release knows.
    ///   - passphrase: the one that it was written with.
    /// - Throws: `backup-foreign`, `backup-newer`, `backup-passphrase`, `backup-truncated`, `backup-damaged`, `backup-unreadable`.
    package init(_ path: String, newestSchema: Int, passphrase: Secret<[UInt8]>) throws(AegisError) {
        let file = try BackupFile.open(path)
        let parsed = try BackupHeader.parse(path, file)
        guard parsed.header.schema <= UInt32(newestSchema) else {
            throw BackupHeader.newer(path, parsed.header.writer)
        }
        try Self.checkSize(path, file, parsed)
        var key = try BackupKey(passphrase, salt: parsed.salt, cost: parsed.cost)
        defer { key.wipe() }
        var state = crypto_secretstream_xchacha20poly1305_state()
        guard BackupKey.same(key.check(of: parsed.covered), parsed.check),
            unsafe crypto_secretstream_xchacha20poly1305_init_pull(&state, parsed.stream, key.stream) == 0
        else {
            throw AegisError(
                .denied, "backup-passphrase", "the passphrase is not that of \(path)",
                hint: "try again; without it nobody can open the backup")
        }
        self.path = path
        self.file = file
        self.state = state
        header = parsed.header
        piecesLeft = BackupFile.pieces(parsed.header.contentBytes)
    }

    /// A file's size follows from its header.
    private static func checkSize(
        _ path: String, _ file: borrowing FileDescriptor, _ parsed: BackupHeader.Parsed
    ) throws(AegisError) {
        let content = parsed.header.contentBytes
        guard content < 1 << 60 else { throw BackupFile.damaged(path, "its header is changed") }
        let added = BackupFile.pieces(content) * UInt64(AL_STREAM_ADDED_BYTES)
        let whole = UInt64(parsed.covered.count + 2 * BackupHeader.checkBytes) + content + added
        let size: UInt64
        do throws(Errno) { size = try file.status().size } catch { throw BackupFile.unreadable(path, error) }
        guard size >= whole else { throw BackupFile.truncated(path) }
        guard size == whole else { throw BackupFile.damaged(path, "\(size - whole) bytes follow its end") }
    }

    /// Takes the next bytes of the content.
    ///
    /// - Parameter count: at most that many.
    /// - Returns: as many as are there, at most a piece; empty at the end.
    /// - Throws: `backup-truncated`, `backup-damaged`.
    package mutating func read(atMost count: Int) throws(AegisError) -> [UInt8] {
        if opened.isEmpty, piecesLeft > 0 { try pull() }
        let part = opened.prefix(count)
        opened = opened.dropFirst(part.count)
        return Array(part)
    }

    /// Takes exactly that many bytes.
    package mutating func read(_ count: Int) throws(AegisError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try read(atMost: count - bytes.count)
            guard !more.isEmpty else { throw BackupFile.damaged(path, "its content ends early") }
            bytes += more
        }
        return bytes
    }

    /// Checks that everything was read.
    package consuming func finish() throws(AegisError) {
        guard opened.isEmpty, piecesLeft == 0 else { throw BackupFile.damaged(path, "it holds more than it lists") }
    }

    private mutating func pull() throws(AegisError) {
        piecesLeft -= 1
        let all = BackupFile.pieces(header.contentBytes)
        let last = Int(header.contentBytes - (all - 1) * UInt64(BackupFile.pieceBytes))
        let size = piecesLeft == 0 ? last : BackupFile.pieceBytes
        let sealed = try BackupFile.read(size + AL_STREAM_ADDED_BYTES, path, file)
        guard sealed.count == size + AL_STREAM_ADDED_BYTES else { throw BackupFile.truncated(path) }
        var piece = [UInt8](repeating: 0, count: size)
        var tag: UInt8 = 0
        let code = unsafe crypto_secretstream_xchacha20poly1305_pull(
            &state, &piece, nil, &tag, sealed, UInt64(sealed.count), nil, 0)
        guard code == 0, (Int(tag) == AL_STREAM_TAG_FINAL) == (piecesLeft == 0) else {
            throw BackupFile.damaged(path, "a part of it was changed")
        }
        opened = piece[...]
    }
}
