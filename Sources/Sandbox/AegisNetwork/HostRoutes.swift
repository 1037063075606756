package import AegisCapabilities
internal import CNetlink
internal import LinuxSys

/// What the routes of this host say, in the namespace that the daemon lives in, at the moment when they are asked.
package enum HostRoutes {
    /// Where an address is.
    package static func place(of address: IPAddress) -> AddressPlace {
        do throws(Errno) {
            let bits = unsafe cn_on_link(address.description)
            guard bits >= 0 else { throw Errno.current }
            if let network = bits == 0 ? nil : AddressBlock(address, bits: Int(bits)) { return .near(network) }
        } catch { return .unknown("\(error)") }
        // What cannot be looked up cannot be reached either; connecting says why.
        return unsafe cn_is_local(address.description) == 1 ? .own : .far
    }
}
