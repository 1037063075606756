internal import AegisCore
internal import AegisIO
internal import AegisSandboxTypes

/// Sandboxes of instances that are made ready for their next start: made, counted and given up with those of the pool.
extension WarmPool {
    var standbys: StandbyBoard { services.standbys }

    /// Makes the one that has waited longest, or notes why that cannot be done now.
    func fillStandby(of owner: any StandbyOwner) async {
        let typical = standbys.typical ?? 32 << 20
        let held = held
        if held + typical > services.defaults.warmMemory {
            return standbys.postpone(
                owner.id, until: uptime + .seconds(60),
                "what is kept ready uses \(held >> 20) MiB of the \(services.defaults.warmMemory >> 20) MiB that it may"
            )
        }
        if let objection = pressure.objection(for: typical) {
            return standbys.postpone(owner.id, until: uptime + Self.pressurePause, objection)
        }
        watchMemory()
        await owner.makeStandby()
    }

    /// Bytes of everything that is kept ready.
    var held: UInt64 { slots.flatMap(\.ready).reduce(standbys.bytes) { $0 + $1.memory } }

    /// Memory is scarce: those that no start waits for go.
    func relieveStandbys(because objection: String) {
        let owners = standbys.owners
        guard !owners.isEmpty, !standbysGo else { return }
        standbysGo = true
        let until = uptime + Self.pressurePause
        services.scope.spawn("standby-relief") { [weak self, services] in
            await withDiscardingTaskGroup { group in
                for owner in owners {
                    group.addTask {
                        let isReady = if case .ready? = services.standbys.place(of: owner.id) { true } else { false }
                        await owner.dropStandby(sparingAwaited: true)
                        if isReady {
                            services.logger.info(
                                "memory is scarce: a sandbox for the next start goes", ("instance", owner.id),
                                ("why", objection))
                        }
                        services.standbys.want(owner, notBefore: until, because: objection)
                    }
                }
            }
            await self?.standbysHaveGone()
        }
    }

    private func standbysHaveGone() { standbysGo = false }

    /// Ends all of them; none is made any more.
    func closeStandbys() async {
        let owners = standbys.close()
        await withDiscardingTaskGroup { group in
            for owner in owners { group.addTask { await owner.dropStandby(sparingAwaited: false) } }
        }
    }
}
