// Long file: the table of one machine, whole; cutting it would hide gaps.
import AegisBackends
import AegisCore
import AegisInstances
import AegisSandboxTypes
import Testing

/// Drives a machine and keeps what it asked for.
struct Driver {
    var machine = InstanceLifecycle()
    @discardableResult mutating func send(_ events: InstanceLifecycle.Event...) -> [InstanceLifecycle.Effect] {
        events.flatMap { machine.handle($0) }
    }
    static let end = Termination(code: 0, oomKilled: false, requested: true)

    /// A machine brought into a phase by the events that lead there.
    static func at(_ phase: InstanceLifecycle.Phase) -> Driver {
        var d = Driver()
        switch phase {
        case .stopped: break
        case .booting: d.send(.start)
        case .launching: d.send(.start, .booted(attempt: 1))
        case .running: d.send(.start, .booted(attempt: 1), .launched(attempt: 1))
        case .freezing: d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .pause)
        case .paused: d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .pause, .frozen(attempt: 1))
        case .thawing: d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .pause, .frozen(attempt: 1), .resume)
        case .aborting: d.send(.start, .stop(.stopped))
        case .terminating: d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .stop(.stopped))
        case .quiescing, .lingering:
            d.machine = InstanceLifecycle(lingers: true)
            d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .commandExited(attempt: 1, code: 3))
            if phase == .lingering { d.send(.quiesced(attempt: 1, oomKilled: false)) }
        case .killing: d.send(.start, .booted(attempt: 1), .launched(attempt: 1), .commandExited(attempt: 1, code: 3))
        case .recording:
            d.send(
                .start, .booted(attempt: 1), .launched(attempt: 1), .commandExited(attempt: 1, code: 3),
                .sandboxEnded(attempt: 1, end))
        case .releasing:
            d.send(
                .start, .booted(attempt: 1), .launched(attempt: 1), .commandExited(attempt: 1, code: 3),
                .sandboxEnded(attempt: 1, end), .recorded(attempt: 1))
        case .removing: d.send(.delete)
        case .deleted: d.send(.delete, .removed)
        }
        return d
    }
    static let phases: [InstanceLifecycle.Phase] = [
        .stopped, .booting, .launching, .running, .freezing, .paused, .thawing, .aborting, .terminating, .killing,
        .recording, .releasing, .removing, .deleted, .quiescing, .lingering,
    ]
}

@Suite struct InstanceLifecycleTests {
    static let error = AegisError.failed("x", "y")
    static let events: [InstanceLifecycle.Event] = [
        .start, .booted(attempt: 1), .bootFailed(attempt: 1, error), .launched(attempt: 1),
        .launchFailed(attempt: 1, error, exitCode: 127), .commandExited(attempt: 1, code: 7),
        .sandboxEnded(attempt: 1, Driver.end),
        .pause, .frozen(attempt: 1), .freezeFailed(attempt: 1), .resume, .thawed(attempt: 1), .stop(.stopped),
        .kill(.killed),
        .restart, .delete, .released(attempt: 1), .removed, .adopted(.init(attempt: 9)),
        .quiesced(attempt: 1, oomKilled: false), .quiesceFailed(attempt: 1), .recorded(attempt: 1), .leave,
        .recovered(.init(.start)),
    ]

    @Test(arguments: Driver.phases) func everyPhaseIsReached(_ phase: InstanceLifecycle.Phase) {
        #expect(Driver.at(phase).machine.phase == phase)
    }

