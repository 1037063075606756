import AegisBackends
import AegisCore
import AegisInstances
import AegisSandboxTypes
import Testing

/// What outlives a daemon: the end of a sandbox, and what was asked for and not done.
@Suite struct InstanceIntentTests {
    typealias Machine = InstanceLifecycle
    static let end = Termination(code: 0, oomKilled: false, requested: true)

    static func machine(_ events: Machine.Event...) -> Machine {
        var machine = Machine()
        for event in events { _ = machine.handle(event) }
        return machine
    }
    static var running: Machine { machine(.start, .booted(attempt: 1), .launched(attempt: 1)) }

    static let asked: [(Machine.Event, Machine.Intent)] = [
        (.stop(.stopped), .init(.stop, reason: .stopped, isForced: false)),
        (.stop(.timeout), .init(.stop, reason: .timeout, isForced: false)),
        (.kill(.clientGone), .init(.stop, reason: .clientGone, isForced: true)),
        (.restart, .init(.restart)),
        (.delete, .init(.delete, reason: .deleted, isForced: false)),
    ]

    @Test func theEndIsSavedBeforeTheKeeperMayGo() {
        var m = Self.running
        _ = m.handle(.commandExited(attempt: 1, code: 7))
        let ended = m.handle(.sandboxEnded(attempt: 1, Self.end))
        #expect(ended == [.disarmTimeout, .record(attempt: 1)])
        #expect(m.outcome == .init(exitCode: 7, reason: .exited) && m.state == .stopping && !m.isAtRest)
        // Until it is saved nothing else lets the keeper go.
        for event: Machine.Event in [.stop(.stopped), .kill(.killed), .released(attempt: 1), .start, .leave] {
            var other = m
            #expect(!other.handle(event).contains(.release(attempt: 1)), "\(event)")
            #expect(other.phase == .recording)
        }
        #expect(m.handle(.recorded(attempt: 1)) == [.release(attempt: 1)])
        #expect(m.handle(.recorded(attempt: 1)).isEmpty)
    }

    @Test func whatIsDeletedNeedsNoEndOnADiskThatIsFull() {
        var m = Self.running
        _ = m.handle(.delete)
        #expect(m.handle(.sandboxEnded(attempt: 1, Self.end)) == [.disarmTimeout, .release(attempt: 1)])
        var late = Self.running
        _ = late.handle(.sandboxEnded(attempt: 1, Self.end))
        #expect(late.handle(.delete) == [.save, .release(attempt: 1)])
    }

    @Test func aClientThatLeavesHasItsEndSavedAndNoDeletionOwed() {
        var m = Self.running
        _ = m.handle(.commandExited(attempt: 1, code: 0))
        #expect(m.handle(.leave).isEmpty && m.intent == nil)
        #expect(m.handle(.sandboxEnded(attempt: 1, Self.end)) == [.disarmTimeout, .record(attempt: 1)])
        _ = m.handle(.recorded(attempt: 1))
        #expect(m.handle(.released(attempt: 1)) == [.save, .settled, .remove])
    }

    @Test(arguments: asked.indices) func whatIsAskedForIsSavedBeforeItIsDone(_ index: Int) {
        let (event, intent) = Self.asked[index]
        for phase in [Self.running, Self.machine(.start), Self.machine(.start, .booted(attempt: 1))] {
            var m = phase
            let effects = m.handle(event)
            #expect(effects.first == .save && effects.count(where: { $0 == .save }) == 1, "\(effects)")
            #expect(m.intent == intent)
        }
    }

