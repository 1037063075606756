/// What kind of place an address is, as far as a grant is concerned.
package enum AddressClass: Sendable, Equatable {
    /// On the public internet: what `network: *` and large blocks mean.
    case open
    /// Private, shared or reserved: reached only by a grant whose block lies in that range and says so.
    case restricted
    /// This host, its links, metadata services, multicast, translations: reached by no grant at all.
    case forbidden(String)

    /// The class of an address.
    package init(_ address: IPAddress) {
        if let (_, what) = Self.forbiddenBlocks.first(where: { $0.0.contains(address) }) {
            self = .forbidden(what)
        } else if address.isIPv4 {
            self = Self.restrictedBlocks.contains { $0.contains(address) } ? .restricted : .open
        } else {
            // Only 2000::/3 is handed out for the public internet.
            self =
                address.value >> 125 != 1 || Self.restrictedBlocks.contains { $0.contains(address) }
                ? .restricted : .open
        }
    }

    /// Whether a block lies in one restricted range, so that it names it on purpose.
    static func isRestricted(_ block: AddressBlock) -> Bool {
        restrictedBlocks.contains { $0.contains(block) }
            || (!block.base.isIPv4 && block.bits >= 3 && block.base.value >> 125 != 1)
    }

    /// Why no grant reaches anything in a block; nil when there is something that it can reach.
    static func forbids(_ block: AddressBlock) -> String? {
        forbiddenBlocks.first { $0.0.contains(block) }?.1
    }

    private static func block(_ text: String, _ bits: Int) -> AddressBlock {
        guard let address = IPAddress(text), let block = AddressBlock(address, bits: bits) else {
            preconditionFailure("the tables of this file are read by every test")
        }
        return block
    }

    private static let forbiddenBlocks: [(AddressBlock, String)] = [
        (block("169.254.169.254", 32), "a metadata service"), (block("100.100.100.200", 32), "a metadata service"),
        (block("168.63.129.16", 32), "a metadata service"), (block("fd00:ec2::254", 128), "a metadata service"),
        (block("0.0.0.0", 8), "this host"), (block("127.0.0.0", 8), "this host"),
        (block("169.254.0.0", 16), "link-local"), (block("198.18.0.0", 15), "what stands for names inside"),
        (block("224.0.0.0", 4), "multicast"), (block("240.0.0.0", 4), "no host"),
        (block("fe80::", 10), "link-local"), (block("fec0::", 10), "site-local"), (block("ff00::", 8), "multicast"),
        (block("64:ff9b::", 96), "a translation of IPv4"), (block("64:ff9b:1::", 48), "a translation of IPv4"),
        (block("2002::", 16), "a translation of IPv4"), (block("2001::", 32), "a translation of IPv4"),
        // Unspecified, loopback and the old IPv4-compatible addresses.
        (block("::", 96), "this host"), (block("100::", 64), "no host"),
    ]

    private static let restrictedBlocks: [AddressBlock] = [
        block("10.0.0.0", 8), block("172.16.0.0", 12), block("192.168.0.0", 16), block("100.64.0.0", 10),
        block("192.0.0.0", 24), block("192.0.2.0", 24), block("198.51.100.0", 24), block("203.0.113.0", 24),
        block("192.88.99.0", 24), block("fc00::", 7), block("2001:db8::", 32), block("3fff::", 20),
    ]
}
