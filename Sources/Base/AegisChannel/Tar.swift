/// What an entry of a tar stream is.
package enum TarKind: UInt8, Sendable {
    case file = 0x30
    /// Another name of an entry that came before.
    case hardLink = 0x31
    case symlink = 0x32
    case directory = 0x35
    /// Only told of: neither made nor read.
    case device = 0x33
    case fifo = 0x36
}

/// One entry of a tar stream; `size` bytes (files only) follow it, filled up to whole blocks.
package struct TarEntry: Sendable, Equatable {
    package var path: [UInt8]
    package var kind: TarKind
    /// Target of a link.
    package var link: [UInt8]
    package var size: UInt64
    /// Permission bits, at most 0o7777.
    package var mode: UInt32
    package var uid: UInt32
    package var gid: UInt32
    /// Seconds since 1970.
    package var modified: UInt64

    /// Makes an entry.
    package init(
        path: [UInt8], kind: TarKind, link: [UInt8] = [], size: UInt64 = 0, mode: UInt32, uid: UInt32 = 0,
        gid: UInt32 = 0, modified: UInt64 = 0
    ) {
        self.path = path
        self.kind = kind
        self.link = link
        self.size = size
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.modified = modified
    }
}

/// Why bytes are not a tar stream that we read.
package enum TarError: Error, Sendable, Equatable {
    /// A header whose checksum or numbers are wrong.
    case malformed
    /// An entry kind that is neither file, folder nor link.
    case unsupported(UInt8)
    /// A name or extended header over the limit.
    case tooLong
}

/// Constants of the format.
package enum Tar {
    /// Bytes of a block; headers are one, contents are filled up to whole ones.
    package static let block = 512
    /// The most bytes of an extended header (names of 4,096 bytes fit several times).
    package static let extendedLimit = 65_536
    /// Bytes that fill `size` up to a whole block.
    package static func padding(_ size: UInt64) -> Int { Int((512 - size % 512) % 512) }
    /// The end of a stream.
    package static var end: [UInt8] { [UInt8](repeating: 0, count: 1024) }
}

extension TarEntry {
    /// The header, with a pax header before it where ustar has no room.
    package func encoded() -> [UInt8] {
        var records: [UInt8] = []
        if path.count > 100 { Self.record(&records, "path", path) }
        if link.count > 100 { Self.record(&records, "linkpath", link) }
        if size > 0o777_7777_7777 { Self.record(&records, "size", Self.digits(size, base: 10)) }
        if uid > 0o777_7777 { Self.record(&records, "uid", Self.digits(UInt64(uid), base: 10)) }
        if gid > 0o777_7777 { Self.record(&records, "gid", Self.digits(UInt64(gid), base: 10)) }
        if modified > 0o777_7777_7777 { Self.record(&records, "mtime", Self.digits(modified, base: 10)) }
        var out: [UInt8] = []
        if !records.isEmpty {
            var extended = self
            extended.path = Array("././@PaxHeader".utf8)
            extended.link = []
            extended.size = UInt64(records.count)
            extended.mode = 0o644
            out += extended.header(type: 0x78)
            out += records
            out += [UInt8](repeating: 0, count: Tar.padding(extended.size))
        }
        out += header(type: kind.rawValue)
        return out
    }

    private func header(type: UInt8) -> [UInt8] {
        var h: [UInt8] = []
        h.reserveCapacity(Tar.block)
        Self.field(&h, path, 100)
        Self.number(&h, UInt64(mode), 8)
        Self.number(&h, UInt64(uid), 8)
        Self.number(&h, UInt64(gid), 8)
        Self.number(&h, size, 12)
        Self.number(&h, modified, 12)
        h += [UInt8](repeating: 0x20, count: 8)
        h.append(type)
        Self.field(&h, link, 100)
        h += [0x75, 0x73, 0x74, 0x61, 0x72, 0, 0x30, 0x30]
        h += [UInt8](repeating: 0, count: Tar.block - h.count)
        var sum: UInt64 = 0
        for byte in h { sum += UInt64(byte) }
        var text = Self.digits(sum, base: 8)
        while text.count < 6 { text.insert(0x30, at: 0) }
        for i in 0..<6 { h[148 + i] = text[i] }
        h[154] = 0
        return h
    }

    /// What does not fit stands in the pax header; ustar gets its beginning.
    private static func field(_ h: inout [UInt8], _ text: [UInt8], _ width: Int) {
        let part = text.prefix(width)
        h += part
        h += [UInt8](repeating: 0, count: width - part.count)
    }

    private static func number(_ h: inout [UInt8], _ value: UInt64, _ width: Int) {
        let text = digits(value, base: 8)
        guard text.count < width else {
            h += [UInt8](repeating: 0x30, count: width - 1) + [0]
            return
        }
        h += [UInt8](repeating: 0x30, count: width - 1 - text.count)
        h += text
        h.append(0)
    }

    static func digits(_ value: UInt64, base: UInt64) -> [UInt8] {
        var rest = value
        var out: [UInt8] = []
        repeat {
            out.insert(UInt8(0x30 + rest % base), at: 0)
            rest /= base
        } while rest > 0
        return out
    }

    /// `LENGTH KEY=VALUE\n`, the length counting itself.
    private static func record(_ out: inout [UInt8], _ key: StaticString, _ value: [UInt8]) {
        let name = key.withUTF8Buffer { unsafe Array($0) }
        let rest = name.count + value.count + 3
        var length = rest + digits(UInt64(rest), base: 10).count
        if rest + digits(UInt64(length), base: 10).count != length { length += 1 }
        out += digits(UInt64(length), base: 10)
        out.append(0x20)
        out += name
        out.append(0x3d)
        out += value
        out.append(0x0a)
    }
}
