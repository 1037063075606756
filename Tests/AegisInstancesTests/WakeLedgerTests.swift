import AegisInstances
import AegisSandboxTypes
import Testing

/// Sleep by the clock, without a clock: every time is handed in.
@Suite struct WakeLedgerTests {
    static let minute = Duration.seconds(60)

    /// A running instance with one port, that pauses after 60 s and stops after 20 min.
    static func running(
        _ port: WakeLedger.Port = .init(), rules: WakeLedger.Rules = .init(pause: minute, stop: minute * 20)
    ) -> WakeLedger {
        var ledger = WakeLedger()
        ledger.set(rules, ports: [80: port])
        ledger.enter(.running, now: .zero)
        return ledger
    }
    static let web = HoldReason.connection(port: 80)
    static let request = HoldReason.request(port: 80)

    @Test func idleTimeBeginsWithTheBootThenThePauseThenTheStopComes() {
        var ledger = Self.running()
        #expect(ledger.due(now: .seconds(59)) == .later(.seconds(1)))
        #expect(ledger.due(now: Self.minute) == .pause)
        let closed = ledger.closeIfIdle(.pause, now: Self.minute)
        #expect(closed && !ledger.isOpen)
        ledger.enter(.other, now: Self.minute)
        #expect(ledger.due(now: Self.minute) == .nothing)
        ledger.enter(.paused, now: .seconds(61))
        // The idle time goes on through the pause: 20 minutes since anybody used it.
        #expect(ledger.due(now: .seconds(61)) == .later(Self.minute * 20 - .seconds(61)))
        #expect(ledger.due(now: Self.minute * 20) == .stop)
        let closedForStop = ledger.closeIfIdle(.stop, now: Self.minute * 20)
        #expect(closedForStop)
    }

    @Test func idleTimeBeginsAnewWithAResumeAndWithTheLastRelease() {
        var ledger = Self.running()
        let hold = ledger.hold(Self.web, now: .seconds(10))
        #expect(hold == .init(isAwake: true, counts: true))
        let second = ledger.hold(.exec, now: .seconds(20))
        #expect(ledger.due(now: .seconds(500)) == .later(Self.minute))
        let wasLast = ledger.release(Self.web, counts: hold.counts, now: .seconds(30))
        #expect(!wasLast)
        let isFree = ledger.release(.exec, counts: second.counts, now: .seconds(300))
        #expect(isFree)
        #expect(ledger.due(now: .seconds(359)) == .later(.seconds(1)))
        #expect(ledger.due(now: .seconds(360)) == .pause)
        ledger.enter(.paused, now: .seconds(360))
        ledger.enter(.other, now: .seconds(400))
        ledger.enter(.running, now: .seconds(401))
        #expect(ledger.due(now: .seconds(401)) == .later(Self.minute))
    }

    @Test func whatIsLookedAtLaterThanAReleaseIsNeverLate() {
        // Held when it is looked at: the next look is a whole span later, and no release can be due before that.
        for release in stride(from: 1, through: 60, by: 1) {
            var ledger = Self.running()
            _ = ledger.hold(Self.web, now: .zero)
            guard case .later(let span) = ledger.due(now: .zero) else {
                Issue.record("a held instance is looked at later")
                return
            }
            ledger.release(Self.web, counts: true, now: .seconds(release))
            let look = ledger.due(now: span)
            guard case .later(let rest) = look else {
                #expect(look == .pause && Duration.seconds(release) + Self.minute <= span)
                continue
            }
            #expect(span + rest == .seconds(release) + Self.minute)
        }
    }

    @Test func nothingIsDueWithoutRulesOrWhileItIsNeitherRunningNorPaused() {
        #expect(Self.running(rules: .init()).due(now: .seconds(1_000_000)) == .nothing)
        #expect(WakeLedger().due(now: .seconds(1_000_000)) == .nothing)
        var ledger = Self.running()
        ledger.enter(.other, now: .zero)
        #expect(ledger.due(now: .seconds(1_000_000)) == .nothing)
    }

    @Test func withOneRuleOnlyThatOneCounts() {
        let stopping = Self.running(rules: .init(stop: Self.minute))
        #expect(stopping.due(now: Self.minute) == .stop)
        var pausing = Self.running(rules: .init(pause: Self.minute))
        #expect(pausing.due(now: Self.minute) == .pause)
        pausing.enter(.paused, now: Self.minute)
        #expect(pausing.due(now: .seconds(1_000_000)) == .nothing)
        // A stop that comes before the pause makes the pause needless.
        #expect(Self.running(rules: .init(pause: Self.minute, stop: .seconds(30))).due(now: Self.minute) == .stop)
    }

    @Test func pauseThatWasAskedForBeginsANewIdleTime() {
        var ledger = Self.running()
        let closed = ledger.closeForPause(force: false)
        #expect(closed)
        ledger.enter(.other, now: .seconds(50))
        ledger.enter(.paused, now: .seconds(50))
        #expect(ledger.due(now: .seconds(50)) == .later(Self.minute * 20))
    }

