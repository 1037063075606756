/// Reads the headers of a tar stream (ustar, pax, and GNU's long names), block by block; contents pass it by.
package struct TarDecoder: Sendable {
    /// What a block was.
    package enum Step: Sendable, Equatable {
        /// Part of a header: give the next block.
        case more
        /// An entry; its `size` bytes of content and their filling come next and are not for the decoder.
        case entry(TarEntry)
        /// The end of the stream.
        case end
    }
    private enum Extension: Sendable { case pax, global, longPath, longLink }

    private var collecting: Extension?
    private var collected: [UInt8] = []
    private var missing = 0
    private var emptyBlocks = 0
    private var path: [UInt8]?
    private var link: [UInt8]?
    private var size: UInt64?
    private var modified: UInt64?
    private var uid: UInt32?
    private var gid: UInt32?

    /// Makes a decoder at the start of a stream.
    package init() {}

    /// Takes the next 512 bytes that are not content.
    package mutating func take(_ block: [UInt8]) throws(TarError) -> Step {
        guard block.count == Tar.block else { throw TarError.malformed }
        if let kind = collecting {
            let part = min(missing, Tar.block)
            collected += block[..<part]
            missing -= part
            guard missing == 0 else { return .more }
            collecting = nil
            try apply(kind)
            return .more
        }
        guard block.contains(where: { $0 != 0 }) else {
            emptyBlocks += 1
            return emptyBlocks == 2 ? .end : .more
        }
        emptyBlocks = 0
        return try header(block)
    }

    private mutating func header(_ h: [UInt8]) throws(TarError) -> Step {
        var sum: UInt64 = 0
        for i in 0..<Tar.block { sum += i >= 148 && i < 156 ? 0x20 : UInt64(h[i]) }
        guard try Self.number(h[148..<156]) == sum else { throw TarError.malformed }
        let plain = try Self.number(h[124..<136])
        let size = self.size ?? plain
        switch h[156] {
        case 0x78: return try collect(.pax, size)
        case 0x67: return try collect(.global, size)
        case 0x4c: return try collect(.longPath, size)
        case 0x4b: return try collect(.longLink, size)
        default: break
        }
        let type = h[156] == 0 || h[156] == 0x37 ? TarKind.file.rawValue : h[156]
        guard let kind = TarKind(rawValue: type), kind != .device, kind != .fifo else {
            throw TarError.unsupported(type)
        }
        var name = Self.text(h[0..<100])
        // The prefix belongs to POSIX headers; GNU's (a blank after the magic) keep other things there.
        let prefix = Self.text(h[345..<500])
        if h[257] == 0x75 && h[262] == 0 && !prefix.isEmpty { name = prefix + [0x2f] + name }
        let owner = try Self.number(h[108..<116])
        let group = try Self.number(h[116..<124])
        let time = try Self.number(h[136..<148])
        let entry = TarEntry(
            path: path ?? name, kind: kind, link: link ?? Self.text(h[157..<257]), size: kind == .file ? size : 0,
            mode: UInt32(truncatingIfNeeded: try Self.number(h[100..<108]) & 0o7777),
            uid: uid ?? UInt32(truncatingIfNeeded: owner),
            gid: gid ?? UInt32(truncatingIfNeeded: group),
            modified: modified ?? time)
        forget()
        // Only files may carry content here; some writers give folders and links a size.
        guard kind == .file || size == 0 || kind == .hardLink else { throw TarError.malformed }
        return .entry(entry)
    }

    private mutating func forget() {
        path = nil
        link = nil
        size = nil
        modified = nil
        uid = nil
        gid = nil
    }

    private mutating func collect(_ kind: Extension, _ size: UInt64) throws(TarError) -> Step {
        guard size <= UInt64(Tar.extendedLimit) else { throw TarError.tooLong }
        collected = []
        self.size = nil
        guard size > 0 else { return .more }
        collecting = kind
        missing = Int(size)
        return .more
    }

    private mutating func apply(_ kind: Extension) throws(TarError) {
        switch kind {
        case .global: break
        case .longPath: path = Self.text(collected[...])
        case .longLink: link = Self.text(collected[...])
        case .pax: try applyRecords()
        }
        collected = []
    }

    private mutating func applyRecords() throws(TarError) {
        var at = 0
        while at < collected.count {
            guard let blank = collected[at...].firstIndex(of: 0x20),
                let length = Self.decimal(collected[at..<blank]), length > UInt64(blank - at + 1),
                length <= UInt64(collected.count - at)
            else { throw TarError.malformed }
            let record = collected[blank + 1..<at + Int(length) - 1]
            guard collected[at + Int(length) - 1] == 0x0a, let equals = record.firstIndex(of: 0x3d) else {
                throw TarError.malformed
            }
            try apply(key: record[..<equals], value: record[(equals + 1)...])
            at += Int(length)
        }
    }

    private mutating func apply(key: ArraySlice<UInt8>, value: ArraySlice<UInt8>) throws(TarError) {
        // Times may have a fraction; whole seconds are kept.
        let whole = value.prefix(while: { $0 != 0x2e })
        if key.elementsEqual("path".utf8) {
            path = Array(value)
        } else if key.elementsEqual("linkpath".utf8) {
            link = Array(value)
        } else if key.elementsEqual("size".utf8) {
            guard let number = Self.decimal(value) else { throw TarError.malformed }
            size = number
        } else if key.elementsEqual("mtime".utf8) {
            modified = Self.decimal(whole) ?? 0
        } else if key.elementsEqual("uid".utf8) {
            uid = Self.decimal(value).map { UInt32(truncatingIfNeeded: $0) }
        } else if key.elementsEqual("gid".utf8) {
            gid = Self.decimal(value).map { UInt32(truncatingIfNeeded: $0) }
        }
    }

    private static func text(_ field: ArraySlice<UInt8>) -> [UInt8] { Array(field.prefix(while: { $0 != 0 })) }

    private static func decimal(_ text: ArraySlice<UInt8>) -> UInt64? {
        guard !text.isEmpty, text.count <= 18 else { return nil }
        var value: UInt64 = 0
        for byte in text {
            guard byte >= 0x30 && byte <= 0x39 else { return nil }
            value = value * 10 + UInt64(byte - 0x30)
        }
        return value
    }

    /// Octal digits between blanks and NULs, or GNU's base 256. Negative numbers count as 0.
    private static func number(_ field: ArraySlice<UInt8>) throws(TarError) -> UInt64 {
        guard let first = field.first else { throw TarError.malformed }
        if first == 0xff { return 0 }
        if first == 0x80 {
            var value: UInt64 = 0
            for (i, byte) in field.dropFirst().enumerated() {
                guard field.count - 2 - i < 8 || byte == 0 else { throw TarError.malformed }
                value = value << 8 | UInt64(byte)
            }
            guard value <= UInt64(Int64.max) else { throw TarError.malformed }
            return value
        }
        var value: UInt64 = 0
        var ended = false
        for byte in field.drop(while: { $0 == 0x20 }) {
            if byte == 0 || byte == 0x20 {
                ended = true
                continue
            }
            guard !ended, byte >= 0x30 && byte <= 0x37 else { throw TarError.malformed }
            value = value << 3 | UInt64(byte - 0x30)
        }
        return value
    }
}
