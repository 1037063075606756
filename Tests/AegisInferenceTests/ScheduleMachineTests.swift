import AegisTestSupport
import Testing

@testable import AegisInference

@Suite struct ScheduleMachineTests {
    private func ticket(
        _ agent: String, _ priority: InferencePriority = .normal, tokens: Int = 0, deadline: Duration? = nil
    ) -> ScheduleTicket {
        ScheduleTicket(agent: agent, priority: priority, tokens: tokens, deadline: deadline)
    }

    /// Fills the only place, lets all enter, and answers in which order they get it afterwards, each for a while.
    private func order(
        _ tickets: [ScheduleTicket], ageing: Duration = .seconds(10), each: Duration = .zero
    ) throws -> [Int] {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1, ageing: ageing), at: .zero)
        var now = Duration.zero
        var (running, _) = try machine.enter(ticket("first"), at: now)
        let ids = try tickets.map { try machine.enter($0, at: now).0 }
        var order: [Int] = []
        for _ in ids {
            now += each
            let outcome = machine.leave(running, used: nil, at: now)
            running = try #require(outcome.granted.first)
            #expect(outcome.granted.count == 1)
            order.append(ids.firstIndex(of: running) ?? -1)
        }
        return order
    }

    @Test func agentsTakeTurnsAndEachIsServedInOrder() throws {
        let tickets = [ticket("a"), ticket("a"), ticket("a"), ticket("b"), ticket("b"), ticket("c")]
        #expect(try order(tickets) == [0, 3, 5, 1, 4, 2])
    }

    @Test func theMoreUrgentGoesFirstUntilOthersHaveWaited() throws {
        let tickets = [ticket("a", .low), ticket("b"), ticket("c", .high), ticket("d", .high), ticket("e", .high)]
        #expect(try order(tickets) == [2, 3, 4, 1, 0])
        // After two steps the low one counts as high, and it was there first.
        #expect(try order(tickets, ageing: .seconds(10), each: .seconds(20)).first == 0)
    }

    @Test func whoHasOneAfterAnotherDoesNotGoBeforeWhoWaits() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1), at: .zero)
        var (running, _) = try machine.enter(ticket("a"), at: .zero)
        let b = try machine.enter(ticket("b"), at: .zero).0
        let again = try machine.enter(ticket("a"), at: .zero).0
        running = try #require(machine.leave(running, used: nil, at: .zero).granted.first)
        #expect(running == b)
        // `b` comes back at once, after a turn: `a` waited and is first.
        _ = try machine.enter(ticket("b"), at: .zero)
        #expect(machine.leave(running, used: nil, at: .zero).granted == [again])
    }

    /// Who has a turn and asks nothing after all (the budget is held by another call) takes none of the minute's requests.
    @Test func aTurnThatIsGivenBackIsNoRequest() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1, requestsPerMinute: 2), at: .zero)
        for _ in 0..<10 {
            let (id, outcome) = try machine.enter(ticket("a"), at: .zero)
            #expect(outcome.granted == [id])
            _ = machine.leave(id, used: 0, at: .zero)
        }
        for _ in 0..<2 {
            let (id, outcome) = try machine.enter(ticket("a"), at: .zero)
            #expect(outcome.granted == [id])
            _ = machine.leave(id, used: nil, at: .zero)
        }
        #expect(try machine.enter(ticket("a"), at: .zero).1.granted.isEmpty)
    }

    @Test func aMinuteHasSoManyRequests() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 100, requestsPerMinute: 2), at: .zero)
        #expect(try machine.enter(ticket("a"), at: .zero).1.granted == [1])
        #expect(try machine.enter(ticket("a"), at: .zero).1.granted == [2])
        #expect(try machine.enter(ticket("a"), at: .zero).1.granted == [])
        #expect(machine.wakeTime(at: .zero) == .seconds(30))
        #expect(machine.advance(at: .seconds(30) - .nanoseconds(1)).granted == [])
        #expect(machine.advance(at: .seconds(30)).granted == [3])
        #expect(machine.wakeTime(at: .seconds(30)) == nil)
    }

    @Test func aMinuteHasSoManyTokensAndWhatWasNotUsedComesBack() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 100, tokensPerMinute: 600), at: .zero)
        #expect(try machine.enter(ticket("a", tokens: 600), at: .zero).1.granted == [1])
        #expect(try machine.enter(ticket("b", tokens: 300), at: .zero).1.granted == [])
        // A small one does not overtake it.
        #expect(try machine.enter(ticket("c", tokens: 1), at: .zero).1.granted == [])
        #expect(machine.wakeTime(at: .zero) == .seconds(30))
        #expect(machine.leave(1, used: 300, at: .zero).granted == [2])
        #expect(machine.leave(2, used: 900, at: .zero).granted == [])
        #expect(machine.wakeTime(at: .zero) == .milliseconds(60_100))
    }

    @Test func oneThatIsLargerThanAMinuteRunsAloneAndIsPaidAfterwards() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 100, tokensPerMinute: 60), at: .zero)
        #expect(try machine.enter(ticket("a", tokens: 180), at: .zero).1.granted == [1])
        #expect(try machine.enter(ticket("a", tokens: 60), at: .zero).1.granted == [])
        #expect(machine.wakeTime(at: .zero) == .seconds(180))
    }

    @Test func aProviderThatAskedForAPauseGetsIt() throws {
        var machine = ScheduleMachine(SchedulePolicy(), at: .zero)
        machine.hold(until: .seconds(5))
        machine.hold(until: .seconds(3))
        #expect(try machine.enter(ticket("a"), at: .zero).1.granted == [])
        #expect(machine.wakeTime(at: .zero) == .seconds(5))
        #expect(machine.advance(at: .seconds(5)).granted == [1])
    }

    @Test func aDeadlineThatCannotBeMetIsRefusedAtOnce() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1), at: .zero)
        func refusal(_ ticket: ScheduleTicket, at now: Duration) -> ScheduleRefusal? {
            do throws(ScheduleRefusal) { _ = try machine.enter(ticket, at: now) } catch { return error }
            return nil
        }
        #expect(refusal(ticket("a", deadline: .zero), at: .zero) == .late(.zero))
        let (first, _) = try machine.enter(ticket("a"), at: .zero)
        _ = machine.leave(first, used: nil, at: .seconds(8))
        // A call takes eight seconds, as far as is known.
        _ = try machine.enter(ticket("a"), at: .seconds(8))
        #expect(refusal(ticket("a", deadline: .seconds(16)), at: .seconds(8)) == .late(.seconds(8)))
        #expect(refusal(ticket("a", deadline: .seconds(17)), at: .seconds(8)) == nil)
        #expect(refusal(ticket("a", deadline: .seconds(24)), at: .seconds(8)) == .late(.seconds(16)))
        // Six of the eight are over then.
        #expect(refusal(ticket("b", deadline: .seconds(16)), at: .seconds(14)) == .late(.seconds(2)))
        #expect(refusal(ticket("b", deadline: .seconds(17)), at: .seconds(14)) == nil)
        machine.hold(until: .seconds(100))
        #expect(refusal(ticket("b", deadline: .seconds(100)), at: .seconds(14)) == .late(.seconds(86)))
    }

    @Test func aDeadlineThatPassesEndsTheWait() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1), at: .zero)
        let (first, _) = try machine.enter(ticket("a"), at: .zero)
        let (late, _) = try machine.enter(ticket("b", deadline: .seconds(5)), at: .zero)
        let (patient, _) = try machine.enter(ticket("b"), at: .zero)
        #expect(machine.wakeTime(at: .zero) == .seconds(5))
        #expect(machine.advance(at: .seconds(5)) == ScheduleMachine.Outcome(expired: [late]))
        #expect(machine.wakeTime(at: .seconds(5)) == nil)
        #expect(machine.leave(first, used: nil, at: .seconds(6)).granted == [patient])
    }

    @Test func aFullQueueRefuses() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1, maxWaiting: 2), at: .zero)
        for _ in 0..<3 { _ = try machine.enter(ticket("a"), at: .zero) }
        #expect(throws: ScheduleRefusal.full(2)) { try machine.enter(ticket("b"), at: .zero) }
        #expect(machine.cancel(3, at: .zero).wasWaiting)
        #expect(!machine.cancel(3, at: .zero).wasWaiting)
        #expect(throws: Never.self) { try machine.enter(ticket("b"), at: .zero) }
    }

    /// Random calls, ends, cancellations and times: what holds after each step, and that all who stayed were served.
    @Test(arguments: 1...60)
    func noScheduleLosesAPlaceOrStarvesAnybody(_ seed: Int) throws {
        var random = Mutator(seed: UInt64(seed))
        let policy = SchedulePolicy(
            concurrent: Int.random(in: 1...4, using: &random),
            requestsPerMinute: Bool.random(using: &random) ? Int.random(in: 30...300, using: &random) : nil,
            tokensPerMinute: Bool.random(using: &random) ? Int.random(in: 500...20_000, using: &random) : nil,
            maxWaiting: 40, ageing: .seconds(2))
        var machine = ScheduleMachine(policy, at: .zero)
        var now = Duration.zero
        var waiting: [UInt64: ScheduleTicket] = [:], running: Set<UInt64> = []
        var begun: [Duration] = []
        func take(_ outcome: ScheduleMachine.Outcome) {
            for id in outcome.granted {
                #expect(waiting.removeValue(forKey: id) != nil, "\(id) did not wait")
                running.insert(id)
                begun.append(now)
            }
            for id in outcome.expired {
                let ticket = waiting.removeValue(forKey: id)
                #expect((ticket?.deadline ?? .seconds(1 << 30)) <= now)
            }
            #expect(running.count <= policy.concurrent && machine.runningCount == running.count)
            #expect(machine.waitingCount == waiting.count)
        }
        for step in 0..<600 {
            now += .milliseconds(Int.random(in: 0...400, using: &random))
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5 where step < 450:
                let ticket = ScheduleTicket(
                    agent: "a\(Int.random(in: 0..<6, using: &random))",
                    priority: InferencePriority.allCases[Int.random(in: 0..<3, using: &random)],
                    tokens: Int.random(in: 0...1000, using: &random),
                    deadline: Int.random(in: 0..<8, using: &random) == 0 ? now + .seconds(3) : nil)
                do throws(ScheduleRefusal) {
                    let (id, outcome) = try machine.enter(ticket, at: now)
                    waiting[id] = ticket
                    take(outcome)
                } catch {
                    if case .full(let count) = error { #expect(count == 40) } else { #expect(ticket.deadline != nil) }
                }
            case 5 where !waiting.isEmpty:
                let id = waiting.keys.sorted()[Int.random(in: 0..<waiting.count, using: &random)]
                let (wasWaiting, outcome) = machine.cancel(id, at: now)
                #expect(wasWaiting)
                waiting[id] = nil
                take(outcome)
            case 6: machine.hold(until: now + .milliseconds(Int.random(in: 0...500, using: &random)))
            case 7: take(machine.advance(at: now))
            default:
                guard let id = running.sorted().first else { continue }
                running.remove(id)
                take(machine.leave(id, used: Bool.random(using: &random) ? 100 : nil, at: now))
            }
        }
        // Nobody comes any more: each that ends lets another begin, until none is left.
        var rounds = 0
        while !(waiting.isEmpty && running.isEmpty), rounds < 500 {
            rounds += 1
            now = max(now, machine.wakeTime(at: now) ?? now) + .milliseconds(10)
            take(machine.advance(at: now))
            if let id = running.min() {
                running.remove(id)
                take(machine.leave(id, used: nil, at: now))
            }
        }
        #expect(waiting.isEmpty && running.isEmpty)
        if let limit = policy.requestsPerMinute {
            for (index, time) in begun.enumerated() {
                #expect(begun[index...].prefix { $0 - time < .seconds(30) }.count <= limit + limit / 2 + 1)
            }
        }
    }

    /// One agent with the lowest priority, while others never stop to come with the highest.
    @Test(arguments: [1, 3])
    func theLeastUrgentIsServedHoweverManyUrgentOnesCome(_ concurrent: Int) throws {
        var machine = ScheduleMachine(
            SchedulePolicy(concurrent: concurrent, maxWaiting: 100_000, ageing: .seconds(1)), at: .zero)
        var now = Duration.zero
        var running: [UInt64] = []
        for _ in 0..<concurrent { running += try machine.enter(ticket("busy", .high), at: now).1.granted }
        let (patient, _) = try machine.enter(ticket("patient", .low), at: now)
        for step in 0..<200 {
            now += .milliseconds(100)
            // Each time a new agent, twice.
            for _ in 0..<2 { running += try machine.enter(ticket("n\(step)", .high), at: now).1.granted }
            running += machine.leave(running.removeFirst(), used: nil, at: now).granted
            if running.contains(patient) { break }
        }
        #expect(running.contains(patient))
        #expect(now <= .seconds(ScheduleMachine.patience + 1))
    }

    @Test func agentsThatAreGoneAreForgotten() throws {
        var machine = ScheduleMachine(SchedulePolicy(concurrent: 1), at: .zero)
        for number in 0..<1000 {
            let (id, outcome) = try machine.enter(ticket("a\(number)"), at: .zero)
            #expect(outcome.granted == [id])
            _ = machine.leave(id, used: nil, at: .zero)
        }
        #expect(machine.rememberedAgents <= 257)
    }
}
