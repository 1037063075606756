internal import AegisCore
internal import AegisLogs
package import AegisSandboxTypes
internal import Synchronization

/// What others see of an instance.
extension Instance {
    /// The record as the API shows it, at this moment.
    package var info: InstanceInfo {
        var info = stored.info
        info.state = machine.state
        let (connections, isHeld, idle) = holds.ledger { ledger, now in
            (
                ledger.counts.reduce(0) { $0 + ($1.key.port == nil ? 0 : $1.value) }, ledger.held > 0,
                now - ledger.idleSince
            )
        }
        info.connections = connections
        if machine.state == .running || machine.state == .paused {
            info.lastActiveAt = Timestamp(
                milliseconds: Timestamp.now().milliseconds - (isHeld ? 0 : Int64(idle / .milliseconds(1))))
        }
        info.idle = shownIdlePolicy
        if !info.enabled {
            // Nobody listens on its ports, whatever became of them before.
            for index in info.expose.indices { info.expose[index].error = RecordedError(disabled) }
        }
        (info.standby, info.standbyObstacle) = (shownStandby?.state, shownStandby?.obstacle)
        // What the disk refuses now, and what is not there; how the instance itself fared comes first.
        if info.error == nil {
            info.error = (saveFailure ?? log.obstacle ?? doorObstacle.withLock { $0 }).map(RecordedError.init)
        }
        return info
    }
}
