import LinuxSys
import Synchronization
import Testing

@Suite struct MachineTests {
    @Test func randomBytesDiffer() throws {
        let (a, b) = (try Random.bytes(1000), try Random.bytes(1000))
        #expect(a.count == 1000 && a != b)
        let hex = try Random.hex(bytes: 16)
        #expect(hex.count == 32 && hex.allSatisfy { "0123456789abcdef".contains($0) })
    }

    @Test func clocksRun() {
        let start = SystemTime.monotonic
        #expect(SystemTime.monotonic >= start)
        // Later than 2024.
        #expect(SystemTime.realtime > 1_700_000_000_000_000_000)
    }

    @Test func environmentIsReadable() {
        let path = CurrentProcess.environment("PATH")
        #expect(path != nil && CurrentProcess.environment.contains("PATH=\(path ?? "")"))
        #expect(CurrentProcess.environment("NO_SUCH_VARIABLE_HERE") == nil)
    }

    @Test func memoryIsKeptOutOfDumps() throws {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8192, alignment: 4096)
        defer { unsafe memory.deallocate() }
        try unsafe CurrentProcess.protect(memory)
        let address = String(UInt(bitPattern: memory.baseAddress), radix: 16)
        let maps = String(decoding: try Files.read("/proc/self/smaps", limit: 64 << 20), as: UTF8.self)
        let region = try #require(maps.components(of: address))
        #expect(region.contains(" lo ") && region.contains(" dd "))
        try unsafe CurrentProcess.unprotect(memory)
    }

    @Test func dumpabilityCanBeSwitchedOff() async {
        await #expect(processExitsWith: .success) {
            try CurrentProcess.setDumpable(false)
            precondition(!CurrentProcess.isDumpable)
            try CurrentProcess.setNoNewPrivileges()
            try CurrentProcess.setChildSubreaper(true)
        }
    }

    @Test func protectionFromTheKernelsKillerIsNotInherited() async {
        await #expect(processExitsWith: .success) {
            func score(_ path: String) throws -> Int {
                let text = String(decoding: try Files.read(path, limit: 100), as: UTF8.self)
                return Int(text.dropLast()) ?? .max
            }
            func childScore() throws -> Int {
                let path = "/tmp/linuxsys-score-\(try Random.hex(bytes: 6))"
                defer { try? Files.removeFile(path) }
                let request = SpawnRequest(
                    executable: "/bin/cp", arguments: ["cp", "/proc/self/oom_score_adj", path], environment: [])
                let child = try request.spawn()
                _ = try child.reapWaiting()
                return try score(path)
            }
            let before = try score("/proc/self/oom_score_adj")
            // Raising is allowed to everybody: the file takes what is written, and that is no protection.
            let raised = Int32(min(before + 7, 1000))
            try CurrentProcess.protectFromOutOfMemory(score: raised)
            let inherited = [try score("/proc/self/oom_score_adj"), try childScore()]
            precondition(inherited == [Int(raised), Int(raised)], "\(inherited)")
            // Lowering is not, even to some roots.
            guard (try? CurrentProcess.protectFromOutOfMemory(score: -20)) != nil else { return }
            let protected = [try score("/proc/self/oom_score_adj"), try childScore()]
            precondition(protected == [-20, 0], "\(protected)")
        }
    }

    @Test func mountsComeAndGo() async {
        guard CurrentProcess.effectiveUser == 0 else { return }
        // In a process of its own: the mount table is the machine's.
        await #expect(processExitsWith: .success) {
            let path = "/tmp/linuxsys-mount-\(try Random.hex(bytes: 6))"
            try Files.makeDirectories(path)
            try Mounts.mount("none", on: path, type: "tmpfs", flags: 0, data: "size=64k")
            let wrote: Void? = try? Files.writeAtomically("\(path)/f", [1])
            try Mounts.unmount(path, detach: true)
            let left = try Files.list(path)
            try Files.removeTree(path)
            precondition(wrote != nil && left.isEmpty)
        }
    }

    @Test func threadsRunTheirBody() async throws {
        let id = await withCheckedContinuation { continuation in
            do {
                try SystemThread.start(name: "a-very-long-thread-name") {
                    continuation.resume(returning: SystemThread.id)
                }
            } catch {
                continuation.resume(returning: -1)
            }
        }
        #expect(id > 0)
    }
}

