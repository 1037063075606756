/// How 198.18.0.0/15 is used inside: no grant reaches it, and no host has it, so nothing of a user's can collide with it.
enum AddressPlan {
    /// 198.18.0.1, as in `ResolverFile`: the gateway's end of every link, where the resolver listens.
    static let gateway: UInt32 = 0xc612_0001
    /// 198.18.0.2: what the name of a probe's control leads to.
    static let control: UInt32 = 0xc612_0002
    /// 198.18.0.3: the end of the gateway's only way, where nothing may ever arrive.
    static let trap: UInt32 = 0xc612_0003
    /// 198.18.1.0 to 198.18.127.255 stand for names.
    static let names = UInt32(0xc612_0100)...UInt32(0xc612_7fff)
    /// 198.18.128.1 to 198.18.255.254 are the instances' ends of their links.
    static let instances = UInt32(0xc612_8001)...UInt32(0xc612_fffe)
    /// The prefix of their network, in bits.
    static let instancesPrefix: UInt8 = 17
    /// 198.19.N.0/24 is the network of a group.
    static let groups: UInt32 = 0xc613_0000
    /// How many groups a node can have at the same time.
    static let groupLimit: UInt32 = 256
    /// The prefix of a group's network, in bits.
    static let groupPrefix: UInt8 = 24
    /// How many members a group can have at the same time.
    static let memberLimit: UInt32 = 254
    /// The port of the resolver.
    static let resolverPort: UInt16 = 53
    /// The port to which every other connection is redirected.
    static let egressPort: UInt16 = 15001

    /// The address of an instance by the number of its link.
    static func instance(_ index: UInt32) -> UInt32 { instances.lowerBound + index }
    /// The address of a member, from 1, of a group.
    static func member(_ number: UInt32, of group: UInt32) -> UInt32 { groups + group << 8 + number }
    /// The number of the group that a member's address is of, and its own in it; nil for other addresses.
    static func place(of address: UInt32) -> (group: UInt32, number: UInt32)? {
        guard address & 0xffff_0000 == groups, (1...memberLimit).contains(address & 0xff) else { return nil }
        return (address >> 8 & 0xff, address & 0xff)
    }
}