    /// The whole table: phase x event to next phase. A dot means that nothing changes.
    @Test func everyPhaseAndEventGoesWhereTheTableSays() {
        //                start      booted     bootFail   launched   launchFail cmdExited  sbxEnded   pause     frozen    frzFail   resume    thawed     stop         kill      restart      delete       released  removed  adopted  quiesced  quiesceFail  recorded  leave  recovered
        let table: [(InstanceLifecycle.Phase, [InstanceLifecycle.Phase?])] = [
            (
                .stopped,
                [
                    .booting, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, .booting, .removing, nil,
                    nil, .running, nil, nil, nil, .removing, .booting,
                ]
            ),
            (
                .booting,
                [
                    nil, .launching, .stopped, nil, nil, nil, nil, nil, nil, nil, nil, nil, .aborting, .aborting,
                    .aborting, .aborting, nil, nil, nil, nil, nil, nil, .aborting, nil,
                ]
            ),
            (
                .launching,
                [
                    nil, nil, nil, .running, .killing, .killing, .recording, nil, nil, nil, nil, nil, .terminating,
                    .killing, .terminating, .terminating, nil, nil, nil, nil, nil, nil, .terminating, nil,
                ]
            ),
            (
                .running,
                [
                    nil, nil, nil, nil, nil, .killing, .recording, .freezing, nil, nil, nil, nil, .terminating,
                    .killing, .terminating, .terminating, nil, nil, nil, nil, nil, nil, .terminating, nil,
                ]
            ),
            (
                .freezing,
                [
                    nil, nil, nil, nil, nil, .killing, .recording, nil, .paused, .running, nil, nil, .terminating,
                    .killing, .terminating, .terminating, nil, nil, nil, nil, nil, nil, .terminating, nil,
                ]
            ),
            (
                .paused,
                [
                    .thawing, nil, nil, nil, nil, nil, .recording, nil, nil, nil, .thawing, nil, .thawing, .killing,
                    .thawing, .thawing, nil, nil, nil, nil, nil, nil, .thawing, nil,
                ]
            ),
            (
                .thawing,
                [
                    nil, nil, nil, nil, nil, nil, .recording, nil, nil, nil, nil, .running, nil, .killing, nil, nil,
                    nil, nil, nil, nil, nil, nil, nil, nil,
                ]
            ),
            (
                .aborting,
                [
                    nil, .killing, .stopped, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
                    nil, nil, nil, nil, nil, nil,
                ]
            ),
            (
                .terminating,
                [
                    nil, nil, nil, nil, nil, nil, .recording, nil, nil, nil, nil, nil, nil, .killing, nil, nil, nil,
                    nil, nil, nil, nil, nil, nil, nil,
                ]
            ),
            (
                .killing,
                [
                    nil, nil, nil, nil, nil, nil, .recording, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
                    nil, nil, nil, nil, nil, nil,
                ]
            ),
            (
                .recording,
                [
                    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, .releasing, nil, nil,
                    nil, nil, nil, .releasing, nil, nil,
                ]
            ),
            (
                .releasing,
                [
                    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, .stopped, nil, nil,
                    nil, nil, nil, nil, nil,
                ]
            ),
            (
                .removing,
                [
                    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, .deleted, nil,
                    nil, nil, nil, nil, nil,
                ]
            ),
            (
                .deleted,
                [
                    nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil,
                    nil, nil, nil, nil,
                ]
            ),
            (
                .quiescing,
                [
                    nil, nil, nil, nil, nil, nil, .recording, nil, nil, nil, nil, nil, .terminating, .killing,
                    .terminating, .terminating, nil, nil, nil, .lingering, .killing, nil, .terminating, nil,
                ]
            ),
            (
                .lingering,
                [
                    nil, nil, nil, nil, nil, nil, .recording, nil, nil, nil, nil, nil, .killing, .killing, .killing,
                    .killing, nil, nil, nil, nil, nil, nil, .killing, nil,
                ]
            ),
        ]
        #expect(table.map(\.0) == Driver.phases)
        for (phase, row) in table {
            #expect(row.count == Self.events.count)
            for (event, expected) in zip(Self.events, row) {
                var driver = Driver.at(phase)
                _ = driver.send(event)
                #expect(driver.machine.phase == expected ?? phase, "\(phase) x \(event)")
            }
        }
    }

    @Test(arguments: Driver.phases) func answersOfAnEarlierAttemptChangeNothing(_ phase: InstanceLifecycle.Phase) {
        let stale: [InstanceLifecycle.Event] = [
            .booted(attempt: 0), .bootFailed(attempt: 0, Self.error), .launched(attempt: 0),
            .launchFailed(attempt: 0, Self.error, exitCode: 127), .commandExited(attempt: 0, code: 7),
            .sandboxEnded(attempt: 0, Driver.end), .frozen(attempt: 0), .freezeFailed(attempt: 0), .thawed(attempt: 0),
            .recorded(attempt: 0), .released(attempt: 0), .quiesced(attempt: 0, oomKilled: true),
            .quiesceFailed(attempt: 0),
        ]
        for event in stale {
            var driver = Driver.at(phase)
            if phase == .stopped || phase == .removing || phase == .deleted { driver = Driver.at(phase) }
            guard driver.machine.attempt != 0 else { continue }
            let before = driver.machine
            #expect(driver.send(event).isEmpty)
            #expect(driver.machine == before)
        }
    }

