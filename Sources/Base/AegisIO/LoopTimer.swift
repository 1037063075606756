internal import LinuxSys

/// Something that is done once, some time later, on a loop's thread; it needs no task.
package struct LoopTimer: Sendable {
    private let loop: EventLoop
    private let id: TimerID

    /// Starts the time; from any thread.
    ///
    /// - Parameters:
    ///   - delay: how much later; at once, but not inside this call, when it is not above zero.
    ///   - loop: on whose thread.
    ///   - action: gets true when the time has come, false when the loop ends before.
    package init(after delay: Duration, on loop: EventLoop, _ action: @escaping @Sendable (Bool) -> Void) {
        self.loop = loop
        id = loop.schedule(at: loop.clock.now.advanced(by: delay).nanoseconds, action)
    }

    /// Takes it back; does nothing when it was done.
    package func cancel() { loop.cancelTimer(id) }
}
