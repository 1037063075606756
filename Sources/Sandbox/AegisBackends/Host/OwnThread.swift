import LinuxSys

/// Runs blocking work on a thread made for it, to the end even when the task is cancelled.
///
/// For cleaning up: the shared pool refuses cancelled tasks, and its few threads are not for work that waits.
func onOwnThread<T: Sendable>(_ body: @escaping @Sendable () -> T) async -> T {
    await withCheckedContinuation { continuation in
        do throws(Errno) {
            try SystemThread.start(name: "aegis-cleanup") { continuation.resume(returning: body()) }
        } catch {
            // No thread to be had: better slow than left undone.
            continuation.resume(returning: body())
        }
    }
}
