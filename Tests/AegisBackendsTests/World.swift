import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Synchronization
import Testing

@testable import AegisBackends

/// The runtimes that the same tests run against.
enum Runtime: String, CaseIterable, Sendable, CustomTestStringConvertible {
    case runc, runsc
    var value: OCIRuntime { self == .runc ? .runc : .runsc }
    var testDescription: String { rawValue }
}

/// A node of its own: home, run directory, id ranges, control groups. `close` removes all of it.
final class World: Sendable {
    let loop: EventLoop
    let home: TemporaryDirectory
    let node: String
    let backend: OCIBackend
    let disk: DiskPool
    let cgroups: CgroupManager
    let idPool: IDPool
    private let sandboxes = Mutex<[any Sandbox]>([])

    static var runRoot: String { "/run/aegis" }

    init(_ runtime: OCIRuntime, loop: EventLoop, node: String? = nil, home: TemporaryDirectory? = nil) throws {
        self.loop = loop
        self.home = try home ?? TemporaryDirectory()
        self.node = try node ?? Random.hex(bytes: 4)
        let run = "\(Self.runRoot)/\(self.node)"
        cgroups = try CgroupManager.detect(node: self.node)
        idPool = IDPool(folder: "\(Self.runRoot)/ids")
        disk = DiskPool(file: self.home.path("disk.btrfs"), mountPoint: "\(run)/disk", loop: loop)
        backend = OCIBackend(
            runtime: runtime, runDirectory: run, scratch: self.home.path("probe"), harnessPath: try Self.harness(),
            shims: self.home.path("shims"), idPool: idPool, cgroups: cgroups, disk: disk, loop: loop)
        try World.makeImage(self.home.path("image"))
    }

