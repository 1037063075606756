internal import AegisCapabilities

/// The addresses that stand for names in one instance (decision D6). An address keeps its name for the sandbox's life, also
/// over restarts of the daemon: a program may remember it for as long as it likes.
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

    /// The last name, which is taken back: its address could not be written down.
    mutating func dropLast() {
        if let last = names.popLast() { addresses[last] = nil }
    }

    /// How many there are.
    var count: Int { names.count }

    /// What is written down of them.
    var lines: [UInt8] { names.flatMap { Array("\($0)\n".utf8) } }

    /// None yet.
    init() {}

    /// Those that an earlier daemon wrote down, one a line, in the order of their addresses. A last line that is not whole was
    /// never answered with.
    init(lines: [UInt8]) {
        for line in lines.split(separator: 10, omittingEmptySubsequences: false).dropLast() {
            guard let name = HostName(String(decoding: line, as: UTF8.self)), address(of: name) != nil else { return }
        }
    }
}
