/// One 512-byte header, as it stands.
struct TarHeader {
    var name: [UInt8]
    var permissions: UInt32
    var user: UInt64
    var group: UInt64
    var size: UInt64
    /// Seconds since 1970.
    var modified: Int64
    var type: UInt8
    var linkName: [UInt8]

    init(_ block: [UInt8]) throws(TarError) {
        try Self.verify(block)
        let isPosix = block[257..<265].elementsEqual("ustar\u{0}00".utf8)
        let isGNU = block[257..<265].elementsEqual("ustar  \u{0}".utf8)
        guard isPosix || isGNU else { throw TarError(.malformed, "a header that is not ustar") }
        name = Self.text(block[0..<100])
        let prefix = isPosix ? Self.text(block[345..<500]) : []
        if !prefix.isEmpty { name = prefix + [TarPath.slash] + name }
        permissions = UInt32(truncatingIfNeeded: try Self.number(block[100..<108], "mode") & 0o7777)
        user = try Self.number(block[108..<116], "uid")
        group = try Self.number(block[116..<124], "gid")
        size = try Self.number(block[124..<136], "size")
        modified = try Self.signed(block[136..<148], "mtime")
        type = block[156]
        linkName = Self.text(block[157..<257])
    }

    private static func verify(_ block: [UInt8]) throws(TarError) {
        let stored = try number(block[148..<156], "checksum")
        var sum: UInt64 = 8 * 32
        for (index, byte) in block.enumerated() where !(148..<156).contains(index) { sum += UInt64(byte) }
        guard sum == stored else { throw TarError(.malformed, "a header with a wrong checksum") }
    }

    private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix { $0 != 0 }) }

    /// Octal digits, or GNU's base-256 form; never negative.
    private static func number(_ field: ArraySlice<UInt8>, _ what: String) throws(TarError) -> UInt64 {
        let value = try signed(field, what)
        guard value >= 0 else { throw TarError(.malformed, "a negative \(what) in a header") }
        return UInt64(value)
    }

    private static func signed(_ field: ArraySlice<UInt8>, _ what: String) throws(TarError) -> Int64 {
        let bad = TarError(.malformed, "a \(what) that is no number in a header")
        guard let first = field.first else { throw bad }
        if first & 0x80 != 0 {
            guard first == 0x80 || first == 0xFF else { throw bad }
            let bytes = field.dropFirst()
            let fill: UInt8 = first == 0xFF ? 0xFF : 0
            let low = bytes.suffix(8)
            // Everything above the low eight bytes, and the sign bit of those, must only continue the sign.
            guard bytes.dropLast(low.count).allSatisfy({ $0 == fill }) else { throw bad }
            let pattern = low.reduce(low.count == 8 ? 0 : (fill == 0 ? 0 : UInt64.max)) { $0 << 8 | UInt64($1) }
            let value = Int64(bitPattern: pattern)
            guard (value < 0) == (fill == 0xFF) else { throw bad }
            return value
        }
        let body = field.drop { $0 == 32 }
        let digits = body.prefix { (48...55).contains($0) }
        // At most 12 octal digits: 36 bits.
        guard body.dropFirst(digits.count).allSatisfy({ $0 == 0 || $0 == 32 }) else { throw bad }
        return digits.reduce(0) { $0 << 3 | Int64($1 - 48) }
    }
}

/// What pax headers and GNU's long names say about the next entry.
struct TarExtension: Sendable {
    /// The header types that extend.
    enum Kind: UInt8 {
        case local = 0x78  // x
        case global = 0x67  // g
        case longName = 0x4C  // L
        case longLink = 0x4B  // K
    }

    private var path: [UInt8]?
    private var linkTarget: [UInt8]?
    private var size: UInt64?
    private var user: UInt64?
    private var group: UInt64?
    private var modified: Int64?

    /// Takes in the content of an extended header.
    mutating func add(_ kind: Kind, _ bytes: [UInt8]) throws(TarError) {
        switch kind {
        case .longName: path = Array(bytes.prefix { $0 != 0 })
        case .longLink: linkTarget = Array(bytes.prefix { $0 != 0 })
        case .local:
            try Self.records(bytes) { key, value throws(TarError) in try set(key, value) }
        case .global:
            try Self.records(bytes) { key, _ throws(TarError) in
                guard !["path", "linkpath", "size"].contains(key), !key.hasPrefix("GNU.sparse") else {
                    throw TarError(.unsupported, "'\(key)' for the whole archive")
                }
            }
        }
    }

