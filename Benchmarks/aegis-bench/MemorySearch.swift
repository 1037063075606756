import AegisIO
import AegisMemory
import LinuxSys

/// What finding the nearest of many vectors costs: `VectorMatrix` beside numpy, both on one thread. Needs no daemon.
struct MemorySearch: Sendable {
    let isQuick: Bool
    let loop: EventLoop
    private static let dimension = 384
    private var rows: Int { isQuick ? 20_000 : 100_000 }
    private var rounds: Int { isQuick ? 20 : 100 }

    func run() async throws -> [ResultTable] {
        var table = ResultTable(
            title: "Memory: the 10 nearest of \(rows) vectors of \(Self.dimension) numbers",
            note:
                "Target: at most 9 ms on one core for 100,000. Every vector is looked at, in 32-bit numbers. numpy: one product "
                + "of the matrix with the query, then `argpartition`, on one thread.",
            head: ["search", "samples", "p50 ms", "p99 ms"])
        let own = try search()
        table.rows.append(["aegis", "\(rounds)", short(own.p50), short(own.p99)])
        if let peer = try await numpy() { table.rows.append(peer) }
        return [table]
    }

    private func search() throws -> Samples {
        var state: UInt64 = 1
        func number() -> Float {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Float(Int32(truncatingIfNeeded: state >> 32)) / Float(Int32.max)
        }
        func vector() -> [Float] {
            let numbers = (0..<Self.dimension).map { _ in number() }
            let length = numbers.reduce(0) { $0 + $1 * $1 }.squareRoot()
            return numbers.map { $0 / length }
        }
        var matrix = VectorMatrix(dimension: Self.dimension, expecting: rows)
        for row in 0..<rows { matrix.set(Int64(row), vector(), mark: 1) }
        var samples = Samples()
        for round in 0..<(rounds + 5) {
            let query = vector()
            let start = ContinuousClock.now
            let found = matrix.nearest(to: query, limit: 10)
            let elapsed = Double((ContinuousClock.now - start).components.attoseconds) / 1e15
            guard found.count == 10 else { throw Runner.Failure(description: "\(found.count) vectors were found") }
            if round >= 5 { samples.add(elapsed) }
        }
        return samples
    }

    /// The same by numpy; nil where there is none.
    private func numpy() async throws -> [String]? {
        let program = """
            import sys, time
            try: import numpy as np
            except ImportError: sys.exit(7)
            rows, dim, rounds = map(int, sys.argv[1:])
            rng = np.random.default_rng(1)
            m = rng.standard_normal((rows, dim), dtype=np.float32)
            m /= np.linalg.norm(m, axis=1, keepdims=True)
            times = []
            for r in range(rounds + 5):
                q = rng.standard_normal(dim, dtype=np.float32); q /= np.linalg.norm(q)
                start = time.perf_counter()
                s = m @ q
                best = np.argpartition(s, -10)[-10:]
                best = best[np.argsort(-s[best])]
                if r >= 5: times.append((time.perf_counter() - start) * 1000)
            times.sort()
            print(np.__version__, times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)])
            """
        let spec = ProcessSpec(
            executable: "/usr/bin/env",
            arguments: ["env", "python3", "-c", program, "\(rows)", "\(Self.dimension)", "\(rounds)"],
            environment: ["PATH=/usr/local/bin:/usr/bin:/bin", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1"])
        let result = try await runProcess(spec, outputLimit: 1 << 16, deadline: .seconds(300), on: loop)
        let words = String(decoding: result.stdout, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard result.status.shellCode == 0, words.count == 3, let p50 = Double(words[1]), let p99 = Double(words[2])
        else {
            note("numpy is left out: python3 ended with \(result.status.shellCode)")
            return nil
        }
        return ["numpy \(words[0])", "\(rounds)", short(p50), short(p99)]
    }
}
