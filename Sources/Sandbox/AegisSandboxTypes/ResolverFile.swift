/// The resolver that every sandbox with a network finds.
package enum ResolverFile {
    /// Its address: of a range that no host has, and the same in every sandbox.
    package static let address = "198.18.0.1"
    /// What goes into `/etc/resolv.conf`.
    package static let content = "nameserver \(address)\n"
}