    /// The entry that a header and this describe together.
    func applied(to header: TarHeader) throws(TarError) -> TarEntry {
        var entry = TarEntry(
            path: path ?? header.name, kind: .file, permissions: header.permissions, user: user ?? header.user,
            group: group ?? header.group, size: size ?? header.size)
        let (nanoseconds, overflow) = header.modified.multipliedReportingOverflow(by: 1_000_000_000)
        entry.modified = modified ?? (overflow ? 0 : nanoseconds)
        switch header.type {
        // 7 is "contiguous", for whom the standard says: treat as a file.
        case 0, 0x30, 0x37: entry.kind = entry.path.last == TarPath.slash ? .directory : .file
        case 0x31: entry.kind = .hardLink
        case 0x32: entry.kind = .symbolicLink
        case 0x33, 0x34: entry.kind = .device
        case 0x35: entry.kind = .directory
        case 0x36: entry.kind = .fifo
        case 0x53: throw TarError(.unsupported, "a sparse file in the archive")
        default:
            throw TarError(.unsupported, "an entry of type \(header.type) in the archive")
        }
        if entry.kind == .symbolicLink || entry.kind == .hardLink { entry.linkTarget = linkTarget ?? header.linkName }
        guard !entry.path.isEmpty else { throw TarError(.malformed, "an entry without a name") }
        guard entry.path.count <= TarPath.maximum, entry.linkTarget.count <= TarPath.maximum else {
            throw TarError(.tooLarge, "a path above \(TarPath.maximum) bytes in the archive")
        }
        // Two readers would disagree about where the next header is.
        guard entry.kind == .file || entry.size == 0 else {
            throw TarError(.malformed, "'\(TarPath.shown(entry.path))' is no file and has content")
        }
        guard entry.size <= UInt64(Int64.max) else { throw TarError(.tooLarge, "a file of \(entry.size) bytes") }
        return entry
    }

    private mutating func set(_ key: String, _ value: ArraySlice<UInt8>) throws(TarError) {
        switch key {
        case "path": path = value.isEmpty ? nil : try Self.text(value)
        case "linkpath": linkTarget = value.isEmpty ? nil : try Self.text(value)
        case "size": size = try Self.integer(value, key)
        case "uid": user = try Self.integer(value, key)
        case "gid": group = try Self.integer(value, key)
        case "mtime": modified = try Self.time(value)
        default:
            if key.hasPrefix("GNU.sparse") { throw TarError(.unsupported, "a sparse file in the archive") }
        }
    }

    /// Calls `body` with each `LENGTH KEY=VALUE\n`.
    private static func records(
        _ bytes: [UInt8], _ body: (String, ArraySlice<UInt8>) throws(TarError) -> Void
    ) throws(TarError) {
        let bad = TarError(.malformed, "a pax header that cannot be read")
        var rest = bytes[...]
        while !rest.isEmpty {
            let digits = rest.prefix { (48...57).contains($0) }
            guard (1...6).contains(digits.count), rest.dropFirst(digits.count).first == 32 else { throw bad }
            let length = digits.reduce(0) { $0 * 10 + Int($1 - 48) }
            guard length <= rest.count, length > digits.count + 3 else { throw bad }
            let record = rest.prefix(length)
            rest = rest.dropFirst(length)
            let field = record.dropFirst(digits.count + 1)
            guard field.last == 10, let equals = field.firstIndex(of: 61), equals > field.startIndex else { throw bad }
            let key = String(decoding: field[..<equals], as: UTF8.self)
            try body(key, field[field.index(after: equals)...].dropLast())
        }
    }

    private static func text(_ value: ArraySlice<UInt8>) throws(TarError) -> [UInt8] {
        guard !value.contains(0) else { throw TarError(.unsafePath, "path with a zero byte in the archive") }
        return Array(value)
    }

    private static func integer(_ value: ArraySlice<UInt8>, _ key: String) throws(TarError) -> UInt64 {
        guard (1...19).contains(value.count), value.allSatisfy({ (48...57).contains($0) }) else {
            throw TarError(.malformed, "a \(key) that is no number in a pax header")
        }
        return value.reduce(0) { $0 * 10 + UInt64($1 - 48) }
    }

    /// `[-]SECONDS[.FRACTION]` as nanoseconds; times beyond the year 2262 are taken as 1970.
    private static func time(_ value: ArraySlice<UInt8>) throws(TarError) -> Int64 {
        let negative = value.first == 45
        let body = negative ? value.dropFirst() : value
        let whole = body.prefix { $0 != 46 }
        let fraction = body.dropFirst(whole.count).dropFirst()
        guard fraction.allSatisfy({ (48...57).contains($0) }) else {
            throw TarError(.malformed, "a mtime that is no number in a pax header")
        }
        let seconds = try integer(whole, "mtime")
        guard seconds < 9_000_000_000 else { return 0 }
        var nanoseconds = Int64(seconds) * 1_000_000_000
        var scale: Int64 = 100_000_000
        for digit in fraction.prefix(9) {
            nanoseconds += Int64(digit - 48) * scale
            scale /= 10
        }
        return negative ? -nanoseconds : nanoseconds
    }
}
