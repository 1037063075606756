/// Who a process runs as.
package struct Account: Sendable, Equatable {
    package var uid: UInt32
    package var gid: UInt32
    /// Supplementary groups.
    package var groups: [UInt32]
    /// The home folder in passwd, `/` if the user has no entry.
    package var home: [UInt8]
    /// Makes an account.
    package init(uid: UInt32, gid: UInt32, groups: [UInt32], home: [UInt8]) {
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home
    }
}

/// What a user specification does not find.
package enum AccountError: Error, Sendable, Equatable {
    /// No such user in passwd.
    case noUser
    /// No such group in group.
    case noGroup
    /// Neither a name nor a number.
    case malformed
}

/// Looks users up in the text of a sandbox's own /etc/passwd and /etc/group: never trusted, never too long.
package enum Accounts {
    /// The most bytes of passwd or group that are read.
    package static let fileLimit = 1 << 18
    /// The most supplementary groups that a process gets.
    package static let groupLimit = 64

    /// Resolves `uid`, `name`, `uid:gid`, `name:group` (empty: root) the way container engines do: a number needs no
    /// entry, a group given by name or number takes the place of all others.
    package static func resolve(_ spec: [UInt8], passwd: [UInt8], group: [UInt8]) throws(AccountError) -> Account {
        let parts = fields(spec[...], by: colon)
        guard parts.count <= 2 else { throw AccountError.malformed }
        let user = parts.isEmpty || parts[0].isEmpty ? ArraySlice([zero]) : parts[0]
        var account = Account(uid: 0, gid: 0, groups: [], home: [slash])
        let number = decimal(user)
        let entry = entry(in: passwd, minimum: 6) { fields in
            if let number { return decimal(fields[2]) == number }
            return fields[0].elementsEqual(user)
        }
        var name: [UInt8]?
        if let entry, let uid = decimal(entry[2]), let gid = decimal(entry[3]) {
            account.uid = uid
            account.gid = gid
            if !entry[5].isEmpty { account.home = Array(entry[5]) }
            name = Array(entry[0])
        } else if let number {
            account.uid = number
        } else {
            throw AccountError.noUser
        }
        if parts.count == 2, !parts[1].isEmpty {
            account.gid = try groupNumber(parts[1], in: group)
        } else if let name {
            account.groups = memberships(of: name, in: group)
        }
        return account
    }

    private static func groupNumber(_ spec: ArraySlice<UInt8>, in group: [UInt8]) throws(AccountError) -> UInt32 {
        if let number = decimal(spec) { return number }
        let found = entry(in: group, minimum: 3) { $0[0].elementsEqual(spec) }
        guard let found, let gid = decimal(found[2]) else { throw AccountError.noGroup }
        return gid
    }

    private static func memberships(of name: [UInt8], in group: [UInt8]) -> [UInt32] {
        var groups: [UInt32] = []
        for line in fields(group[...], by: newline) {
            let parts = fields(line, by: colon)
            guard parts.count >= 4, let gid = decimal(parts[2]), groups.count < groupLimit else { continue }
            for member in fields(parts[3], by: comma) where member.elementsEqual(name) {
                groups.append(gid)
                break
            }
        }
        return groups
    }

    /// The fields of the first line with at least `minimum` of them for which `matches` holds.
    private static func entry(
        in text: [UInt8], minimum: Int, where matches: ([ArraySlice<UInt8>]) -> Bool
    ) -> [ArraySlice<UInt8>]? {
        for line in fields(text[...], by: newline) {
            let parts = fields(line, by: colon)
            if parts.count >= minimum && matches(parts) { return parts }
        }
        return nil
    }

    private static func fields(_ text: ArraySlice<UInt8>, by separator: UInt8) -> [ArraySlice<UInt8>] {
        var parts: [ArraySlice<UInt8>] = []
        var from = text.startIndex
        for at in text.indices where text[at] == separator {
            parts.append(text[from..<at])
            from = at + 1
        }
        parts.append(text[from...])
        return parts
    }

    /// A number of at most 32 bits, `nil` for anything else. The last value stands for "none" in system calls.
    private static func decimal(_ text: ArraySlice<UInt8>) -> UInt32? {
        guard !text.isEmpty, text.count <= 10 else { return nil }
        var value: UInt64 = 0
        for byte in text {
            guard byte >= zero, byte <= zero + 9 else { return nil }
            value = value * 10 + UInt64(byte - zero)
        }
        return value < UInt64(UInt32.max) ? UInt32(value) : nil
    }

    private static let zero = UInt8(ascii: "0")
    private static let slash = UInt8(ascii: "/")
    private static let colon = UInt8(ascii: ":")
    private static let comma = UInt8(ascii: ",")
    private static let newline = UInt8(ascii: "\n")
}
