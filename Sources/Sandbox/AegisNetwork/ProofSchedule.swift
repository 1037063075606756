/// When networks are proved between their changes: at moments that nobody inside can foresee.
struct ProofSchedule: Sendable {
    /// The least time between two proofs of a node, whatever the number of its instances.
    static let shortest = Duration.seconds(1)

    /// How long one instance goes without a proof, on average.
    private let interval: Duration
    /// Waits; throws when it is cancelled.
    private let sleep: @Sendable (Duration) async throws -> Void
    private var random: any RandomNumberGenerator & Sendable

    /// Makes a schedule.
    ///
    /// - Parameters:
    ///   - interval: how long one instance goes without a proof, on average.
    ///   - random: what moments and instances are drawn from.
    ///   - sleep: the clock that it waits on.
    init(
        interval: Duration = .seconds(300),
        random: any RandomNumberGenerator & Sendable = SystemRandomNumberGenerator(),
        sleep: @escaping @Sendable (Duration) async throws -> Void
    ) {
        self.interval = interval
        self.random = random
        self.sleep = sleep
    }

    /// The time until the next proof of a node: half to one and a half times the interval, shared by its instances.
    mutating func pause(among count: Int) -> Duration {
        max(Self.shortest, interval / max(1, count) * Double.random(in: 0.5...1.5, using: &random))
    }

    /// Proves one after the other until it is cancelled.
    ///
    /// - Parameters:
    ///   - linked: the instances that there are; asked again each time.
    ///   - prove: makes one proof.
    mutating func run(
        _ linked: @Sendable () async -> [String], prove: @Sendable (String) async -> Void
    ) async {
        while !Task.isCancelled {
            let pause = pause(among: await linked().count)
            guard (try? await sleep(pause)) != nil, !Task.isCancelled else { return }
            // Who has come or gone meanwhile counts; the order of a set is no secret, the draw is.
            guard let id = await linked().sorted().randomElement(using: &random) else { continue }
            await prove(id)
        }
    }
}
