internal import AegisBackends
internal import AegisCore
internal import AegisSandboxTypes
internal import Synchronization

/// Whether memory is still to be pushed out; ends when the instance is wanted again.
final class ReclaimWish: Sendable {
    private let wanted = Mutex(true)
    var isWanted: Bool { wanted.withLock { $0 } }
    func end() { wanted.withLock { $0 = false } }
}

/// Memory of a paused instance.
extension Instance {
    /// Pushes the memory out if the instance was made so; it has just been paused.
    func reclaimAfterPause() {
        guard let how = stored.info.idle?.reclaim, let sandbox else { return }
        let wish = ReclaimWish()
        reclaiming = wish
        background("reclaim") { instance in
            do {
                // The host's swap may have changed since the policy was taken.
                if how == .safe { try SwapSpace.current().checkSafe() }
                let (before, after) = try await sandbox.reclaim { wish.isWanted }
                await instance.note(Reclaimed(at: .now(), before: before, after: after))
            } catch {
                instance.services.logger.warning(
                    "memory could not be reclaimed", ("instance", instance.id), ("error", "\(error)"))
            }
        }
    }

    /// The instance is paused no longer.
    func endReclaim() {
        reclaiming?.end()
        reclaiming = nil
    }

    private func note(_ result: Reclaimed) {
        stored.info.reclaimed = result
        save()
        services.logger.info(
            "memory was reclaimed", ("instance", id), ("before", ByteSize(result.before).description),
            ("after", ByteSize(result.after).description))
    }

    /// - Throws: `swap-not-encrypted` when a policy would write memory in the clear.
    static func checkReclaim(_ policy: IdlePolicy?) throws(AegisError) {
        if policy?.reclaim == .safe { try SwapSpace.current().checkSafe() }
    }
}
