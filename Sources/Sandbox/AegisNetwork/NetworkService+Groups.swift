import AegisCore
import AegisIO
package import AegisSandboxTypes
import LinuxSys

/// Joining groups and leaving them.
extension NetworkService {
    /// The groups that have members, by name.
    package nonisolated var groups: [NetworkGroup] { gate.groups.all }

    private func port(_ index: UInt32, _ address: UInt32) -> KernelNetwork.Port {
        KernelNetwork.Port(
            bridge: GatewayRules.bridge(node, AddressPlan.place(of: address)?.group ?? 0),
            name: GatewayRules.port(node, index), table: GatewayRules.table(node), address: address)
    }

    /// Those members of groups, by the numbers of their links, who run since an earlier daemon: their ports are there, and the rules
    /// that are in force let them carry what their records say. A record alone proves nothing: the number may have become another's.
    func running(in gateway: SharedNamespace) async -> [UInt32: KernelNetwork.Port] {
        let ports = taken.compactMap { index, id in gate.groups.address(of: id).map { (index, port(index, $0)) } }
        guard !ports.isEmpty else { return [:] }
        do {
            return try await bridges.run {
                Dictionary(
                    uniqueKeysWithValues: try ports.filter { try KernelNetwork.isPinned($0.1, gateway: gateway.raw) })
            }
        } catch {
            // Each is let through again once it has been taken over.
            gate.logger.warning("it is not known which members of groups run", ("error", "\(error)"))
            return [:]
        }
    }

    /// Takes those out again who have left their group while the rules were loaded, when nobody could take them out yet.
    func forget(_ loaded: [UInt32: KernelNetwork.Port], in gateway: SharedNamespace) async {
        for (index, port) in loaded where taken[index].flatMap(gate.groups.address) != port.address {
            do {
                try await bridges.run { try KernelNetwork.leave(port, isLast: false, gateway: gateway.raw) }
            } catch {
                gate.logger.error("a port of a group cannot be removed", ("port", port.name), ("error", "\(error)"))
            }
        }
    }

    /// Connects a linked instance with its group.
    func join(_ id: String, _ address: UInt32) async throws {
        guard let link = links[id], let gateway = gateway?.raw else { return }
        let (port, namespace, uplink) = (port(link.uplink.index, address), link.namespace, link.uplink)
        let number = try await bridges.run {
            try KernelNetwork.join(port, gateway: gateway, instance: namespace.raw)
            try uplink.count(port.name, isPort: true)
            return try KernelNetwork.number(of: port.name, gateway: gateway)
        }
        links[id]?.address = address
        interfaces[number] = (id, true)
    }

    /// How long ago an instance and other members of its group have last sent each other something.
    ///
    /// - Parameter id: the instance.
    /// - Returns: nil for one that is in no group, and when there was nothing for a day.
    package func unused(_ id: String) async -> Duration? {
        guard let link = links[id], link.address != nil, let gateway else { return nil }
        let (port, table) = (GatewayRules.port(node, link.uplink.index), link.uplink.table)
        return try? await BlockingPool.shared.run {
            try KernelNetwork.unused(port, table: table, gateway: gateway.raw)
        }
    }

    /// Disconnects an instance from its group.
    func leave(_ id: String, _ index: UInt32) async {
        guard let (address, isLast) = gate.groups.leave(id) else { return }
        links[id]?.address = nil
        interfaces = interfaces.filter { $0.value.instance != id || !$0.value.inGroup }
        guard let gateway = gateway?.raw else { return }
        let port = port(index, address)
        do {
            try await bridges.run { try KernelNetwork.leave(port, isLast: isLast, gateway: gateway) }
        } catch { gate.logger.error("a port of a group cannot be removed", ("port", port.name), ("error", "\(error)")) }
    }

    /// Moves an instance into another group, or out of the one that it is in; children that were in it with it leave it, too.
    func move(_ link: Link, _ place: inout Place, to group: String?) async throws {
        let id = link.member.id
        guard gate.groups.group(of: id) != group else { return }
        let before = (group: gate.groups.group(of: id), address: place.address)
        await leave(id, place.index)
        place.address = nil
        if let group {
            do {
                let address = try gate.groups.join(link.member, group)
                try await join(id, address)
                place.address = address
            } catch {
                await leave(id, place.index)
                // Back to where the record says that it is.
                if let old = before.group, (try? gate.groups.join(link.member, old, wanted: before.address)) != nil,
                    let address = before.address
                {
                    try? await join(id, address)
                }
                if let error = error as? AegisError { throw error }
                throw AegisError.failed("network-failed", "cannot link \(id) to its group: \(error)")
            }
        }
        await leaveWithChildren(of: id)
    }

    /// Takes those out of their group who were in it with their parent, and those whom they have started.
    private func leaveWithChildren(of parent: String) async {
        for (child, own) in links where own.member.parent == parent {
            await turns.enter(child)
            if gate.groups.group(of: child) != nil { await leave(child, own.uplink.index) }
            turns.leave(child)
            await leaveWithChildren(of: child)
        }
    }

    /// Makes an instance a member of a group; a child only of the one that its parent is in.
    func enter(_ member: NetworkMember, _ group: String, wanted: UInt32? = nil) throws(AegisError) -> UInt32 {
        if let parent = member.parent, gate.groups.group(of: parent) != group {
            throw AegisError(
                .conflict, "group-changed", "\(member.name) is not in the group '\(group)': its parent has left it")
        }
        return try gate.groups.join(member, group, wanted: wanted)
    }
}