@Suite struct SpawnTests {
    @Test func spawnReportsTheFailedStep() {
        let request = SpawnRequest(executable: "/no/such", arguments: ["x"], environment: [])
        #expect(throws: SpawnError(step: .execute, errno: .noSuchFile)) { _ = try request.spawn() }
        var badFD = SpawnRequest(executable: "/bin/true", arguments: ["true"], environment: [])
        // Which no test beside this one can have open: a child that is started after all, and not reaped, keeps every exit test from its end.
        badFD.descriptors = [(0, .max)]
        #expect(throws: SpawnError(step: .descriptor, errno: .badDescriptor)) { _ = try badFD.spawn() }
        #expect(SpawnError(step: .user, errno: .notPermitted).description.contains("EPERM"))
    }

    @Test func childIsReapedOnce() throws {
        let child = try SpawnRequest(executable: "/bin/true", arguments: ["true"], environment: []).spawn()
        #expect(try child.reapWaiting() == .exited(0))
        #expect(throws: Errno.noChild) { _ = try child.reap() }
        #expect(throws: Errno.noSuchProcess) { try child.signal(15) }
    }

    @Test(arguments: [false, true])
    func standardDescriptorsThatAreNotNamedAreClosed(_ ownMemory: Bool) throws {
        var pipe = try DescriptorPair.pipe()
        let write = pipe.takeSecond()
        let read = pipe.takeFirst()
        var request = SpawnRequest(executable: "/bin/ls", arguments: ["ls", "/proc/self/fd"], environment: [])
        request.descriptors = [(1, write.raw)]
        if ownMemory, CurrentProcess.effectiveUser == 0 { request.user = UserIdentity(user: 0, group: 0) }
        let child = try request.spawn()
        try write.close()
        #expect(try read.readAll(limit: 100) == Array("0\n1\n".utf8))
        #expect(try child.reapWaiting() == .exited(0))
    }

    /// An absent controlling terminal, a bad namespace and a bad user are errors, not surprises.
    @Test func otherStepsFailClosed() throws {
        var request = SpawnRequest(executable: "/bin/true", arguments: ["true"], environment: [])
        request.namespaces = [0x7FFF]
        #expect(throws: SpawnError(step: .namespace, errno: .badDescriptor)) { _ = try request.spawn() }
        request = SpawnRequest(executable: "/bin/true", arguments: ["true"], environment: [])
        request.controllingTerminal = 0
        #expect(throws: SpawnError.self) { _ = try request.spawn() }
        request = SpawnRequest(executable: "/bin/true", arguments: ["true"], environment: [])
        request.workingDirectoryDescriptor = 0x7FFF
        #expect(throws: SpawnError(step: .workingDirectory, errno: .badDescriptor)) { _ = try request.spawn() }
    }

    @Test func childDiesWithItsParent() throws {
        // A shell starts us no child here: a thread-bound signal is tested with the thread as the parent.
        var request = SpawnRequest(executable: "/bin/sleep", arguments: ["sleep", "1000"], environment: [])
        request.parentDeathSignal = 9
        let box = try Box()
        let copy = request
        try SystemThread.start(name: "parent") { box.set(try? copy.spawn()) }
        #expect(try box.statusWhenEnded() == .signalled(9))
    }
}

/// Hands a child from the thread that started it to the test.
private final class Box: Sendable {
    private let child = Mutex<ProcessHandle?>(nil)
    private let read: FileDescriptor
    private let write: FileDescriptor

    init() throws {
        var pair = try DescriptorPair.pipe()
        read = pair.takeFirst()
        write = pair.takeSecond()
    }

    func set(_ handle: consuming ProcessHandle?) {
        var handle = handle
        child.withLock { $0 = handle.take() }
        _ = try? write.write([1])
    }

    func statusWhenEnded() throws -> LinuxSys.ExitStatus? {
        var byte: [UInt8] = [0]
        _ = try read.read(into: &byte)
        return try child.withLock { child throws(Errno) -> LinuxSys.ExitStatus? in
            switch child {
            case .some(let handle): try handle.reapWaiting()
            case .none: nil
            }
        }
    }
}

extension String {
    /// The block of `/proc/self/smaps` that covers an address, given as hexadecimal.
    fileprivate func components(of address: String) -> String? {
        guard let wanted = UInt(address, radix: 16) else { return nil }
        var block: [Substring] = []
        var inside = false
        for line in split(separator: "\n") {
            let range = line.prefix { $0 != " " }.split(separator: "-")
            if range.count == 2, let low = UInt(range[0], radix: 16), let high = UInt(range[1], radix: 16) {
                if inside { break }
                inside = low <= wanted && wanted < high
            }
            if inside { block.append(line) }
        }
        return block.isEmpty ? nil : block.map { $0 + " " }.joined(separator: "\n")
    }
}
