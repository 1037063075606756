import AegisCore

/// What a helper tells the daemon: short records on its report pipe, each ended by NUL.
///
/// The helper may have been taken over by what it parsed, so the reader bounds everything and believes nothing that it
/// does not check again by descriptor.
enum HelperRecord: Sendable, Equatable {
    /// A name hidden in the layers below: path of an entry that the tree does not have.
    case whiteout([UInt8])
    /// A directory that hides all of its namesake below.
    case opaque([UInt8])
    /// A directory that no entry describes: made because something lies in it.
    case implicit([UInt8])
    /// Something left out, for the log.
    case warning(String)
    /// The end of a good run: digest (roles that make one), bytes, entries.
    case done(digest: Digest?, bytes: Int64, entries: Int64)
    /// The end of a bad run.
    case failure(code: String, message: String)

    /// The record with its ending NUL; NULs inside texts are replaced.
    var encoded: [UInt8] {
        let body: [UInt8] =
            switch self {
            case .whiteout(let path): [0x77] + path
            case .opaque(let path): [0x6f] + path
            case .implicit(let path): [0x69] + path
            case .warning(let text): [0x21] + text.utf8
            case .done(let digest, let bytes, let entries): [0x64] + "\(digest?.hex ?? "-") \(bytes) \(entries)".utf8
            case .failure(let code, let message): [0x65] + "\(code) \(message)".utf8
            }
        return body.map { $0 == 0 ? 0x3f : $0 } + [0]
    }

    /// Reads one record without its NUL; nil when it has no valid form.
    init?(decoding bytes: ArraySlice<UInt8>) {
        guard let kind = bytes.first else { return nil }
        let rest = bytes.dropFirst()
        switch kind {
        case 0x77 where Self.isPath(rest) && !rest.isEmpty: self = .whiteout(Array(rest))
        case 0x6f where Self.isPath(rest): self = .opaque(Array(rest))
        case 0x69 where Self.isPath(rest) && !rest.isEmpty: self = .implicit(Array(rest))
        case 0x21: self = .warning(Self.printable(rest))
        case 0x64:
            let words = Self.printable(rest).split(separator: " ", omittingEmptySubsequences: false)
            guard words.count == 3, let size = Int64(words[1]), let entries = Int64(words[2]), size >= 0, entries >= 0
            else { return nil }
            let digest = Digest(hex: String(words[0]))
            guard digest != nil || words[0] == "-" else { return nil }
            self = .done(digest: digest, bytes: size, entries: entries)
        case 0x65:
            let text = Self.printable(rest)
            let code = String(text.prefix { $0 != " " })
            guard !code.isEmpty, code.utf8.allSatisfy({ (97...122).contains($0) || $0 == 45 }) else { return nil }
            self = .failure(code: code, message: String(text.dropFirst(code.count + 1)))
        default: return nil
        }
    }

    /// A relative path of plain components, with room for no trick: no empty, `.` or `..` component; empty is the root.
    static func isPath(_ bytes: ArraySlice<UInt8>) -> Bool {
        guard bytes.count < 4096 else { return false }
        return bytes.isEmpty
            || bytes.split(separator: 0x2f, omittingEmptySubsequences: false).allSatisfy {
                !$0.isEmpty && $0.count <= 255 && !$0.elementsEqual([0x2e]) && !$0.elementsEqual([0x2e, 0x2e])
            }
    }

    /// The text without control characters, at most 1,000 of it.
    static func printable(_ bytes: ArraySlice<UInt8>) -> String {
        String(decoding: bytes.prefix(1000).map { $0 < 32 || $0 == 127 ? 0x20 : $0 }, as: UTF8.self)
    }
}

/// Cuts a report into records as it comes in.
struct ReportReader {
    private var pending: [UInt8] = []
    private var total = 0
    private(set) var records: [HelperRecord] = []
    /// The most bytes that a report may have.
    let limit: Int

    init(limit: Int = 16 << 20) { self.limit = limit }

    /// Takes the next bytes.
    ///
    /// - Throws: `unpack-failed` for a report that is too long or not of the known form.
    mutating func take(_ bytes: ArraySlice<UInt8>) throws(AegisError) {
        total += bytes.count
        guard total <= limit else { throw Self.bad("is longer than \(limit) bytes") }
        var rest = bytes
        while let end = rest.firstIndex(of: 0) {
            pending.append(contentsOf: rest[..<end])
            guard let record = HelperRecord(decoding: pending[...]) else { throw Self.bad("has an unknown form") }
            records.append(record)
            pending.removeAll(keepingCapacity: true)
            rest = rest[(end + 1)...]
        }
        pending.append(contentsOf: rest)
        guard pending.count <= 8192 else { throw Self.bad("has a record without an end") }
    }

    private static func bad(_ what: String) -> AegisError {
        .failed(
            "unpack-failed", "the report of the unpacking helper \(what)",
            hint: "the image may be hostile; do not use it")
    }
}
