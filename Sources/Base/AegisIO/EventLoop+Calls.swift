internal import LinuxSys

/// A call that was asked of a loop and may still be taken back.
package struct LoopCall: Sendable {
    fileprivate let loop: EventLoop
    fileprivate let timer: TimerID

    /// Takes the call back, unless it was made.
    package func cancel() { loop.cancelTimer(timer) }
}

extension EventLoop {
    /// Calls `action` on the loop's thread, soon or after a time; for code that is driven by calls instead of tasks.
    ///
    /// - Parameters:
    ///   - delay: how long from now at the earliest.
    ///   - action: gets true when it is due, and false, on the ending thread, when the loop ends before.
    /// - Returns: the call, to be taken back.
    @discardableResult
    package func call(after delay: Duration = .zero, _ action: @escaping @Sendable (Bool) -> Void) -> LoopCall {
        let shift = UInt64(max(0, delay.clampedNanoseconds))
        let (due, overflow) = SystemTime.monotonic.addingReportingOverflow(shift)
        return LoopCall(loop: self, timer: schedule(at: overflow ? .max : due, action))
    }
}
