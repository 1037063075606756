internal import AegisCore
internal import AegisJSON
internal import LinuxSys

/// Where a ledger goes on after a start: the end of its newest segment, with what a crash left behind cut off.
struct RecoveredLedger: ~Copyable {
    /// Nothing was ever written.
    private(set) var isNew = true
    /// The node that the newest segment names; nil when there is none.
    private(set) var node: String?
    private let key: LedgerPublicKey
    /// Whether the newest segment takes more records.
    private(set) var isOpen = false
    private(set) var segment: UInt64 = 0
    private(set) var first: UInt64 = 1
    private(set) var size: UInt64 = 0
    private(set) var head = AuditReceipt(seq: 0, hash: .none)
    private(set) var lastSeal = AuditHash.none
    private(set) var lastTime = Int64.min
    /// What is to be told in the ledger itself.
    private(set) var notes: [AuditEvent] = []

    /// Reads the newest segment.
    ///
    /// - Parameters:
    ///   - folder: where it is.
    ///   - key: what signs from now on: one key a segment.
    ///   - known: the newest head that is known from elsewhere: a ledger that ends before it was cut.
    /// - Throws: what reading says.
    init(_ folder: LedgerFolder, key: LedgerPublicKey, known: LedgerHead?) throws(Errno) {
        self.key = key
        let segments = try folder.segments()
        if let newest = segments.last { try take(newest, folder, before: segments.dropLast().last) }
        if segments.isEmpty, let line = try folder.sealLines().last, let seal = RecordLine(line) {
            damaged("all segments are gone; their seals are left", in: LedgerFolder.seals, line: nil)
            advance(seal)
            lastSeal = seal.hash
            segment = RecordLine.fields(line)?["segment"]?.unsigned ?? 0
        }
        if let known, known.seq > head.seq {
            damaged(
                "the ledger ended at record \(head.seq); record \(known.seq) (\(known.hash)) was written once",
                in: segment > 0 ? LedgerFolder.name(segment) : nil, line: nil)
            // Its numbers are not given again: the gap stays to be seen.
            head = AuditReceipt(seq: known.seq, hash: head.hash)
            isOpen = false
        }
    }

    private mutating func take(_ number: UInt64, _ folder: LedgerFolder, before: UInt64?) throws(Errno) {
        isNew = false
        segment = number
        let name = LedgerFolder.name(number)
        let (bytes, torn) = try folder.read(number)
        if torn > 0 {
            let file = try folder.descriptor.open(name, [.writeOnly, .noFollow])
            try file.truncate(to: UInt64(bytes.count))
            notes.append(AuditEvent(.tailRecovered, ("file", .string(name)), ("bytes", .number(torn))))
        }
        guard !bytes.isEmpty else {
            // The crash came before its first record was whole: the segment before it is the newest.
            try folder.descriptor.removeFile(name)
            segment = number - 1
            if let before, before == number - 1 { try take(before, folder, before: nil) }
            return
        }
        read(bytes, name)
        size = UInt64(bytes.count)
    }

    private mutating func read(_ bytes: [UInt8], _ name: String) {
        isOpen = true
        for (index, line) in bytes.lines.enumerated() {
            guard let record = RecordLine(line) else {
                return damaged("it is not a record", in: name, line: index + 1)
            }
            let follows = index == 0 || (record.seq == head.seq + 1 && record.prev == head.hash)
            if index == 0 { first = record.seq }
            advance(record)
            guard record.isWhole, follows else {
                damaged("record \(record.seq) is not what was written", in: name, line: index + 1)
                // The highest number counts all the same, or it would be given twice.
                for later in bytes.lines.dropFirst(index + 1) { RecordLine(later).map { advance($0) } }
                return
            }
            switch record.kind {
            case AuditKind.segmentOpened.description where index == 0:
                let fields = RecordLine.fields(line)
                lastSeal = fields?["previous_seal"]?.text.flatMap { AuditHash($0) } ?? .none
                node = fields?["node"]?.text
                if let before = fields?["key"]?.text, before != key.description {
                    damaged("the key was \(before) and is \(key) now", in: name, line: nil)
                }
            case AuditKind.segmentSealed.description:
                lastSeal = record.hash
                isOpen = false
            default: break
            }
        }
    }

    private mutating func advance(_ record: RecordLine) {
        head = AuditReceipt(seq: max(record.seq, head.seq), hash: record.hash)
        let time = Timestamp(parsing: String(decoding: record.time, as: UTF8.self))
        lastTime = max(lastTime, time?.milliseconds ?? .min)
    }

    /// Nothing is repaired, so that it can be seen: the ledger goes on in another segment.
    private mutating func damaged(_ what: String, in file: String?, line: Int?) {
        isOpen = false
        var event = AuditEvent(.damageFound, ("what", .string(what)))
        if let file { event.fields.append(.init("file", .string(file))) }
        if let line { event.fields.append(.init("line", .number(line))) }
        notes.append(event)
    }
}
