import AegisTestSupport
import Foundation
import Testing

/// What a copy of a machine, or one that stood still for long, would have wrong: time and randomness.
extension WarmTests {
    /// What a command inside read of its clocks.
    private struct Clocks: Decodable {
        /// The time of day: as programs ask for it, by a system call, and of files made just now.
        var now: Double
        var called: Double
        var written: [Double]
        /// The clocks that only go forward, before and after a short sleep.
        var monotonic: [[Double]]
    }

    private static let clocks = #"""
        import ctypes, json, os, platform, time
        class Span(ctypes.Structure):
            _fields_ = [('seconds', ctypes.c_long), ('nanoseconds', ctypes.c_long)]
        def called():
            # Past the page that answers without the kernel.
            number, span = {'x86_64': 228, 'aarch64': 113}[platform.machine()], Span()
            assert ctypes.CDLL(None).syscall(number, 0, ctypes.byref(span)) == 0
            return span.seconds + span.nanoseconds / 1e9
        def written(folder):
            path = f'{folder}/made-now'
            open(path, 'w').close()
            return os.stat(path).st_mtime
        def forward():
            return [time.monotonic(), time.clock_gettime(time.CLOCK_MONOTONIC_RAW), time.clock_gettime(time.CLOCK_BOOTTIME)]
        monotonic = [forward(), forward()]
        time.sleep(0.5)
        monotonic.append(forward())
        print(json.dumps({'now': time.time(), 'called': called(), 'written': [written(p) for p in ('/tmp', '/workspace', '/var')],
                          'monotonic': monotonic}))
        """#

    @Test(arguments: backends) func theClocksOfAClaimedSandboxAreTheHosts(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 1 }")) { f in
            try await full(f)
            // What is waited for is time itself: a clock that stood still with the frozen processes is this much behind.
            try await Task.sleep(for: .seconds(8))
            let before = Date().timeIntervalSince1970
            let run = try await f.succeed("run", "--isolation", backend, "--", "python3", "-c", Self.clocks)
            let after = Date().timeIntervalSince1970
            #expect(try await warm(f).reduce(0) { $0 + $1.claimed } == 1, "\(run)")
            let seen = try JSONDecoder().decode(Clocks.self, from: Data(run.stdout))
            // Those who add up pieces of the machine's time are a little off; files have the time of the last tick.
            for time in [seen.now, seen.called] + seen.written {
                #expect(time > before - 2 && time < after + 2, "host \(before) to \(after): \(seen)")
            }
            try #require(seen.monotonic.count == 3)
            for clock in seen.monotonic[0].indices {
                let times = seen.monotonic.map { $0[clock] }
                #expect(times[0] > 0 && times[0] <= times[1], "\(seen)")
                #expect(times[2] - times[1] > 0.4 && times[2] - times[1] < after - before + 2, "\(seen)")
            }
        }
    }

    private static let random = #"""
        import ctypes, json, os, random, tempfile, uuid
        def read(path):
            try:
                return open(path).read().strip()
            except OSError as error:
                return type(error).__name__
        values = {'urandom': os.urandom(16).hex(), 'device': open('/dev/urandom', 'rb').read(16).hex(),
                  'hash': str(hash('x')), 'random': str(random.getrandbits(64)), 'uuid4': str(uuid.uuid4()),
                  'name': tempfile.mktemp()}
        auxv = open('/proc/self/auxv', 'rb').read()
        words = [int.from_bytes(auxv[i:i + 8], 'little') for i in range(0, len(auxv), 8)]
        # AT_RANDOM, of which the C library makes its canaries.
        values['start'] = ctypes.string_at(dict(zip(words[::2], words[1::2]))[25], 16).hex()
        print(json.dumps({'values': values, 'kernel': read('/proc/sys/kernel/random/uuid'),
                          'boot': read('/proc/sys/kernel/random/boot_id'), 'seed': os.environ.get('PYTHONHASHSEED', 'none')}))
        """#

    /// What a command inside drew.
    private struct Drawn: Decodable {
        var values: [String: String]
        var kernel: String
        var boot: String
        var seed: String
    }

    @Test(arguments: backends) func noTwoSandboxesDrawTheSame(_ backend: String) async throws {
        try await DaemonFixture.with(config: Self.config("warm: { base@\(backend): 2 }")) { f in
            var drawn: [Drawn] = []
            for _ in 0..<2 {
                for run in try await both(f, backend, ["--", "python3", "-c", Self.random]) {
                    try #require(run.code == 0, "\(run)")
                    drawn.append(try JSONDecoder().decode(Drawn.self, from: Data(run.stdout)))
                }
            }
            #expect(drawn.allSatisfy { $0.seed == "none" }, "\(drawn)")
            for name in try #require(drawn.first).values.keys {
                #expect(Set(drawn.map { $0.values[name] }).count == drawn.count, "\(name): \(drawn)")
            }
            // The kernel of runsc has neither of the two, in whatever sandbox; the one of runc is the host's.
            let isThere = backend == "runc"
            #expect(Set(drawn.map(\.kernel)).count == (isThere ? drawn.count : 1), "\(drawn)")
            let boot = isThere ? try kernelText("/proc/sys/kernel/random/boot_id").dropLast() : "FileNotFoundError"
            #expect(drawn.allSatisfy { $0.boot == boot }, "\(drawn)")
        }
    }
}
