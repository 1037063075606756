import AegisInstances
import AegisSandboxTypes
import Testing

/// A sandbox that outlives its command, for its files to be fetched.
@Suite struct LingeringTests {
    @Test func aLingeringSandboxStaysUntilItIsNotWanted() {
        var d = Driver(machine: InstanceLifecycle(lingers: true))
        d.send(.start, .booted(attempt: 1), .launched(attempt: 1))
        #expect(
            d.send(.commandExited(attempt: 1, code: 3)) == [.disarmTimeout, .quiesce(attempt: 1, graceful: false)])
        #expect(d.send(.quiesced(attempt: 1, oomKilled: false)) == [.save])
        #expect(d.machine.isOver && !d.machine.isAtRest && d.machine.state == .stopping)
        #expect(d.machine.outcome == .init(exitCode: 3, reason: .exited))
        #expect(d.send(.delete) == [.save, .kill(attempt: 1)])
        d.send(.sandboxEnded(attempt: 1, Driver.end))
        #expect(d.send(.released(attempt: 1)) == [.save, .settled, .remove])
        // The command's own end stands, however the sandbox went.
        #expect(d.machine.outcome == .init(exitCode: 3, reason: .exited))
    }

    @Test func aLingeringSandboxOutlivesTheTimeoutButNoOtherStop() {
        var d = Driver(machine: InstanceLifecycle(lingers: true))
        d.send(.start, .booted(attempt: 1), .launched(attempt: 1))
        var stopped = d
        #expect(d.send(.stop(.timeout)) == [.save, .disarmTimeout, .quiesce(attempt: 1, graceful: true)])
        #expect(d.send(.commandExited(attempt: 1, code: 143)).isEmpty)
        d.send(.quiesced(attempt: 1, oomKilled: true))
        #expect(d.machine.outcome == .init(exitCode: 124, reason: .timeout, oomKilled: true))
        #expect(stopped.send(.stop(.stopped)) == [.save, .disarmTimeout, .terminate(attempt: 1)])
        // A stop while it freezes, and one of a paused instance, thaw first.
        var freezing = Driver(machine: InstanceLifecycle(lingers: true))
        freezing.send(.start, .booted(attempt: 1), .launched(attempt: 1), .pause)
        var paused = freezing
        freezing.send(.stop(.timeout))
        #expect(freezing.send(.frozen(attempt: 1)) == [.thaw(attempt: 1)])
        paused.send(.frozen(attempt: 1), .stop(.timeout))
        #expect(paused.send(.thawed(attempt: 1)) == [.quiesce(attempt: 1, graceful: true)])
    }

    @Test func anOOMKillIsKnownOfALingeringSandboxToo() {
        var d = Driver(machine: InstanceLifecycle(lingers: true))
        d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .commandExited(attempt: 1, code: 137))
        d.send(.quiesced(attempt: 1, oomKilled: true))
        #expect(d.machine.outcome == .init(exitCode: 137, reason: .oom, oomKilled: true))
    }
}
