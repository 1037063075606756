import AegisIO
import Synchronization

/// The most memory that a process had while something else was measured.
final class Peak: Sendable {
    private let most = Mutex(0)
    var value: Int { most.withLock { $0 } }

    func watch<T: Sendable>(
        _ process: ProcessView, on loop: EventLoop, _ body: @escaping @Sendable () async throws -> T
    ) async throws -> T {
        try await withThrowingTaskGroup(of: T?.self) { group in
            group.addTask { try await body() }
            group.addTask {
                while !Task.isCancelled {
                    let now = process.resident
                    self.most.withLock { $0 = max($0, now) }
                    try? await loop.clock.sleep(for: .milliseconds(50))
                }
                return nil
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let value = result { return value }
            }
            throw Runner.Failure(description: "nothing was measured")
        }
    }
}
