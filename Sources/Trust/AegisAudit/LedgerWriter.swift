internal import AegisCore
internal import AegisJSON
internal import LinuxSys

/// The writing end of the chain. Synchronous: what it says is saved has been given to the kernel.
struct LedgerWriter: ~Copyable {
    let folder: LedgerFolder
    let node: String
    /// The node that the open segment names: another one's, when this ledger was restored from a backup.
    private var segmentNode: String
    let key: LedgerKey
    let writer: String
    let segmentSize: UInt64
    /// Bytes of room on the disk that are taken ahead.
    private static let ahead: UInt64 = 1 << 20
    private let now: @Sendable () -> Timestamp
    /// Open for appending; nil when the newest segment is sealed, or there is none.
    private var file: FileDescriptor?
    /// The number of the newest segment.
    private(set) var segment: UInt64
    /// The number of its first record.
    private var first: UInt64
    private var size: UInt64
    /// Up to where room on the disk was asked for.
    private var reserved: UInt64 = 0
    /// Bytes of a record that was not written whole are behind the end.
    private var hasRest = false
    /// The newest record.
    private(set) var head: AuditReceipt
    /// The hash of the newest seal.
    private(set) var lastSeal: AuditHash
    private var lastTime: Int64
    /// `lastTime` as records have it, once it was written.
    private var timeText: [UInt8] = []
    private var line: [UInt8] = []
    /// Segments that were sealed and not synced since.
    private(set) var unsynced: [UInt64] = []
    /// Whether a file was made whose name is not synced yet.
    private(set) var hasNewName = false

    init(
        folder: LedgerFolder, node: String, key: LedgerKey, writer: String, segmentSize: UInt64,
        recovered: borrowing RecoveredLedger, now: @escaping @Sendable () -> Timestamp
    ) throws(Errno) {
        self.folder = folder
        self.node = node
        segmentNode = recovered.node ?? node
        self.key = key
        self.writer = writer
        self.segmentSize = segmentSize
        self.now = now
        segment = recovered.segment
        first = recovered.first
        size = recovered.size
        head = recovered.head
        lastSeal = recovered.lastSeal
        lastTime = recovered.lastTime
        file =
            recovered.isOpen
            ? try folder.descriptor.open(LedgerFolder.name(segment), [.writeOnly, .append, .noFollow]) : nil
    }

    /// Writes a record, in the next segment when this one is full.
    mutating func append(_ event: AuditEvent) throws(Errno) -> AuditReceipt {
        if file == nil || size >= segmentSize { try rotate() }
        return try write(event, at: time())
    }

    /// Signs everything before it.
    mutating func checkpoint() throws(Errno) -> AuditReceipt {
        if file == nil || size >= segmentSize { try rotate() }
        let time = time()
        let text = SignedText.checkpoint(
            node: segmentNode, seq: head.seq + 1, time: String(decoding: time, as: UTF8.self), prev: head.hash)
        let signature = Hex.text(key.sign(text))
        return try write(AuditEvent(.checkpoint, ("signature", .string(signature))), at: time)
    }

    /// A second descriptor of the newest segment, to sync it while others write; nil when there is nothing open.
    mutating func openSegment() throws(Errno) -> FileDescriptor? {
        guard let open = file.take() else { return nil }
        let raw = open.raw
        file = consume open
        return try FileDescriptor.duplicating(raw)
    }

    /// Forgets what was synced.
    mutating func synced(_ segments: [UInt64], upTo newest: UInt64) {
        unsynced.removeAll { segments.contains($0) }
        if newest == segment { hasNewName = false }
    }

    /// Ends the newest segment here and now; the next record begins another.
    mutating func seal() throws(Errno) {
        guard file != nil else { return }
        let time = time()
        let text = SignedText.seal(
            node: segmentNode, seq: head.seq + 1, time: String(decoding: time, as: UTF8.self), prev: head.hash,
            segment: segment, first: first, previous: lastSeal)
        let event = AuditEvent(
            .segmentSealed, ("segment", .number(segment)), ("first", .number(first)),
            ("records", .number(head.seq + 2 - first)), ("previous_seal", .string(lastSeal.description)),
            ("signature", .string(Hex.text(key.sign(text)))))
        lastSeal = try write(event, at: time).hash
        file = nil
        unsynced.append(segment)
    }

    private mutating func rotate() throws(Errno) {
        try seal()
        let next = segment + 1
        let name = LedgerFolder.name(next)
        // A file of this name can only be one whose first record did not fit on a full disk: it is empty then.
        let fresh = try folder.descriptor.open(name, [.writeOnly, .create, .append, .noFollow], mode: 0o600)
        guard try fresh.status().size == 0 else { throw .fileExists }
        file = consume fresh
        hasNewName = true
        let before = (segment, first, size)
        segment = next
        segmentNode = node
        first = head.seq + 1
        size = 0
        reserved = 0
        hasRest = false
        do throws(Errno) {
            _ = try write(
                AuditEvent(
                    .segmentOpened, ("format", .number(RecordEncoder.version)), ("segment", .number(next)),
                    ("node", .string(node)), ("key", .string(key.publicKey.description)),
                    ("previous_seal", .string(lastSeal.description)), ("writer", .string(writer))), at: time())
        } catch {
            file = nil
            (segment, first, size) = before
            try? folder.descriptor.removeFile(name)
            throw error
        }
    }

    /// Time never goes back in a ledger.
    private mutating func time() -> [UInt8] {
        let time = max(lastTime, now().milliseconds)
        // Many records come in the same millisecond.
        if time != lastTime || timeText.isEmpty { timeText = Timestamp(milliseconds: time).utf8 }
        lastTime = time
        return timeText
    }

    private mutating func write(_ event: AuditEvent, at time: [UInt8]) throws(Errno) -> AuditReceipt {
        // Taken out for the call, so that its memory is used again and again.
        var bytes: [UInt8] = []
        swap(&bytes, &line)
        defer { swap(&bytes, &line) }
        let hash = RecordEncoder.encode(event, seq: head.seq + 1, time: time, prev: head.hash, into: &bytes)
        try put(bytes[...])
        head = AuditReceipt(seq: head.seq + 1, hash: hash)
        return head
    }

    /// Writes a line in one call; of one that does not fit nothing stays.
    private mutating func put(_ bytes: ArraySlice<UInt8>) throws(Errno) {
        guard let open = file.take() else { throw .badDescriptor }
        var failure: Errno?
        if size + UInt64(bytes.count) > reserved {
            // A disk that gets full must not stop what needs no more of it than to be told. Where this fails, writing tells.
            try? open.reserve(from: size, count: Self.ahead)
            reserved = size + Self.ahead
        }
        do throws(Errno) {
            if hasRest {
                try open.truncate(to: size)
                hasRest = false
            }
            if try open.write(bytes) != bytes.count {
                hasRest = true
                failure = .noSpace
            }
        } catch { failure = error }
        if hasRest, (try? open.truncate(to: size)) != nil { hasRest = false }
        file = consume open
        if let failure {
            // What was cut off took the room behind it along.
            reserved = 0
            throw failure
        }
        size += UInt64(bytes.count)
    }
}
