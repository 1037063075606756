internal import AegisCapabilities
package import AegisCore
internal import AegisSandboxTypes
internal import Synchronization

/// Whose group it is: two users who take the same name have two groups.
struct GroupKey: Hashable, Sendable {
    var owner: UInt32
    var name: String
}

/// An instance as networks know it.
package struct NetworkMember: Sendable, Equatable {
    /// The instance's id.
    package var id: String
    /// What other members call it.
    package var name: String
    /// The user that it belongs to.
    package var owner: UInt32
    /// The instance that has started it: its grants are derived from those of that one.
    package var parent: String?
    /// Makes one.
    package init(id: String, name: String, owner: UInt32, parent: String? = nil) {
        self.id = id
        self.name = name
        self.owner = owner
        self.parent = parent
    }
}

/// The groups of a node: who is a member, at which address. It says what the kernel is to be told, and what the resolver
/// answers members.
final class NetworkGroups: Sendable {
    private struct Group {
        var number: UInt32
        /// By the number in the address.
        var members: [UInt32: NetworkMember] = [:]
    }
    private struct State {
        var groups: [GroupKey: Group] = [:]
        var places: [String: (key: GroupKey, number: UInt32)] = [:]
    }
    private let state = Mutex(State())

    /// Makes an instance a member; it has left any other group.
    ///
    /// - Parameters:
    ///   - member: the instance.
    ///   - name: of the group, which is made when it is not there.
    ///   - wanted: the address that the instance has already, from before a restart of the daemon.
    /// - Returns: its address.
    /// - Throws: `too-many-groups`, `group-full`, and `group-changed` for an address that has become another's.
    func join(_ member: NetworkMember, _ name: String, wanted: UInt32? = nil) throws(AegisError) -> UInt32 {
        let key = GroupKey(owner: member.owner, name: name)
        let result = state.withLock { state -> Result<UInt32, AegisError> in
            if let known = state.places[member.id], known.key == key, let group = state.groups[key] {
                return .success(AddressPlan.member(known.number, of: group.number))
            }
            var group: Group
            if let known = state.groups[key] {
                group = known
            } else {
                let taken = Set(state.groups.values.map(\.number))
                let free =
                    wanted.flatMap { AddressPlan.place(of: $0)?.group }
                    ?? (0..<AddressPlan.groupLimit).first { !taken.contains($0) }
                guard let free else { return .failure(Self.tooMany) }
                guard !taken.contains(free) else { return .failure(Self.changed(name)) }
                group = Group(number: free)
            }
            let number: UInt32
            if let place = wanted.flatMap(AddressPlan.place) {
                guard place.group == group.number, group.members[place.number] == nil else {
                    return .failure(Self.changed(name))
                }
                number = place.number
            } else {
                guard let free = (1...AddressPlan.memberLimit).first(where: { group.members[$0] == nil }) else {
                    return .failure(Self.full(name))
                }
                number = free
            }
            group.members[number] = member
            state.groups[key] = group
            state.places[member.id] = (key, number)
            return .success(AddressPlan.member(number, of: group.number))
        }
        return try result.get()
    }

    /// Takes an instance out of its group.
    ///
    /// - Returns: the address that it had, and whether the group is gone with it; nil when it was in none.
    func leave(_ id: String) -> (address: UInt32, isLast: Bool)? {
        state.withLock { state in
            guard let place = state.places.removeValue(forKey: id), var group = state.groups[place.key] else {
                return nil
            }
            group.members[place.number] = nil
            state.groups[place.key] = group.members.isEmpty ? nil : group
            return (AddressPlan.member(place.number, of: group.number), group.members.isEmpty)
        }
    }

    /// The group that an instance is in.
    func group(of id: String) -> String? { state.withLock { $0.places[id]?.key.name } }

    /// The address that an instance has in its group; nil when it is in none.
    func address(of id: String) -> UInt32? {
        state.withLock { state in
            guard let place = state.places[id], let group = state.groups[place.key] else { return nil }
            return AddressPlan.member(place.number, of: group.number)
        }
    }

    /// All groups that there are, by name.
    var all: [NetworkGroup] {
        func text(_ address: UInt32) -> String { IPAddress(ipv4: address).description }
        return state.withLock(\.groups).map { key, group in
            NetworkGroup(
                name: key.name, owner: key.owner,
                subnet: "\(text(AddressPlan.member(0, of: group.number)))/\(AddressPlan.groupPrefix)",
                gateway: text(AddressPlan.gateway),
                members: group.members.sorted { $0.key < $1.key }.map { number, member in
                    NetworkGroup.Member(
                        id: member.id, name: member.name, address: text(AddressPlan.member(number, of: group.number)))
                })
        }.sorted { ($0.name, $0.owner) < ($1.name, $1.owner) }
    }

    /// What the resolver says of a name to a member.
    enum Answer: Equatable {
        case member(UInt32)
        /// The name is one of the group's, but nobody has it now.
        case nobody
        /// It is no name of a group.
        case unknown
    }

    /// Looks up NAME and NAME.GROUP.internal.
    func look(up text: String, for id: String) -> Answer {
        let name = (text.hasSuffix(".") ? String(text.dropLast()) : text).lowercased()
        return state.withLock { state in
            guard let place = state.places[id], let group = state.groups[place.key] else { return .unknown }
            let suffix = ".\(place.key.name).internal"
            let isWhole = name.hasSuffix(suffix)
            let wanted = isWhole ? String(name.dropLast(suffix.count)) : name
            if let number = group.members.first(where: { $0.value.name == wanted })?.key {
                return .member(AddressPlan.member(number, of: group.number))
            }
            return isWhole ? .nobody : .unknown
        }
    }

    /// The address of some member of another group than an instance's, of its own or another user's.
    func stranger(to id: String) -> UInt32? {
        state.withLock { state in
            let own = state.places[id]?.key
            return state.groups.first { $0.key != own }.flatMap { other in
                other.value.members.keys.min().map { AddressPlan.member($0, of: other.value.number) }
            }
        }
    }

    private static var tooMany: AegisError {
        AegisError(
            .unavailable, "too-many-groups", "this node has \(AddressPlan.groupLimit) network groups, its limit",
            hint: "stop the instances of one, or let instances share a group")
    }
    private static func full(_ name: String) -> AegisError {
        AegisError(
            .unavailable, "group-full", "the network group '\(name)' has \(AddressPlan.memberLimit) members, its limit",
            hint: "stop some, or use another group")
    }
    private static func changed(_ name: String) -> AegisError {
        AegisError(
            .conflict, "group-changed", "the network group '\(name)' has other addresses than before the restart",
            hint: "restart the instance")
    }
}

/// The rule for names of network groups.
package enum GroupNames {
    /// Words that mean something else, here or in other programs.
    private static let taken = ["none", "allow", "host", "bridge", "default"]

    /// Checks a name.
    ///
    /// - Throws: `invalid-argument` with what would be right.
    package static func validate(_ name: String) throws(AegisError) {
        guard !taken.contains(name) else {
            let hint =
                switch name {
                case "none", "allow": "write --network \(name), without a group"
                case "host": "no instance has the host's network; single places are opened with --allow"
                default: "take another name; a network that reaches nobody is --network none"
                }
            throw .usage("'\(name)' cannot be the name of a network group", hint: hint)
        }
        try Names.validate(name, what: "group")
    }
}
