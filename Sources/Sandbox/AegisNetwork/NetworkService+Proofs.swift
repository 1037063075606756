import AegisCapabilities
import AegisCore
import AegisIO
package import AegisSandboxTypes
import LinuxSys

/// What the kernel refuses, and proofs that it does.
extension NetworkService {
    /// Proofs that are kept of an instance.
    private static var kept: Int { 10 }
    /// How often in a row a proof may fail to be made.
    private static var mostMisses: Int { 3 }

    /// Tells instances what the rules of the gateway refuse, and proves them at random moments, until the daemon ends.
    func hear(_ gateway: SharedNamespace) throws {
        let news = try FileStream(KernelNetwork.log(of: gateway.raw), on: gate.loop)
        scope.spawn("network-refusals") {
            await self.read(news)
            news.close()
        }
        scope.spawn("network-proofs") {
            let clock = self.gate.loop.clock
            var schedule = ProofSchedule(interval: self.proofInterval) { try await clock.sleep(for: $0) }
            await schedule.run {
                await Array(self.links.keys)
            } prove: {
                await self.check($0, .random)
            }
        }
    }

    /// Something came through. Whoever sent it does not go on, whatever its next proof would say: what was open for a moment has
    /// been open. All others are proved.
    func alarm(_ packets: Set<LoggedPacket>) {
        for packet in packets {
            let id = sender(of: packet)
            if let id, let flow = ProbeFlow(packet), links[id]?.uplink.cameThrough(flow) == true { continue }
            gate.logger.error(
                "the gateway let something through that it must refuse", ("instance", id ?? "-"),
                ("packet", packet.text), ("source", IPAddress(ipv4: packet.source).description))
            guard let id else { continue }
            lose(
                id, links[id]?.uplink,
                AegisError(
                    .failed, "policy-unproven",
                    "the network did not refuse what it has to: \(packet.text) left the instance and ended in the trap",
                    hint: "has another program changed rules or links of Aegis's namespace?"))
        }
        hasAlarm = true
        guard !isAlarmed else { return }
        isAlarmed = true
        scope.spawn("network-alarm") { await self.proveAll() }
    }

    /// What comes meanwhile is heard, and is looked into in the next round.
    private func proveAll() async {
        while hasAlarm {
            hasAlarm = false
            await withDiscardingTaskGroup { group in
                for (id, link) in links where !link.isLost { group.addTask { await self.check(id, .alarm) } }
            }
        }
        isAlarmed = false
    }

    /// The instance that sent a packet. The kernel takes an address only from the link that its route leads back to
    /// (`rp_filter`), so that it says on which one the packet came in; and it does so whatever has become of the rules.
    private func sender(of packet: LoggedPacket) -> String? {
        guard AddressPlan.instances.contains(packet.source) else { return nil }
        return taken[packet.source - AddressPlan.instances.lowerBound]
    }

    /// Says, once, that an instance must not go on. It may have ended meanwhile, and have been started anew: that start has a
    /// proof of its own.
    private func lose(_ id: String, _ uplink: Uplink?, _ failure: AegisError) {
        guard let link = links[id], link.uplink === uplink, !link.isLost else { return }
        links[id]?.isLost = true
        link.observer.unproven(failure)
    }

    private nonisolated func read(_ news: FileStream) async {
        while !Task.isCancelled {
            do throws(IOError) {
                let refusals = try news.withDescriptor("reading what was refused") { descriptor throws(Errno) in
                    try LoggedPacket.read(descriptor)
                }
                await tell(refusals)
            } catch {
                switch error.errno {
                case .wouldBlock?: guard (try? await news.waitUntilReadable()) != nil else { return }
                // More than could be kept: what is lost here is in the kernel's counters.
                case .noBufferSpace?: continue
                default:
                    gate.logger.error("refusals of networks cannot be read", ("error", "\(error)"))
                    return
                }
            }
        }
    }

    private func tell(_ refusals: [LoggedPacket]) {
        for one in refusals {
            guard let (id, inGroup) = interfaces[one.link] else { continue }
            links[id]?.uplink.refused(one, inGroup: inGroup)
        }
    }

    // MARK: Proofs

    /// Proves the network of a linked instance.
    ///
    /// - Throws: when a probe cannot be made.
    func prove(_ id: String, _ cause: PolicyProof.Cause) async throws -> PolicyProof {
        guard let link = links[id] else {
            throw AegisError.conflict("network-busy", "\(id) has no network at the moment", hint: "try again")
        }
        let stranger = gate.groups.stranger(to: id) ?? AddressPlan.member(254, of: AddressPlan.groupLimit - 1)
        let proof = try await PolicyProver(
            uplink: link.uplink, namespace: link.namespace, member: link.address, stranger: stranger,
            opened: link.grants.map(\.spec.capability)
        ).prove(cause)
        if links[id]?.uplink === link.uplink { proofs[id] = Array(([proof] + (proofs[id] ?? [])).prefix(Self.kept)) }
        return proof
    }

    /// Proves a linked instance whose command runs already; its observer is told of a failure.
    ///
    /// - Parameters:
    ///   - id: the instance.
    ///   - cause: why.
    package func check(_ id: String, _ cause: PolicyProof.Cause) async {
        await turns.enter(id)
        defer { turns.leave(id) }
        guard let link = links[id] else { return }
        do {
            let failure = try await prove(id, cause).failure
            links[id]?.misses = 0
            if let failure { lose(id, link.uplink, failure) }
        } catch {
            // It ended meanwhile, or the machine has no room for a probe.
            gate.logger.warning("a network was not proved", ("instance", id), ("error", "\(error)"))
            guard !Task.isCancelled, links[id]?.uplink === link.uplink else { return }
            links[id]?.misses += 1
            // What cannot be looked at for long is not trusted either.
            guard let misses = links[id]?.misses, misses >= Self.mostMisses else { return }
            lose(
                id, link.uplink,
                .failed("policy-unproven", "the network could not be proved \(misses) times in a row: \(error)"))
        }
    }

    /// The last proofs of an instance, newest first, and what was refused.
    ///
    /// - Parameter id: the instance.
    /// - Returns: none, and zeros, for one without a network.
    package func proved(_ id: String) async -> (proofs: [PolicyProof], denials: UInt64, dropped: UInt64) {
        let dropped = await links[id]?.uplink.dropped() ?? 0
        return (proofs[id] ?? [], links[id]?.uplink.denials ?? 0, dropped)
    }
}