    @Test func failedFreezeIsTriedAgainOnlyAfterAWholeIdleTime() {
        var ledger = Self.running()
        let closed = ledger.closeIfIdle(.pause, now: Self.minute)
        #expect(closed)
        ledger.enter(.other, now: Self.minute)
        ledger.enter(.running, now: .seconds(62))
        #expect(ledger.isOpen && ledger.due(now: .seconds(62)) == .later(Self.minute))
    }

    @Test func nobodyHeldIsWhatClosesAndNothingElse() {
        var ledger = Self.running()
        let early = ledger.closeIfIdle(.pause, now: .seconds(59))
        #expect(!early)
        let otherSleep = ledger.closeIfIdle(.stop, now: Self.minute)
        #expect(!otherSleep)
        _ = ledger.hold(.lease, now: .seconds(59))
        let whileHeld = ledger.closeIfIdle(.pause, now: .seconds(600))
        #expect(!whileHeld && ledger.isOpen)
        let asked = ledger.closeForPause(force: false)
        #expect(!asked && ledger.isOpen)
        let forced = ledger.closeForPause(force: true)
        #expect(forced && !ledger.isOpen)
    }

    @Test func holdOfAClosedLedgerMustWakeIt() {
        var ledger = Self.running()
        let closed = ledger.closeIfIdle(.pause, now: Self.minute)
        #expect(closed)
        let hold = ledger.hold(Self.web, now: Self.minute)
        #expect(!hold.isAwake && ledger.verdict(Self.web, hold, now: Self.minute) == .may)
        // Being counted, it keeps a paused instance from being stopped under it.
        ledger.enter(.paused, now: Self.minute)
        let stopped = ledger.closeIfIdle(.stop, now: Self.minute * 30)
        #expect(!stopped)
    }

    @Test(arguments: [
        (ExposeSpec.WakeRule.connect, HoldReason.connection(port: 80), WakeLedger.Verdict.may),
        (.connect, .request(port: 80), .may), (.http, .connection(port: 80), .needsRequest),
        (.http, .request(port: 80), .may), (.never, .connection(port: 80), .never),
        (.never, .request(port: 80), .never),
        (.connect, .connection(port: 81), .never), (.never, .exec, .may), (.http, .copy, .may), (.never, .lease, .may),
        (.never, .terminal, .may),
    ])
    func wakeRulesDecideByReason(_ rule: ExposeSpec.WakeRule, _ why: HoldReason, _ verdict: WakeLedger.Verdict) {
        var ledger = Self.running(.init(wake: rule))
        ledger.enter(.paused, now: .zero)
        let hold = ledger.hold(why, now: .zero)
        #expect(ledger.verdict(why, hold, now: .zero) == verdict)
    }

    // MARK: Cooldown

    /// A client that comes back every 5 s for hours gets the instance awake for a minute every ten, not for ever.
    @Test func reconnectingClientKeepsAPortWithCooldownAwakeOncePerCooldown() {
        func awakeTime(_ port: WakeLedger.Port) -> Duration {
            var ledger = Self.running(port, rules: .init(pause: Self.minute))
            var awake = Duration.zero
            var now = Duration.zero
            while now < .seconds(7200) {
                let hold = ledger.hold(Self.web, now: now)
                if !hold.isAwake, ledger.verdict(Self.web, hold, now: now) == .may { ledger.enter(.running, now: now) }
                ledger.release(Self.web, counts: hold.counts, now: now)
                if ledger.due(now: now) == .pause, ledger.closeIfIdle(.pause, now: now) {
                    ledger.enter(.paused, now: now)
                }
                if ledger.stage == .running { awake += .seconds(5) }
                now += .seconds(5)
            }
            return awake
        }
        #expect(awakeTime(.init()) == .seconds(7200))
        let cooled = awakeTime(.init(cooldown: Self.minute * 10))
        #expect(cooled > .seconds(12 * 55) && cooled < .seconds(13 * 70), "\(cooled)")
    }

    @Test func aCooldownIsKnownToTheNextDaemon() {
        var ledger = Self.running(.init(cooldown: .seconds(100)))
        let first = ledger.hold(Self.web, now: .seconds(10))
        // It is in use, however long ago that began.
        #expect(ledger.ages(now: .seconds(40)) == [80: .zero])
        ledger.release(Self.web, counts: first.counts, now: .seconds(40))
        #expect(ledger.ages(now: .seconds(45)) == [80: .seconds(5)])
        func left(_ ages: [UInt16: Duration], _ port: WakeLedger.Port) -> WakeLedger.Verdict {
            // The monotonic clock of the host began anew.
            var next = Self.running(port)
            next.recall(ages, now: .seconds(1))
            next.enter(.paused, now: .seconds(1))
            return next.verdict(Self.web, next.hold(Self.web, now: .seconds(1)), now: .seconds(1))
        }
        #expect(left([80: .seconds(30)], .init(cooldown: .seconds(100))) == .cooling(.seconds(70)))
        #expect(left([80: .seconds(100)], .init(cooldown: .seconds(100))) == .may)
        // A clock that was set back makes it no longer than it would be.
        #expect(left([80: .seconds(-9)], .init(cooldown: .seconds(100))) == .cooling(.seconds(100)))
        #expect(left([80: .zero], .init()) == .may && left([81: .zero], .init(cooldown: .seconds(100))) == .may)
    }

