import AegisIO
import AegisTestSupport
import AegisWire
import CLinux
import LinuxSys
import Synchronization
import Testing

@testable import AegisClient
@testable import aegis

/// Signals, terminals, artifacts: the real binary.
@Suite struct SignalFlowTests {
    private static let attach = "POST /v1/instances/i-0123456789abcdef/attach"
    private static let stop = "POST /v1/instances/i-0123456789abcdef/stop"

    /// A workload that prints `ready` and ends when its instance is told to stop.
    private func stoppable(_ stopped: Signal) -> ScriptedDaemon.Script {
        var script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.out("ready\n")
            await stopped.wait()
            try await frames.out("bye\n")
            try await frames.write(.exit(143))
        }
        script.handlers[Self.stop] = { _, writer in
            stopped.set()
            try await writer.respond(200, body: Array("{}".utf8))
        }
        return script
    }

    private func start(_ aegis: Program, _ words: [String]) throws -> ChildProcess {
        var spec = aegis.spec(words)
        spec.stdout = .pipe
        spec.stderr = .pipe
        return try ChildProcess.spawn(spec, on: aegis.loop)
    }

    private func waitFor(_ text: String, _ stream: FileStream?) async throws {
        var buffer = ByteBuffer()
        let stream = try #require(stream)
        while !String(decoding: buffer.readable, as: UTF8.self).contains(text) {
            guard try await stream.read(into: &buffer) > 0 else { Issue.record("'\(text)' never came"); return }
        }
    }

    @Test(arguments: [(2, 130), (15, 143), (1, 129)] as [(Int32, Int32)])
    func aSignalStopsTheInstanceAndEndsWithItsCode(_ signal: Int32, _ code: Int32) async throws {
        let stopped = Signal()
        try await ScriptedDaemon.run(stoppable(stopped)) { (daemon, aegis) async throws in
            defer { stopped.set() }
            let child = try start(aegis, ["run", "--", "x"])
            try await waitFor("ready\n", child.stdout)
            #expect(child.signal(signal))
            try await waitFor("bye\n", child.stdout)
            #expect(try await child.wait() == .exited(code))
            #expect(daemon.lines.last == Self.stop)
        }
    }

    @Test func aSecondSignalEndsAtOnce() async throws {
        let stopSeen = Signal()
        let release = Signal()
        var script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.out("ready\n")
            while (try? await frames.readFrame()) != nil {}
        }
        script.handlers[Self.stop] = { _, writer in
            stopSeen.set()
            await release.wait()
            try? await writer.respond(200)
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let child = try start(aegis, ["run", "--", "x"])
            try await waitFor("ready\n", child.stdout)
            #expect(child.signal(2))
            await stopSeen.wait()
            #expect(child.signal(2))
            #expect(try await child.wait() == .exited(130))
            release.set()
        }
    }

    @Test func aSignalBeforeTheProcessIsThereEndsAtOnce() async throws {
        let asked = Signal()
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.write(.notice(#"{"kind":"pull","text":"layer 1 of 9"}"#))
            asked.set()
            while (try? await frames.readFrame()) != nil {}
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let child = try start(aegis, ["run", "--", "x"])
            await asked.wait()
            #expect(child.signal(2))
            #expect(try await child.wait() == .exited(130))
            #expect(try await child.stderr?.readAll(limit: 1000) == [], "progress is for terminals")
        }
    }

    @Test func execForwardsTheSignal() async throws {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/exec"] = { frames, _ in
            try await frames.hello()
            try await frames.out("ready\n")
            while let frame = try await frames.readFrame() {
                guard let number = frame.signalNumber else { continue }
                try await frames.write(.exit(Int32(number) + 100))
                return
            }
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let child = try start(aegis, ["exec", "web", "--", "x"])
            try await waitFor("ready\n", child.stdout)
            #expect(child.signal(15))
            #expect(try await child.wait() == .exited(115))
        }
    }

    @Test func attachLeavesOnASignal() async throws {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/attach"] = { frames, _ in
            try await frames.hello()
            try await frames.out("ready\n")
            while (try? await frames.readFrame()) != nil {}
        }
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let child = try start(aegis, ["attach", "web"])
            try await waitFor("ready\n", child.stdout)
            #expect(child.signal(2))
            #expect(try await child.wait() == .exited(130))
            #expect(daemon.lines.count == 1)
        }
    }

    // MARK: Terminals

    private final class Sizes: Sendable { let all = Mutex<[String]>([]) }

    /// A pseudo-terminal: the controller as a stream, the terminal for the child.
    private final class Pty {
        let controller: FileStream
        let terminal: FileDescriptor

        init(_ loop: EventLoop, rows: UInt16, columns: UInt16) throws {
            var ends: (Int32, Int32) = (-1, -1)
            try #require(unsafe al_tty_open_pair(&ends.0, &ends.1) == 0)
            terminal = FileDescriptor(owning: ends.1)
            controller = try FileStream(FileDescriptor(owning: ends.0), on: loop)
            #expect(al_tty_set_size(ends.1, rows, columns) == 0)
        }
        var isRaw: Bool { al_tty_is_raw(terminal.raw) == 1 }
    }

    private func start(_ aegis: Program, _ words: [String], on pty: Pty) throws -> ChildProcess {
        var spec = aegis.spec(words)
        spec.stdin = .descriptor(pty.terminal.raw)
        spec.stdout = .descriptor(pty.terminal.raw)
        spec.stderr = .descriptor(pty.terminal.raw)
        spec.newSession = true
        spec.controllingTerminal = 0
        return try ChildProcess.spawn(spec, on: aegis.loop)
    }

    @Test func aTerminalIsRawWhileTheProcessHasItAndThenAsBefore() async throws {
        let sizes = Sizes()
        let resized = Signal()
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.hello()
            try await frames.out("prompt$ ")
            while let frame = try await frames.readFrame() {
                if let size = frame.size {
                    sizes.all.withLock { $0.append("\(size.rows)x\(size.columns)") }
                    if size.rows == 40 { resized.set() }
                }
                // ^C goes inside as a byte.
                if frame.kind == .stdin, frame.payload == [3] { break }
            }
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let pty = try Pty(aegis.loop, rows: 30, columns: 100)
            let child = try start(aegis, ["run", "-it", "--", "sh"], on: pty)
            try await waitFor("prompt$ ", pty.controller)
            #expect(pty.isRaw)
            #expect(al_tty_set_size(pty.terminal.raw, 40, 120) == 0)
            await resized.wait()
            try await pty.controller.write([3])
            #expect(try await child.wait() == .exited(0))
            #expect(!pty.isRaw)
            #expect(sizes.all.withLock { $0 } == ["30x100", "40x120"])
        }
    }

    @Test(arguments: [15, 6, 11] as [Int32])
    func aTerminalIsPutBackWhateverEndsTheProgram(_ signal: Int32) async throws {
        let stopped = Signal()
        try await ScriptedDaemon.run(stoppable(stopped)) { (_, aegis) async throws in
            // Whatever happens, the script does not wait for ever.
            defer { stopped.set() }
            let pty = try Pty(aegis.loop, rows: 30, columns: 100)
            let child = try start(aegis, ["run", "-it", "--", "sh"], on: pty)
            try await waitFor("ready", pty.controller)
            #expect(pty.isRaw)
            #expect(child.signal(signal))
            #expect(try await child.wait() == (signal == 15 ? .exited(143) : .signalled(signal)))
            #expect(!pty.isRaw)
        }
    }

    /// A command with a terminal that says one thing and waits.
    private static var prompting: ScriptedDaemon.Script {
        var script = ScriptedDaemon.Script()
        script.streams["POST /v1/instances/web/attach"] = { frames, _ in
            try await frames.hello(#","tty":true"#)
            try await frames.out("prompt$ ")
            while (try? await frames.readFrame()) != nil {}
        }
        return script
    }

    @Test func ctrlPCtrlQLeavesAnAttachedTerminal() async throws {
        try await ScriptedDaemon.run(Self.prompting) { (_, aegis) async throws in
            let pty = try Pty(aegis.loop, rows: 24, columns: 80)
            let child = try start(aegis, ["attach", "web"], on: pty)
            try await waitFor("prompt$ ", pty.controller)
            #expect(pty.isRaw)
            try await pty.controller.write([0x10, 0x11])
            #expect(try await child.wait() == .exited(0))
            #expect(!pty.isRaw)
        }
    }

    /// Without input nobody could leave a raw terminal.
    @Test func whoOnlyLooksKeepsTheTerminalAsItIs() async throws {
        try await ScriptedDaemon.run(Self.prompting) { (_, aegis) async throws in
            let pty = try Pty(aegis.loop, rows: 24, columns: 80)
            let child = try start(aegis, ["attach", "--no-stdin", "web"], on: pty)
            try await waitFor("prompt$ ", pty.controller)
            #expect(!pty.isRaw)
            #expect(child.signal(2))
            #expect(try await child.wait() == .exited(130))
        }
    }

    @Test func progressIsShownOnATerminalAndTakenAway() async throws {
        let script = ScriptedDaemon.Script.running { frames, _ in
            try await frames.write(.notice(#"{"kind":"pull","text":"pulling x: 3 of 9 layers"}"#))
            try await frames.hello()
            try await frames.write(.exit(0))
        }
        try await ScriptedDaemon.run(script) { (_, aegis) async throws in
            let pty = try Pty(aegis.loop, rows: 24, columns: 80)
            let child = try start(aegis, ["run", "--", "x"], on: pty)
            try await waitFor("pulling x: 3 of 9 layers\r\u{1b}[K", pty.controller)
            #expect(try await child.wait() == .exited(0))
        }
    }

    @Test func aSecretIsTypedUnseen() async throws {
        var script = ScriptedDaemon.Script()
        script.answers["PUT /v1/secrets/KEY"] = (200, #"{"name":"KEY"}"#)
        try await ScriptedDaemon.run(script) { (daemon, aegis) async throws in
            let pty = try Pty(aegis.loop, rows: 24, columns: 80)
            let child = try start(aegis, ["secret", "set", "KEY"], on: pty)
            try await waitFor("Value of KEY: ", pty.controller)
            #expect(al_tty_echoes(pty.terminal.raw) == 0)
            try await pty.controller.write("s3cret\n")
            var shown: [UInt8] = []
            var buffer = ByteBuffer()
            while !String(decoding: shown, as: UTF8.self).contains("KEY set") {
                guard try await pty.controller.read(into: &buffer) > 0 else { break }
                shown += buffer.takeAll()
            }
            #expect(try await child.wait() == .exited(0))
            #expect(!String(decoding: shown, as: UTF8.self).contains("s3cret"))
            #expect(daemon.seen[0].body == "s3cret")
            #expect(al_tty_echoes(pty.terminal.raw) == 1)
        }
    }
}
