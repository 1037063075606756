import AegisCore
import AegisIO
import LinuxSys

/// What the kernel has counted while no daemon ran.
extension NetworkService {
    /// Reads what the rules have counted while nobody heard them, before they are loaded anew; and writes it down, as this daemon
    /// may end before it has told of it.
    func readCounters(_ gateway: SharedNamespace, _ trap: SharedNamespace) async {
        let (node, places) = (node, taken.map { (id: $1, index: $0, file: marksFile($1)) })
        let found = try? await BlockingPool.shared.run {
            places.compactMap { place -> (String, CounterMarks)? in
                // Without a file it is another release's, or had no network yet.
                guard let bytes = try? Files.read(place.file, limit: 64) else { return nil }
                let now = try? InstanceCounters(node: node, index: place.index, gateway: gateway, trap: trap).read()
                guard let known = CounterAccount(bytes: bytes, now) else { return nil }
                // What is known to be untold is so, whether the counters can be read or not.
                guard let now else { return (place.id, known.untold) }
                let account = known.brought(to: now)
                try? Files.writeAtomically(place.file, account.bytes, mode: 0o600, synced: false)
                return (place.id, account.untold)
            }
        }
        unheard = Dictionary(found ?? []) { one, _ in one }
    }

    /// Tells what was refused to an instance that ran without a daemon, up to now.
    ///
    /// - Throws: `policy-unproven` if anything came through meanwhile.
    func settle(_ uplink: Uplink) throws(AegisError) {
        let arrived = uplink.tellMissed()
        guard arrived > 0 else { return }
        throw .failed(
            "policy-unproven",
            "the network did not refuse what it has to: while no daemon ran, \(arrived) packet\(arrived == 1 ? "" : "s") "
                + "left the instance and ended in the trap",
            hint: "has another program changed rules or links of Aegis's namespace?")
    }
}
