import AegisCore
import AegisIO
import LinuxSys

/// What the kernel has counted while no daemon ran.
extension NetworkService {
    /// Reads what the rules have counted while nobody heard them, before they are loaded anew.
    func readCounters(_ gateway: SharedNamespace, _ trap: SharedNamespace) async {
        let (node, places) = (node, taken.map { (id: $1, index: $0, file: marksFile($1)) })
        let found = try? await BlockingPool.shared.run {
            try places.compactMap { place -> (String, CounterMarks)? in
                // Without a file it is another release's, or had no network yet.
                guard let told = (try? Files.read(place.file, limit: 64)).flatMap(CounterMarks.init(bytes:)) else {
                    return nil
                }
                let all = try InstanceCounters(node: node, index: place.index, gateway: gateway, trap: trap).read()
                return (place.id, all.beyond(told))
            }
        }
        unheard = Dictionary(found ?? []) { one, _ in one }
    }

    /// Tells what was refused to an instance that ran without a daemon, up to now.
    ///
    /// - Parameters:
    ///   - uplink: the instance's.
    ///   - since: what its rules have counted since they were loaded.
    /// - Throws: `policy-unproven` if anything came through meanwhile.
    func settle(_ uplink: Uplink, _ since: CounterMarks) throws(AegisError) {
        let before = unheard.removeValue(forKey: uplink.instance) ?? CounterMarks(refused: 0, arrived: 0)
        let refused = before.refused + since.refused
        if refused > 0 { uplink.tellMissed(refused) }
        let arrived = before.arrived + since.arrived
        guard arrived > 0 else { return }
        throw .failed(
            "policy-unproven",
            "the network did not refuse what it has to: while no daemon ran, \(arrived) packet\(arrived == 1 ? "" : "s") "
                + "left the instance and ended in the trap",
            hint: "has another program changed rules or links of Aegis's namespace?")
    }
}
