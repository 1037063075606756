internal import AegisCapabilities

/// The addresses that stand for names in one instance (decision D6). An address keeps its name for the instance's life: a
/// program may remember it for as long as it likes.
struct SyntheticNames {
    /// Names that one instance may have asked for; with `*.DOMAIN` it could make up any number.
    static let limit = 16_384

    private var names: [HostName] = []
    private var addresses: [HostName: UInt32] = [:]

    /// The address of a name; nil when the instance has too many.
    mutating func address(of name: HostName) -> UInt32? {
        if let known = addresses[name] { return known }
        guard names.count < Self.limit else { return nil }
        let address = AddressPlan.names.lowerBound + UInt32(names.count)
        names.append(name)
        addresses[name] = address
        return address
    }

    /// The name that an address stands for.
    func name(of address: IPAddress) -> HostName? {
        guard address.isIPv4, AddressPlan.names.contains(UInt32(address.value)) else { return nil }
        let index = Int(UInt32(address.value) - AddressPlan.names.lowerBound)
        return index < names.count ? names[index] : nil
    }

    /// How many there are.
    var count: Int { names.count }
    /// All, in the order of their addresses.
    var all: [HostName] { names }
}