    @Test func commandThatExitsBeforeRunningIsRecordedEndsStopped() {
        var d = Driver.at(.launching)
        #expect(d.send(.commandExited(attempt: 1, code: 0)) == [.disarmTimeout, .kill(attempt: 1)])
        #expect(d.send(.launched(attempt: 1)).isEmpty)
        #expect(d.send(.sandboxEnded(attempt: 1, Driver.end)) == [.disarmTimeout, .record(attempt: 1)])
        #expect(d.send(.recorded(attempt: 1)) == [.release(attempt: 1)])
        #expect(d.send(.released(attempt: 1)) == [.save, .settled])
        #expect(d.machine.state == .stopped && d.machine.outcome == .init(exitCode: 0, reason: .exited))
    }

    @Test func stopWhileBootingTakesDownABootThatFinishesLate() {
        var d = Driver.at(.booting)
        #expect(d.send(.stop(.stopped)) == [.save, .cancelBoot(attempt: 1)])
        #expect(d.send(.booted(attempt: 1)) == [.kill(attempt: 1)])
        d.send(.sandboxEnded(attempt: 1, Driver.end), .recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.phase == .stopped && d.machine.outcome?.reason == .stopped)
    }

    @Test func deleteDuringAPullRemovesOnceTheBootIsUndone() {
        var d = Driver.at(.booting)
        #expect(d.send(.delete) == [.save, .cancelBoot(attempt: 1)])
        #expect(d.send(.bootFailed(attempt: 1, Self.error)) == [.save, .settled, .remove])
        #expect(d.send(.removed) == [.settled])
        #expect(d.machine.phase == .deleted)
    }

    @Test func twoStartsBootOnce() {
        var d = Driver()
        #expect(d.send(.start) == [.save, .boot(attempt: 1)])
        #expect(d.send(.start).isEmpty)
    }

    @Test func sandboxThatDiesWithoutAWordIsLostOrKilled() {
        var d = Driver.at(.running)
        d.send(
            .sandboxEnded(attempt: 1, Termination(code: nil, oomKilled: false, requested: false)),
            .recorded(attempt: 1), .released(attempt: 1)
        )
        #expect(d.machine.outcome == .init(exitCode: nil, reason: .lost))
        var k = Driver.at(.running)
        k.send(
            .sandboxEnded(attempt: 1, Termination(code: 137, oomKilled: true, requested: false)), .recorded(attempt: 1),
            .released(attempt: 1))
        #expect(k.machine.outcome == .init(exitCode: 137, reason: .oom, oomKilled: true))
        // What the runtime exited with is not the command's code.
        for code: Int32 in [0, 2, 137] {
            var r = Driver.at(.running)
            r.send(
                .sandboxEnded(attempt: 1, Termination(code: code, oomKilled: false, requested: false)),
                .recorded(attempt: 1), .released(attempt: 1))
            let outcome = r.machine.outcome
            #expect(outcome?.exitCode == nil && outcome?.reason == .killed && outcome?.error?.code == "sandbox-died")
        }
    }

    @Test func restartRunsAgainAfterTheOldSandboxIsGone() {
        var d = Driver.at(.running)
        #expect(d.send(.restart) == [.save, .disarmTimeout, .terminate(attempt: 1)])
        d.send(.sandboxEnded(attempt: 1, Driver.end), .recorded(attempt: 1))
        #expect(d.send(.released(attempt: 1)) == [.settled, .save, .boot(attempt: 2)])
        #expect(d.send(.booted(attempt: 1)).isEmpty)
        #expect(d.machine.phase == .booting)
    }

    @Test func startWhileStoppingStartsAgainButADeleteWins() {
        var d = Driver.at(.terminating)
        d.send(.start, .sandboxEnded(attempt: 1, Driver.end), .recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.phase == .booting && d.machine.attempt == 2)
        var e = Driver.at(.terminating)
        e.send(.start, .delete, .sandboxEnded(attempt: 1, Driver.end))
        #expect(e.send(.released(attempt: 1)) == [.save, .settled, .remove])
    }

    @Test func stopOfAPausedInstanceThawsFirst() {
        var d = Driver.at(.paused)
        #expect(d.send(.stop(.stopped)) == [.save, .disarmTimeout, .thaw(attempt: 1)])
        #expect(d.machine.state == .stopping)
        #expect(d.send(.thawed(attempt: 1)) == [.terminate(attempt: 1)])
    }

    @Test func stopWhileFreezingThawsWhatFroze() {
        var d = Driver.at(.freezing)
        #expect(d.send(.stop(.stopped)) == [.save, .disarmTimeout, .terminate(attempt: 1)])
        #expect(d.send(.frozen(attempt: 1)) == [.thaw(attempt: 1)])
    }

