/// How 198.18.0.0/15 is used inside: no grant reaches it, and no host has it, so nothing of a user's can collide with it.
enum AddressPlan {
    /// 198.18.0.1, as in `ResolverFile`: the gateway's end of every link, where the resolver listens.
    static let gateway: UInt32 = 0xc612_0001
    /// 198.18.1.0 to 198.18.255.255 stand for names.
    static let names = UInt32(0xc612_0100)...UInt32(0xc612_ffff)
    /// 198.19.0.1 and up are the instances'.
    static let instances = UInt32(0xc613_0001)...UInt32(0xc613_fffe)
    /// The port of the resolver.
    static let resolverPort: UInt16 = 53
    /// The port to which every other connection is redirected.
    static let egressPort: UInt16 = 15001

    /// The address of an instance by the number of its link.
    static func instance(_ index: UInt32) -> UInt32 { instances.lowerBound + index }
}
