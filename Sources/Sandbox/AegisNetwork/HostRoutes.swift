package import AegisCapabilities
internal import CNetlink
internal import LinuxSys

/// What the routes of this host say, in the namespace that the daemon lives in, at the moment when they are asked.
package enum HostRoutes {
    /// Where an address is.
    package static func place(of address: IPAddress) -> AddressPlace {
        // What cannot be looked up cannot be reached either; connecting says why.
        if unsafe cn_is_local(address.description) == 1 { return .own }
        let bits = unsafe cn_on_link(address.description)
        guard bits >= 0 else { return .unknown("\(Errno.current)") }
        guard bits > 0, let network = AddressBlock(address, bits: Int(bits)) else { return .far }
        return .near(network)
    }
}