    @Test func coolingPortSaysHowLongAndIsServedWhileAwake() {
        var ledger = Self.running(.init(cooldown: .seconds(100)))
        let first = ledger.hold(Self.web, now: .zero)
        ledger.release(Self.web, counts: first.counts, now: .seconds(10))
        let again = ledger.hold(Self.web, now: .seconds(20))
        // Served, and never frozen while it is open, but it is no use that begins the idle time anew.
        #expect(again == .init(isAwake: true, counts: false))
        let closed = ledger.closeIfIdle(.pause, now: .seconds(90))
        #expect(!closed)
        ledger.release(Self.web, counts: again.counts, now: .seconds(90))
        #expect(ledger.due(now: .seconds(90)) == .pause)
        ledger.enter(.paused, now: .seconds(90))
        let refused = ledger.hold(Self.web, now: .seconds(95))
        #expect(ledger.verdict(Self.web, refused, now: .seconds(95)) == .cooling(.seconds(15)))
        ledger.release(Self.web, counts: refused.counts, now: .seconds(95))
        let woken = ledger.hold(Self.web, now: .seconds(110))
        #expect(ledger.verdict(Self.web, woken, now: .seconds(110)) == .may)
    }

    @Test func connectionsBesideOneThatCountsCountToo() {
        var ledger = Self.running(.init(cooldown: .seconds(100)))
        let first = ledger.hold(Self.web, now: .zero)
        let second = ledger.hold(Self.request, now: .seconds(5))
        #expect(first.counts && second.counts)
        ledger.release(Self.web, counts: true, now: .seconds(500))
        ledger.release(Self.request, counts: true, now: .seconds(900))
        #expect(ledger.idleSince == .seconds(900))
        let third = ledger.hold(Self.web, now: .seconds(950))
        #expect(!third.counts)
    }

    @Test func portsOfOneInstanceCoolApart() {
        var ledger = WakeLedger()
        ledger.set(.init(pause: Self.minute), ports: [80: .init(cooldown: .seconds(100)), 81: .init()])
        ledger.enter(.running, now: .zero)
        let first = ledger.hold(Self.web, now: .zero)
        #expect(first.counts)
        ledger.release(Self.web, counts: true, now: .zero)
        let again = ledger.hold(Self.web, now: .seconds(1))
        #expect(!again.counts)
        let beside = ledger.hold(.connection(port: 81), now: .seconds(1))
        #expect(beside.counts)
        let exec = ledger.hold(.exec, now: .seconds(1))
        #expect(exec.counts)
    }

    /// Any order of holds, releases, sleeps and stages keeps the books.
    @Test func booksAreKeptInAnyOrder() {
        var random = SystemRandomNumberGenerator()
        let reasons: [HoldReason] = [Self.web, Self.request, .exec, .lease, .connection(port: 81)]
        for _ in 0..<2000 {
            var ledger = Self.running(.init(cooldown: .seconds(7)))
            var open: [(HoldReason, Bool)] = []
            var now = Duration.zero
            for _ in 0..<60 {
                now += .seconds(Int.random(in: 0...30, using: &random))
                switch Int.random(in: 0..<6, using: &random) {
                case 0, 1:
                    let why = reasons.randomElement(using: &random) ?? .exec
                    let before = ledger.isOpen
                    let hold = ledger.hold(why, now: now)
                    #expect(hold.isAwake == before)
                    open.append((why, hold.counts))
                case 2, 3:
                    guard !open.isEmpty else { continue }
                    let (why, counts) = open.remove(at: Int.random(in: 0..<open.count, using: &random))
                    let wasLast = ledger.release(why, counts: counts, now: now)
                    #expect(wasLast == open.isEmpty)
                case 4:
                    let due = ledger.due(now: now)
                    let closed = ledger.closeIfIdle(due, now: now)
                    #expect(closed == (open.isEmpty && (due == .pause || due == .stop)))
                    if closed { ledger.enter(due == .pause ? .paused : .other, now: now) }
                default: ledger.enter([.running, .paused, .other].randomElement(using: &random) ?? .other, now: now)
                }
                #expect(ledger.held == open.count && ledger.counts.values.reduce(0, +) == open.count)
                #expect(ledger.idleSince <= now)
                #expect(!ledger.isOpen || ledger.stage == .running)
            }
            for (why, counts) in open { ledger.release(why, counts: counts, now: now) }
            #expect(ledger.held == 0 && ledger.counts.isEmpty)
        }
    }
}