    /// The harness that was built beside the tests.
    static func harness() throws -> String {
        if let given = CurrentProcess.environment("AEGIS_HARNESS") { return given }
        var folder = Files.split(try Files.readLink("/proc/self/exe")).directory
        while folder != "/" {
            let path = folder + "/aegis-harness"
            if (try? Files.status(path))?.type == .regular { return path }
            folder = Files.split(folder).directory
        }
        // SwiftPM may run tests through a helper of the toolchain's: then the package's own folder has it.
        let package = Files.split(Files.split(Files.split(#filePath).directory).directory).directory
        return package + "/.build/debug/aegis-harness"
    }

    /// A root file system of links into /usr; the host's own /usr is mounted there, read-only.
    private static func makeImage(_ path: String) throws {
        guard !Files.exists(path) else { return }
        for folder in ["usr", "etc", "root", "var/tmp", "dev", "proc", "sys", "tmp", "run", "workspace"] {
            try Files.makeDirectories("\(path)/\(folder)", mode: 0o755)
        }
        for link in ["bin", "sbin", "lib", "lib64"] { try Files.makeLink("\(path)/\(link)", to: "usr/\(link)") }
        try Files.writeAtomically(
            path + "/etc/passwd", Array("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n".utf8), mode: 0o644)
        try Files.writeAtomically(path + "/etc/group", Array("root:x:0:\nuser:x:1000:\n".utf8), mode: 0o644)
    }

    func spec(_ id: String? = nil, limits: Limits = Limits(), mounts: [BootMount] = []) throws -> BootSpec {
        let id = try id ?? "i-\(Random.hex(bytes: 8))"
        let usr = BootMount(
            source: SharedDescriptor(try FileDescriptor.open("/usr", [.pathOnly, .directory])), target: "/usr",
            readOnly: true, isDirectory: true, ownership: .managed)
        return BootSpec(
            id: id, hostname: "box", layers: [home.path("image")], writable: home.path("layers/\(id)"),
            mounts: [usr] + mounts, limits: limits)
    }

    func boot(_ spec: BootSpec) async throws -> OCISandbox {
        let sandbox = try await backend.boot(spec) { _ in }
        sandboxes.withLock { $0.append(sandbox) }
        return try #require(sandbox as? OCISandbox)
    }

    func boot(limits: Limits = Limits(), mounts: [BootMount] = []) async throws -> OCISandbox {
        try await boot(spec(limits: limits, mounts: mounts))
    }

    /// Ends everything and checks that nothing is left of this node.
    func close() async {
        for sandbox in sandboxes.withLock({ $0 }) {
            await sandbox.kill()
            await sandbox.release()
        }
        await disk.close()
        cgroups.removeParent()
        #expect(cgroups.existing().isEmpty)
        #expect(leftovers == [])
        try? Files.removeTree("\(Self.runRoot)/\(node)")
    }

    /// Folders of sandboxes, and mounts and processes that carry the node's name.
    var leftovers: [String] {
        var found = ((try? Files.list("\(Self.runRoot)/\(node)")) ?? []).map(\.name)
        let mounts = (try? Files.read("/proc/self/mountinfo", limit: 1 << 24)) ?? []
        for line in String(decoding: mounts, as: UTF8.self).split(separator: "\n") where line.contains(node) {
            found.append("mount \(line)")
        }
        for root in cgroups.layout.roots where Files.exists("\(root)/aegis-\(node)") { found.append(root) }
        for entry in (try? Files.list("/proc")) ?? [] where Int(entry.name) != nil {
            guard let text = try? Files.read("/proc/\(entry.name)/cmdline", limit: 65_536) else { continue }
            if String(decoding: text, as: UTF8.self).contains(node) { found.append("process \(entry.name)") }
        }
        return found
    }
}

/// Runs a test's body in a world of its own, which is removed whatever happens.
func inWorld(_ runtime: Runtime, _ body: @escaping @Sendable (World) async throws -> Void) async throws {
    try await onLoop { loop in
        let world = try World(runtime.value, loop: loop)
        do { try await body(world) } catch {
            await world.close()
            throw error
        }
        await world.close()
    }
}

/// What a command in a sandbox did.
struct CommandResult: Sendable, Equatable {
    var stdout = ""
    var stderr = ""
    var code: UInt32?
    var failure: String?
}

/// A talk with a sandbox's harness over one channel.
final class Conversation: Sendable {
    let stream: any ByteStream
    let state: KeeperState
    private let next = Mutex<UInt16>(10)

    init(_ sandbox: any Sandbox) async throws { (state, stream) = try await sandbox.channel() }

    /// Starts a shell command and returns its number.
    @discardableResult
    func start(_ script: String, user: String = "") async throws -> UInt16 {
        let number = next.withLock { number -> UInt16 in
            number += 1
            return number
        }
        let start = StartProcess(
            kind: .exec, arguments: ["/bin/sh", "-c", script].map { Array($0.utf8) },
            environment: ["PATH=/usr/bin:/bin:/usr/sbin:/sbin"].map { Array($0.utf8) }, directory: Array("/".utf8),
            user: Array(user.utf8))
        var bytes: [UInt8] = []
        let payload = start.encoded()
        FrameHeader(.start, stream: number, length: payload.count).encode(into: &bytes)
        try await stream.write(bytes + payload)
        return number
    }

    /// Runs a shell command to its end. Its output must fit in the channel's window.
    func run(_ script: String, user: String = "") async throws -> CommandResult {
        let number = try await start(script, user: user)
        return try await withDeadline(.seconds(180)) { [self] in try await finish(number) }
    }

    /// Waits for the end of a command.
    func finish(_ number: UInt16) async throws -> CommandResult {
        var result = CommandResult()
        var buffer = ByteBuffer()
        while true {
            let (header, payload) = try await frame(&buffer)
            guard header.stream == number else { continue }
            switch header.type {
            case .stdout: result.stdout += String(decoding: payload.dropFirst(8), as: UTF8.self)
            case .stderr: result.stderr += String(decoding: payload.dropFirst(8), as: UTF8.self)
            case .failed:
                result.failure = String(decoding: try ProcessFailed(decoding: payload).text, as: UTF8.self)
                return result
            case .exited:
                result.code = try ProcessExited(decoding: payload).code
                return result
            default: break
            }
        }
    }

    /// Waits until a command has written a text to stdout.
    func await(_ text: String, from number: UInt16) async throws {
        var seen = ""
        var buffer = ByteBuffer()
        while !seen.contains(text) {
            let (header, payload) = try await frame(&buffer)
            if header.stream == number, header.type == .stdout {
                seen += String(decoding: payload.dropFirst(8), as: UTF8.self)
            }
            if header.stream == number, header.type == .exited || header.type == .failed {
                throw ConversationEnded(text: "command ended early: \(seen)")
            }
        }
    }

    /// Reads exactly one frame, so that nothing is lost between two calls.
    private func frame(_ buffer: inout ByteBuffer) async throws -> (FrameHeader, [UInt8]) {
        guard try await stream.fill(&buffer, to: 8) else { throw ConversationEnded(text: "the channel ended") }
        let b = buffer
        let header = try FrameHeader((b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]))
        buffer.consume(8)
        guard try await stream.fill(&buffer, to: Int(header.length)) else {
            throw ConversationEnded(text: "the channel ended")
        }
        let payload = buffer.take(Int(header.length))
        guard header.type != .ended else { throw ConversationEnded(text: "the sandbox ended") }
        return (header, payload)
    }
}

struct ConversationEnded: Error, CustomStringConvertible {
    var text: String
    var description: String { text }
}