    @Test func everyChangeOfAnIntentIsSaved() {
        // Whatever comes: when an intent is new, the first thing done is to save it (or to end the run before).
        var random = SystemRandomNumberGenerator()
        for _ in 0..<20_000 {
            var m = Machine()
            for _ in 0..<10 {
                let before = m.intent
                let event = InstanceLifecycleTests.retag(
                    InstanceLifecycleTests.events.randomElement(using: &random) ?? .start, attempt: m.attempt)
                let effects = m.handle(event)
                guard let intent = m.intent, intent != before else { continue }
                #expect(
                    effects.first == .save || (intent.verb == .start && effects.prefix(2) == [.settled, .save]),
                    "\(event): \(effects)")
            }
        }
    }

    @Test func intentsEndWithWhatTheyLeadTo() {
        #expect(Self.machine(.start).intent == .init(.start))
        #expect(Self.machine(.start, .booted(attempt: 1)).intent == nil)
        #expect(Self.machine(.start, .bootFailed(attempt: 1, .failed("x", "y"))).intent == nil)
        var m = Self.running
        _ = m.handle(.stop(.stopped))
        _ = m.handle(.start)
        #expect(m.intent == .init(.restart))
        _ = m.handle(.stop(.stopped))
        #expect(m.intent?.verb == .stop)
        for event: Machine.Event in [.sandboxEnded(attempt: 1, Self.end), .recorded(attempt: 1)] {
            _ = m.handle(event)
            #expect(m.intent?.verb == .stop)
        }
        _ = m.handle(.released(attempt: 1))
        #expect(m.intent == nil && m.phase == .stopped)
        #expect(Self.machine(.delete).intent?.verb == .delete)
        #expect(Self.machine(.delete, .removed).intent == nil)
    }

    @Test(arguments: asked.indices) func aDaemonThatFindsTheSandboxGoesOnWithWhatWasAskedFor(_ index: Int) {
        let intent = Self.asked[index].1
        let forced = intent.isForced == true
        for launched in [true, false] {
            var m = Machine()
            let effects = m.handle(.adopted(.init(attempt: 4, isLaunched: launched, intent: intent)))
            // In particular it does not launch what shall end.
            #expect(effects == [.save, .disarmTimeout, forced ? .kill(attempt: 4) : .terminate(attempt: 4)])
            #expect(m.intent == intent)
        }
        var paused = Machine()
        let effects = paused.handle(.adopted(.init(attempt: 4, isPaused: true, intent: intent)))
        #expect(effects == [.save, .disarmTimeout, forced ? .kill(attempt: 4) : .thaw(attempt: 4)])
    }

    @Test func aStartThatWasNotThroughIsNoReasonToStopWhatRuns() {
        var m = Machine()
        #expect(
            m.handle(.adopted(.init(attempt: 4, isLaunched: false, intent: .init(.start)))) == [
                .save, .launch(attempt: 4),
            ])
    }

    @Test func aStartWhoseCommandRunsIsGoneOnWithAfterIt() {
        var m = Machine()
        #expect(
            m.handle(.adopted(.init(attempt: 4, isStarting: true))) == [.save, .finishLaunch(attempt: 4)])
        #expect(m.state == .starting)
        #expect(m.handle(.launched(attempt: 4)) == [.save, .armTimeout(attempt: 4)])
        // What shall end is not started any further.
        var ending = Machine()
        let intent = Machine.Intent(.stop, reason: .stopped)
        #expect(
            ending.handle(.adopted(.init(attempt: 4, isStarting: true, intent: intent))) == [
                .save, .disarmTimeout, .terminate(attempt: 4),
            ])
    }

    @Test func aDaemonThatFindsNothingGoesOnFromThere() {
        var stopped = Machine(outcome: .init(exitCode: nil, reason: .lost), attempt: 3)
        #expect(stopped.handle(.recovered(.init(.stop, reason: .stopped))).isEmpty)
        #expect(stopped.handle(.recovered(nil)).isEmpty && stopped.phase == .stopped)
        for verb: Machine.Intent.Verb in [.start, .restart] {
            var m = Machine(attempt: 3)
            #expect(m.handle(.recovered(.init(verb))) == [.save, .boot(attempt: 4)])
        }
        for forced in [true, false] {
            var m = Machine(attempt: 3)
            #expect(m.handle(.recovered(.init(.delete, isForced: forced))) == [.save, .remove])
            #expect(m.phase == .removing)
        }
    }

    @Test func aRunIsOverWhenTheNextOneHasBegun() {
        var d = Driver.at(.running)
        d.send(.restart, .commandExited(attempt: 1, code: 9), .sandboxEnded(attempt: 1, Driver.end))
        #expect(d.machine.end(of: 1) == nil)
        // In one step: nobody sees it stopped.
        d.send(.recorded(attempt: 1), .released(attempt: 1))
        #expect(d.machine.phase == .booting && d.machine.attempt == 2)
        #expect(d.machine.end(of: 1) == .init(exitCode: 9, reason: .stopped) && d.machine.end(of: 2) == nil)
        d.send(.bootFailed(attempt: 2, InstanceLifecycleTests.error))
        #expect(d.machine.end(of: 2) == .init(exitCode: nil, reason: .bootFailed, error: InstanceLifecycleTests.error))
        #expect(d.machine.end(of: 1) == nil)
    }

    @Test func aSavedEndStandsWhateverIsFound() {
        let saved = Machine.Outcome(exitCode: 7, reason: .exited)
        for intent in [nil] + Self.asked.map(\.1) {
            var m = Machine()
            let effects = m.handle(.adopted(.init(attempt: 2, isLaunched: false, intent: intent, outcome: saved)))
            #expect(effects == [.save], "\(effects)")
            let unknown = Termination(code: nil, oomKilled: false, requested: false)
            _ = m.handle(.sandboxEnded(attempt: 2, unknown))
            #expect(m.outcome == saved)
            _ = m.handle(.recorded(attempt: 2))
            let last = m.handle(.released(attempt: 2))
            switch intent?.verb {
            case .delete: #expect(last == [.save, .settled, .remove])
            case .restart: #expect(last == [.settled, .save, .boot(attempt: 3)])
            default: #expect(last == [.save, .settled] && m.outcome == saved)
            }
        }
    }
}
