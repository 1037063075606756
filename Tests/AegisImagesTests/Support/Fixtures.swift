import AegisCore
import AegisIO
import AegisTestSupport
import CLinux
import LinuxSys
import Synchronization

@testable import AegisImages

/// The helper program, which is built beside the tests.
func helperProgram() throws -> HelperProgram {
    let own = try Files.readLink("/proc/self/exe")
    let directory = own[..<(own.lastIndex(of: "/") ?? own.startIndex)]
    let path = "\(directory)/aegis-images-helper"
    guard Files.exists(path) else { throw Missing(what: path) }
    return HelperProgram(executable: path, arguments: [])
}

/// Settings that look at nothing of the machine but `PATH`.
func testSettings() -> ImageSettings {
    var settings = ImageSettings(environment: ["PATH": "/usr/local/bin:/usr/bin:/bin"])
    settings.authFile = nil
    settings.retries = 0
    settings.limits.stallTime = .seconds(20)
    return settings
}

/// Runs `body` with an open store and its working side.
func withStore<R: Sendable>(
    _ root: String, settings: ImageSettings = testSettings(), on loop: EventLoop,
    _ body: @escaping @Sendable (ImageStore) async throws -> R
) async throws -> R {
    let store = try ImageStore(root: root, helper: try helperProgram(), settings: settings, loop: loop)
    return try await withThrowingTaskGroup(of: R?.self) { group in
        group.addTask {
            await store.run()
            return nil
        }
        group.addTask { try await body(store) }
        while let result = try await group.next() {
            guard let result else { continue }
            group.cancelAll()
            return result
        }
        throw CancellationError()
    }
}

/// A registry, a store and a loop for one test.
struct Bench: Sendable {
    let loop: EventLoop
    let registry: Registry
    let store: ImageStore
    let directory: TemporaryDirectory

    /// Pulls an image that was stored as `name`.
    func ensure(_ name: String, _ policy: PullPolicy = .ifNotPresent) async throws -> ResolvedImage {
        try await store.ensure(try registry.reference(name), policy: policy)
    }
}

/// Runs `body` with a registry and a store.
func withBench<R: Sendable>(
    users: String? = nil, settings: ImageSettings = testSettings(),
    _ body: @escaping @Sendable (Bench) async throws -> R
) async throws -> R {
    try await onLoop { loop in
        let directory = try TemporaryDirectory()
        defer { withExtendedLifetime(directory) {} }
        let registry = try await Registry(users: users, on: loop)
        let result: Result<R, any Error>
        do {
            result = .success(
                try await withStore(directory.path("images"), settings: settings, on: loop) { store in
                    try await body(Bench(loop: loop, registry: registry, store: store, directory: directory))
                })
        } catch { result = .failure(error) }
        await registry.stop()
        return try result.get()
    }
}

/// What a test sees of one path of a layer.
struct Seen: Equatable, CustomStringConvertible {
    var kind: FileType
    var mode: UInt32 = 0
    var uid: UInt32 = 0
    var gid: UInt32 = 0
    var description: String { "\(kind) \(String(mode, radix: 8)) \(uid):\(gid)" }
}

/// What is at a path of a layer; nil when nothing is.
func look(_ layer: LayerPath, _ path: String) -> Seen? {
    guard let status = try? Files.status("\(layer.path)/\(path)", followLinks: false) else { return nil }
    return Seen(kind: status.type, mode: status.permissions, uid: status.user, gid: status.group)
}

/// A file's text.
func text(_ layer: LayerPath, _ path: String) -> String? {
    (try? Files.read("\(layer.path)/\(path)", limit: 1 << 20)).map { String(decoding: $0, as: UTF8.self) }
}

/// An extended attribute's bytes.
func attribute(_ layer: LayerPath, _ path: String, _ name: String) -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 256)
    guard let file = try? FileDescriptor.open("\(layer.path)/\(path)", [.readOnly, .noFollow]) else { return nil }
    let size = unsafe al_tree_get_attribute(file.raw, name, &bytes, bytes.count)
    return size < 0 ? nil : Array(bytes[..<size])
}

/// Whether a path is an overlayfs whiteout: a character device 0/0.
func isWhiteout(_ layer: LayerPath, _ path: String) -> Bool {
    let status = try? Files.status("\(layer.path)/\(path)", followLinks: false)
    return status?.type == .characterDevice && status?.specialDevice == 0
}

/// The error of a failed call.
func failure(_ body: () async throws -> some Sendable) async -> AegisError? {
    do {
        _ = try await body()
        return nil
    } catch { return error as? AegisError ?? AegisError(.failed, "other", "\(error)") }
}

/// The entries of the store's folder for work in progress.
func leftovers(_ store: ImageStore) throws -> [String] { try Files.list("\(store.directory.path)/tmp").map(\.name) }
