/// A network group, as `GET /v1/groups` tells of it. It is there as long as it has members: those that run or are paused.
package struct NetworkGroup: Sendable, Codable, Equatable {
    /// An instance in it.
    package struct Member: Sendable, Codable, Equatable {
        package var id: String
        /// What the others call it: its name, or its id where it has none.
        package var name: String
        /// Its address in the group.
        package var address: String

        package init(id: String, name: String, address: String) {
            self.id = id
            self.name = name
            self.address = address
        }
    }

    package var name: String
    /// The uid whose group it is; another user's of the same name is another group.
    package var owner: UInt32
    /// The addresses of members, as `198.19.0.0/24`.
    package var subnet: String
    /// Where members find the resolver, and everything that is not in the group: the same for all instances.
    package var gateway: String
    /// By their addresses.
    package var members: [Member]

    package init(name: String, owner: UInt32, subnet: String, gateway: String, members: [Member]) {
        self.name = name
        self.owner = owner
        self.subnet = subnet
        self.gateway = gateway
        self.members = members
    }
}
