package import AegisCore
internal import AegisJSON
internal import LinuxSys

/// Checks a ledger from its files alone: every hash, link, signature and seal, and heads that are known from elsewhere.
package struct LedgerVerifier: Sendable {
    private let path: String
    private let keys: [LedgerPublicKey]
    private let heads: [LedgerHead]

    /// Prepares a check.
    ///
    /// - Parameters:
    ///   - path: the folder of the segments.
    ///   - keys: what may have signed; empty takes the ledger's own word, and says so.
    ///   - heads: what is known of the ledger from elsewhere.
    package init(path: String, keys: [LedgerPublicKey], heads: [LedgerHead] = []) {
        self.path = path
        self.keys = keys
        self.heads = heads
    }

    /// Reads all there is. It may run while the ledger is written: what is added meanwhile is not part of it.
    ///
    /// - Returns: what it found.
    /// - Throws: `audit-not-found`, `audit-unreadable`.
    package func verify() throws(AegisError) -> VerifyReport {
        let folder: LedgerFolder
        do throws(Errno) { folder = try LedgerFolder(existing: path) } catch { throw Self.explained(error, path) }
        var chain = ChainCheck(path: path, keys: keys, heads: heads)
        do throws(Errno) {
            // Whatever is dropped between the listing and the reading has its seal in the file then: once more.
            do throws(Errno) { try run(folder, &chain) } catch {
                guard error == .noSuchFile else { throw error }
                chain = ChainCheck(path: path, keys: keys, heads: heads)
                try run(folder, &chain)
            }
        } catch { throw Self.explained(error, path) }
        return chain.finished()
    }

    private func run(_ folder: LedgerFolder, _ chain: inout ChainCheck) throws(Errno) {
        let segments = try folder.segments()
        let seals = try folder.sealLines()
        chain.takeSeals(seals, before: segments.first)
        for number in segments {
            let (bytes, torn) = try folder.read(number)
            chain.take(number, bytes.lines, torn: torn, isNewest: number == segments.last)
        }
    }

    static func explained(_ error: Errno, _ path: String) -> AegisError {
        error == .noSuchFile || error == .notDirectory
            ? .notFound("audit-not-found", "there is no ledger at \(path)", hint: "name the folder with --path")
            : .failed("audit-unreadable", "the ledger at \(path) cannot be read: \(error)")
    }
}

/// The chain as it is followed, record by record. Pure.
struct ChainCheck {
    private(set) var report: VerifyReport
    private let trusted: [LedgerPublicKey]
    private var heads: [UInt64: [AuditHash]] = [:]
    private var newest: LedgerHead?
    private var last: AuditReceipt?
    private var lastSeal = AuditHash.none
    private var lastSegment: UInt64 = 0
    private var wasSealed = true
    private var node = ""
    private var key: LedgerPublicKey?
    private var file = ""
    private var line = 0

    init(path: String, keys: [LedgerPublicKey], heads: [LedgerHead]) {
        report = VerifyReport(path: path)
        trusted = keys
        for head in heads { self.heads[head.seq, default: []].append(head.hash) }
        newest = heads.max { $0.seq < $1.seq }
        report.keys = keys.map(\.description)
    }

    // MARK: Seals of segments that were dropped

    mutating func takeSeals(_ lines: [ArraySlice<UInt8>], before oldest: UInt64?) {
        file = LedgerFolder.seals
        for (index, text) in lines.enumerated() {
            line = index + 1
            guard let record = RecordLine(text), record.kind == AuditKind.segmentSealed.description,
                let seal = Seal(text)
            else {
                fault(.malformed, nil, "it is no seal")
                continue
            }
            guard record.isWhole else {
                fault(.changed, record.seq, "the text of this seal was changed")
                continue
            }
            // A crash between keeping the seal and deleting the segment: it is kept twice, or early.
            if seal.segment <= lastSegment { continue }
            if let oldest, seal.segment >= oldest { break }
            if seal.segment != lastSegment + 1 {
                gap("the seals of segments \(lastSegment + 1) to \(seal.segment - 1) are missing")
            } else if seal.previous != lastSeal {
                fault(.unlinked, record.seq, "this seal does not name the one before it")
            }
            lastSeal = record.hash
            lastSegment = seal.segment
            last = AuditReceipt(seq: record.seq, hash: record.hash)
            checkHeads(record)
            pending.append((record, seal, line))
            report.dropped += 1
        }
    }

