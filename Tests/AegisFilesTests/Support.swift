import AegisCore
import AegisFiles
import AegisIO
import AegisTestSupport
import LinuxSys

/// A place that every user can enter, with a home for Aegis in it.
final class FilesFixture: Sendable {
    let directory: TemporaryDirectory
    var path: String { directory.path }
    var home: String { directory.path("home") }
    var run: String { directory.path("run") }

    init() throws {
        directory = try TemporaryDirectory()
        try Files.setPermissions(directory.path, 0o755)
        for name in ["home", "run"] { try Files.makeDirectories(directory.path(name), mode: 0o700) }
    }

    @discardableResult
    func folder(_ name: String, mode: UInt32 = 0o755, owner: UInt32 = 0, group: UInt32 = 0) throws -> String {
        let place = directory.path(name)
        try Files.makeDirectories(place, mode: 0o755)
        try Files.setPermissions(place, mode)
        try Files.setOwner(place, user: owner, group: group)
        return place
    }

    func file(_ name: String, _ text: String = "content") throws -> String {
        try Files.writeAtomically(directory.path(name), Array(text.utf8), mode: 0o644)
        return directory.path(name)
    }

    func view(on loop: EventLoop) throws -> UserView {
        let helper = Files.split(try Files.readLink("/proc/self/exe")).directory + "/SandboxTestHelper"
        return UserView(home: home, runDirectory: run, helper: (helper, ["open"]), on: loop)
    }
}

extension UserView.Purpose {
    static let workspace = UserView.Purpose("workspace", needsDirectory: true, writes: true)
    static let mount = UserView.Purpose("mount", needsDirectory: false, writes: false)
}

extension PathCaller {
    static let root = PathCaller(user: 0, group: 0)
    static let user = PathCaller(user: 1234, group: 1234, groups: [])
}

/// The code and message that an opening was refused with; nil when it was not.
func refusal(_ body: () async throws -> OpenedPath) async throws -> AegisError? {
    do {
        _ = try await body()
        return nil
    } catch let error as AegisError { return error }
}