    @Test func onlyACommandThatNobodyEndedHasEndedByItself() {
        for phase: InstanceLifecycle.Phase in [.launching, .running, .freezing, .paused] {
            var d = Driver.at(phase)
            #expect(!d.machine.endedByItself)
            d.send(.commandExited(attempt: 1, code: 0))
            #expect(d.machine.endedByItself)
            // What is asked for afterwards changes nothing about it.
            d.send(.stop(.stopped))
            #expect(d.machine.endedByItself || phase == .paused)
        }
        for event: InstanceLifecycle.Event in [.stop(.timeout), .kill(.clientGone), .delete, .restart] {
            var d = Driver.at(.running)
            d.send(event, .commandExited(attempt: 1, code: 143))
            #expect(!d.machine.endedByItself)
        }
        var d = Driver.at(.launching)
        d.send(.launchFailed(attempt: 1, Self.error, exitCode: 127))
        #expect(!d.machine.endedByItself)
    }

    @Test func timeoutIs124WhateverTheCommandSays() {
        var d = Driver.at(.running)
        d.send(
            .stop(.timeout), .commandExited(attempt: 1, code: 143), .sandboxEnded(attempt: 1, Driver.end),
            .recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.outcome == .init(exitCode: 124, reason: .timeout))
    }

    @Test(arguments: [(0, nil), (2, nil), (137, 137)] as [(Int32, Int32?)])
    func theSandboxsOwnCodeIsNotTheCommands(_ sandbox: Int32, _ command: Int32?) {
        var d = Driver.at(.running)
        d.send(
            .stop(.stopped),
            .sandboxEnded(attempt: 1, Termination(code: sandbox, oomKilled: false, requested: true)),
            .released(attempt: 1))
        #expect(d.machine.outcome == .init(exitCode: command, reason: .stopped))
    }

    @Test func stoppedCommandKeepsItsOwnCode() {
        var d = Driver.at(.running)
        d.send(
            .stop(.stopped), .commandExited(attempt: 1, code: 143), .sandboxEnded(attempt: 1, Driver.end),
            .recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.outcome == .init(exitCode: 143, reason: .stopped))
    }

    @Test func unknownCommandKeepsItsErrorAndCode() {
        var d = Driver.at(.launching)
        d.send(
            .launchFailed(attempt: 1, Self.error, exitCode: 127), .sandboxEnded(attempt: 1, Driver.end),
            .recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.outcome == .init(exitCode: 127, reason: .bootFailed, error: Self.error))
    }

    @Test func randomEventsNeverLoseTheSandbox() {
        // Whatever comes in whatever order: after a sandbox was booted it is either alive or was released.
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var machine = InstanceLifecycle(lingers: Bool.random(using: &random))
            var boots = 0
            var ended = 0
            for _ in 0..<12 {
                let event = Self.retag(Self.events.randomElement(using: &random) ?? .start, attempt: machine.attempt)
                let wasAlive = Self.alive(machine.phase)
                let effects = machine.handle(event)
                if case .booted = event, !wasAlive, Self.alive(machine.phase) { boots += 1 }
                if case .adopted = event, !wasAlive, Self.alive(machine.phase) { boots += 1 }
                ended += effects.count { if case .release = $0 { true } else { false } }
            }
            #expect(boots == ended + (Self.alive(machine.phase) ? 1 : 0), "\(machine)")
        }
    }

    private static func alive(_ phase: InstanceLifecycle.Phase) -> Bool {
        switch phase {
        case .launching, .running, .freezing, .paused, .thawing, .terminating, .quiescing, .lingering, .killing,
            .recording:
            true
        default: false
        }
    }

    static func retag(_ event: InstanceLifecycle.Event, attempt: UInt64) -> InstanceLifecycle.Event {
        switch event {
        case .booted: .booted(attempt: attempt)
        case .bootFailed(_, let error): .bootFailed(attempt: attempt, error)
        case .launched: .launched(attempt: attempt)
        case .launchFailed(_, let error, let code): .launchFailed(attempt: attempt, error, exitCode: code)
        case .commandExited(_, let code): .commandExited(attempt: attempt, code: code)
        case .sandboxEnded(_, let end): .sandboxEnded(attempt: attempt, end)
        case .frozen: .frozen(attempt: attempt)
        case .freezeFailed: .freezeFailed(attempt: attempt)
        case .thawed: .thawed(attempt: attempt)
        case .released: .released(attempt: attempt)
        case .quiesced(_, let oom): .quiesced(attempt: attempt, oomKilled: oom)
        case .quiesceFailed: .quiesceFailed(attempt: attempt)
        case .recorded: .recorded(attempt: attempt)
        case .adopted: .adopted(.init(attempt: attempt + 1))
        default: event
        }
    }
}