    /// Seals whose signatures wait for the key and the node, which segments name.
    private var pending: [(record: RecordLine, seal: Seal, line: Int)] = []

    // MARK: Segments

    mutating func take(_ number: UInt64, _ lines: [ArraySlice<UInt8>], torn: Int, isNewest: Bool) {
        file = LedgerFolder.name(number)
        line = 1
        report.segments += 1
        defer { lastSegment = number }
        if lines.isEmpty, isNewest {
            return note("\(file) has no whole record: the daemon was killed when it began it")
        }
        if number != lastSegment + 1 {
            if last == nil, report.dropped == 0 {
                gap("segments 1 to \(number - 1) are missing, and so are their seals")
            } else {
                fault(.removed, nil, "segments \(lastSegment + 1) to \(number - 1) are missing")
            }
        } else if !wasSealed {
            fault(.truncated, last?.seq, "the segment before this one ends without a seal")
        }
        wasSealed = false
        for (index, text) in lines.enumerated() {
            line = index + 1
            take(text, isFirst: index == 0, isLast: index == lines.count - 1, of: number)
        }
        guard torn > 0 else { return }
        line = lines.count + 1
        if isNewest {
            note("\(file) ends with \(torn) bytes of a record that was not written whole; the next start cuts them off")
        } else {
            fault(.malformed, nil, "\(torn) bytes at the end are no whole line")
        }
    }

    private mutating func take(_ text: ArraySlice<UInt8>, isFirst: Bool, isLast: Bool, of number: UInt64) {
        guard let record = RecordLine(text) else {
            return fault(.malformed, last.map { $0.seq + 1 }, "this line is no record")
        }
        report.records += 1
        if report.first == nil { report.first = record.seq }
        follow(record)
        last = AuditReceipt(seq: record.seq, hash: record.hash)
        checkHeads(record)
        // What a changed record says is nothing to go by.
        guard record.isWhole else { return fault(.changed, record.seq, "the text of record \(record.seq) was changed") }
        if isFirst { return open(record, text, number) }
        if wasSealed {
            return fault(.misplaced, record.seq, "record \(record.seq) stands behind the seal of its segment")
        }
        switch record.kind {
        case AuditKind.checkpoint.description: checkCheckpoint(record, text)
        case AuditKind.segmentSealed.description: checkSeal(record, text, number)
        default: break
        }
    }

    /// Looks whether a record comes after the one before it.
    private mutating func follow(_ record: RecordLine) {
        guard let last else {
            if record.seq == 1, record.prev != .none {
                fault(.unlinked, 1, "the first record names one before it")
            } else if record.seq > 1, report.gaps.isEmpty {
                fault(.removed, 1, "records 1 to \(record.seq - 1) are missing")
            }
            return
        }
        let next = last.seq + 1
        if record.seq > next {
            let what = record.seq == next + 1 ? "record \(next) is" : "records \(next) to \(record.seq - 1) are"
            fault(.removed, next, "\(what) missing")
        } else if record.seq < next {
            fault(.misplaced, record.seq, "record \(record.seq) comes after record \(last.seq)")
        } else if record.prev != last.hash {
            fault(.unlinked, record.seq, "record \(record.seq) does not follow record \(last.seq) as it stands here")
        }
    }

    private mutating func open(_ record: RecordLine, _ text: ArraySlice<UInt8>, _ number: UInt64) {
        let fields = RecordLine.fields(text)
        guard record.kind == AuditKind.segmentOpened.description, fields?["segment"]?.unsigned == number else {
            return fault(.misplaced, record.seq, "the segment does not begin with a record that opens it")
        }
        if report.gaps.isEmpty, fields?["previous_seal"]?.text != lastSeal.description {
            fault(.unlinked, record.seq, "the segment does not name the seal before it")
        }
        let nodeBefore = node
        node = fields?["node"]?.text ?? ""
        if !nodeBefore.isEmpty, node != nodeBefore {
            note("\(file) was written by node \(node), what is before it by node \(nodeBefore): it was restored there")
        }
        takeKey(fields?["key"]?.text ?? "")
        for (record, seal, line) in pending {
            (file, self.line) = (LedgerFolder.seals, line)
            check(seal, of: record)
        }
        pending = []
        (file, line) = (LedgerFolder.name(number), 1)
    }

