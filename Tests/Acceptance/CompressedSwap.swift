import AegisIO
import AegisTestSupport
import Foundation
import LinuxSys
import Testing

/// The memory of the whole machine: one test at a time makes it scarce, or has the kernel swap.
enum HostMemory {
    /// Held by whoever does; benchmarks know it, too.
    static let lock = "/var/tmp/aegis-test-memory.lock"

    /// Runs a test that fills it while no other does anything like that, in whichever process.
    static func alone(_ body: () async throws -> Void) async throws {
        // A place among all tests first: nobody has the lock who still waits for that.
        try await Crowd.enter {
            let file = try FileDescriptor.open(lock, [.readWrite, .create])
            let end = ContinuousClock.now + .seconds(600)
            while try !file.lock() {
                try #require(ContinuousClock.now < end, "another test has the machine's memory")
                try await Task.sleep(for: .milliseconds(100))
            }
            defer { try? file.unlock() }
            try await body()
        }
    }
}

/// Swap in compressed memory that a test has the kernel use before any other; it goes when the test's process ends, however it ends.
enum CompressedSwap {
    /// Whether this kernel makes such devices. (To load a module is up to whoever owns the machine.)
    static let isThere = FileManager.default.fileExists(atPath: "/sys/class/zram-control/hot_add")

    /// A shell keeps it for as long as its input is open, in a session that no Ctrl+C reaches. There is one at a time on the machine:
    /// the kernel spreads pages over all, and what is in one that goes comes back to memory.
    private static let holder = """
        set -e
        exec 9>\(HostMemory.lock)
        flock -w 600 9
        n=$(cat /sys/class/zram-control/hot_add)
        end() {
            swapoff /dev/zram$n || true
            echo 1 >/sys/block/zram$n/reset
            echo $n >/sys/class/zram-control/hot_remove
        }
        trap end EXIT
        trap 'exit 1' TERM HUP INT
        echo 1G >/sys/block/zram$n/disksize
        mkswap -q /dev/zram$n
        swapon --priority 32767 /dev/zram$n
        echo /dev/zram$n
        cat >/dev/null
        """

    /// Runs a test with it.
    static func with(on loop: EventLoop, _ body: () async throws -> Void) async throws {
        let shell = try ChildProcess.spawn(
            ProcessSpec(
                executable: "/bin/sh", arguments: ["sh", "-c", holder],
                environment: ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], stdin: .pipe, stdout: .pipe, stderr: .inherit,
                newSession: true), on: loop)
        let outcome: Result<Void, any Error>
        do {
            let device = try await withDeadline(.seconds(660)) {
                var said = ByteBuffer()
                while said.readable.last != UInt8(ascii: "\n"), let stdout = shell.stdout,
                    try await stdout.read(into: &said, atMost: 100) > 0
                {}
                return String(decoding: said.readable.dropLast(), as: UTF8.self)
            }
            try #require(device.hasPrefix("/dev/zram"), "there is none")
            outcome = .success(try await body())
        } catch { outcome = .failure(error) }
        shell.stdin?.close()
        let end = try await shell.wait()
        try outcome.get()
        #expect(end.shellCode == 0, "the swap could not be taken away")
    }
}