    private mutating func takeKey(_ text: String) {
        let named = try? LedgerPublicKey(parsing: text)
        key = named
        guard let named else { return gap("\(file) names no key") }
        if trusted.isEmpty {
            guard !report.keys.contains(named.description) else { return }
            report.keys.append(named.description)
            note("the key \(named) is the ledger's own word: compare it with one that you know, or give it with --key")
        } else if !trusted.contains(named) {
            key = nil
            gap("\(file) is signed with \(named), which is not a key that was given")
        }
    }

    private mutating func checkCheckpoint(_ record: RecordLine, _ text: ArraySlice<UInt8>) {
        guard let key else { return }
        let signature = RecordLine.fields(text)?["signature"]?.text.flatMap { Hex.bytes($0) } ?? []
        let signed = SignedText.checkpoint(
            node: node, seq: record.seq, time: String(decoding: record.time, as: UTF8.self), prev: record.prev)
        guard key.verify(signature, of: signed) else {
            return fault(.forged, record.seq, "the signature of checkpoint \(record.seq) is not of the key")
        }
        report.signedTo = max(report.signedTo, record.seq)
    }

    private mutating func checkSeal(_ record: RecordLine, _ text: ArraySlice<UInt8>, _ number: UInt64) {
        wasSealed = true
        guard let seal = Seal(text), seal.segment == number else {
            return fault(.malformed, record.seq, "the seal is not of this segment")
        }
        if report.gaps.isEmpty, seal.previous != lastSeal {
            fault(.unlinked, record.seq, "the seal does not name the one before it")
        }
        lastSeal = record.hash
        check(seal, of: record)
    }

    private mutating func check(_ seal: Seal, of record: RecordLine) {
        guard let key else { return }
        let signed = SignedText.seal(
            node: node, seq: record.seq, time: String(decoding: record.time, as: UTF8.self), prev: record.prev,
            segment: seal.segment, first: seal.first, previous: seal.previous)
        guard key.verify(seal.signature, of: signed) else {
            return fault(.forged, record.seq, "the signature of the seal of segment \(seal.segment) is not of the key")
        }
        report.signedTo = max(report.signedTo, record.seq)
    }

    private mutating func checkHeads(_ record: RecordLine) {
        guard let known = heads.removeValue(forKey: record.seq) else { return }
        for hash in known where hash != record.hash {
            fault(.rewritten, record.seq, "record \(record.seq) was \(hash) once and is \(record.hash) here")
        }
    }

    // MARK: The end

    mutating func finished() -> VerifyReport {
        if report.segments == 0 { gap("there is no segment") }
        if !pending.isEmpty { gap("there is no segment that names the key of the seals") }
        if let last { report.head = LedgerHead(seq: last.seq, hash: last.hash).description }
        for seq in heads.keys.sorted() {
            if seq > last?.seq ?? 0 {
                line = 0
                fault(
                    .truncated, (last?.seq ?? 0) + 1,
                    "the ledger ends at record \(last?.seq ?? 0), but record \(seq) was written once")
            } else {
                gap("record \(seq), whose head is known, is not here any more")
            }
        }
        if report.faultCount == 0, let last, key != nil, report.signedTo < last.seq {
            note("the last \(last.seq - report.signedTo) records are not signed yet: a head of them proves them")
        }
        return report
    }

    private mutating func fault(_ kind: LedgerFault.Kind, _ seq: UInt64?, _ message: String) {
        report.faultCount += 1
        guard report.faults.count < VerifyReport.faultLimit else { return }
        report.faults.append(
            LedgerFault(kind: kind, file: file, line: line > 0 ? line : nil, seq: seq, message: message))
    }

    private mutating func gap(_ text: String) { report.gaps.append(text) }
    private mutating func note(_ text: String) { report.notes.append(text) }
}

/// What a seal says.
private struct Seal {
    let segment: UInt64
    let first: UInt64
    let previous: AuditHash
    let signature: [UInt8]

    init?(_ text: ArraySlice<UInt8>) {
        guard let fields = RecordLine.fields(text), let segment = fields["segment"]?.unsigned,
            let first = fields["first"]?.unsigned,
            let previous = fields["previous_seal"]?.text.flatMap({ AuditHash($0) }),
            let signature = fields["signature"]?.text.flatMap({ Hex.bytes($0) })
        else { return nil }
        self.segment = segment
        self.first = first
        self.previous = previous
        self.signature = signature
    }
}
