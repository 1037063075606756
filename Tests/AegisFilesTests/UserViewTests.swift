import AegisCore
import AegisFiles
import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct UserViewTests {
    @Test func theDaemonsOwnUserOpensDirectly() async throws {
        let fixture = try FilesFixture()
        let place = try fixture.folder("data", owner: 77, group: 78)
        try Files.makeLink(fixture.directory.path("link"), to: "data")
        try await onLoop { loop in
            let opened = try await fixture.view(on: loop).open(
                fixture.directory.path("link"), for: .workspace, as: .root)
            #expect(opened.realPath == place && opened.isDirectory)
            #expect(opened.status.user == 77 && opened.status.group == 78)
            #expect(!opened.fileSystem.isEmpty)
        }
    }

    @Test func anotherUserOpensWithItsOwnRights() async throws {
        let fixture = try FilesFixture()
        try fixture.folder("mine", mode: 0o700, owner: 1234, group: 1234)
        try fixture.folder("readable", mode: 0o755)
        try fixture.folder("secret", mode: 0o700)
        try fixture.folder("secret/below", mode: 0o777)
        try fixture.folder("listless", mode: 0o711)
        try fixture.folder("shared", mode: 0o770, group: 555)
        let file = try fixture.file("file")
        try await onLoop { loop in
            let view = try fixture.view(on: loop)
            func code(_ name: String, _ purpose: UserView.Purpose, _ caller: PathCaller = .user) async throws -> String
            {
                try await refusal { try await view.open(fixture.directory.path(name), for: purpose, as: caller) }?.code
                    ?? "ok"
            }
            #expect(try await code("mine", .workspace) == "ok")
            #expect(try await code("readable", .mount) == "ok")
            #expect(try await code("file", .mount) == "ok")
            #expect(try await code("readable", .workspace) == "path-denied")
            #expect(try await code("secret", .mount) == "path-denied")
            #expect(try await code("secret/below", .mount) == "path-denied")
            #expect(try await code("listless", .mount) == "path-denied")
            #expect(try await code("shared", .workspace) == "path-denied")
            let member = PathCaller(user: 1234, group: 1234, groups: [555])
            #expect(try await code("shared", .workspace, member) == "ok")
            #expect(try await code("shared", .workspace, PathCaller(user: 1234, group: 555, groups: [])) == "ok")
            // Groups that nobody named come from the system: uid 1234 has none there.
            #expect(try await code("shared", .workspace, PathCaller(user: 1234, group: 1234)) == "path-denied")
            let opened = try await view.open(file, for: .mount, as: .user)
            #expect(!opened.isDirectory && opened.realPath == file && opened.status.size == 7)
        }
    }

    @Test func linksOfTheUserLeadOnlyWhereTheUserMayGo() async throws {
        let fixture = try FilesFixture()
        try fixture.folder("secret", mode: 0o700)
        try fixture.folder("mine", mode: 0o700, owner: 1234, group: 1234)
        try Files.makeLink(fixture.directory.path("mine/way"), to: "../secret")
        try Files.makeLink(fixture.directory.path("mine/etc"), to: "/etc")
        try Files.makeLink(fixture.directory.path("mine/magic"), to: "/proc/self/root/etc")
        try await onLoop { loop in
            let view = try fixture.view(on: loop)
            for (name, purpose) in [("way", UserView.Purpose.mount), ("etc", .workspace), ("magic", .mount)] {
                let error = try await refusal {
                    try await view.open(fixture.directory.path("mine/\(name)"), for: purpose, as: .user)
                }
                #expect(error?.code == (name == "magic" ? "path-unusable" : "path-denied"), "\(name)")
            }
        }
    }

    @Test func whatDoesNotExistNamesTheNearestFolder() async throws {
        let fixture = try FilesFixture()
        try fixture.folder("a/b")
        let file = try fixture.file("a/file")
        try await onLoop { loop in
            let view = try fixture.view(on: loop)
            for caller in [PathCaller.root, .user] {
                let missing = try await refusal {
                    try await view.open(fixture.directory.path("a/b/c/d"), for: .workspace, as: caller)
                }
                #expect(missing?.code == "path-not-found" && missing?.kind == .notFound)
                #expect(missing?.message == "workspace '\(fixture.path)/a/b/c/d' does not exist")
                #expect(missing?.hint?.contains("'\(fixture.path)/a/b'") == true)
                let isFile = try await refusal { try await view.open(file, for: .workspace, as: caller) }
                #expect(
                    isFile?.code == "not-a-directory"
                        && isFile?.message == "workspace '\(file)' is a file, not a folder")
                let through = try await refusal { try await view.open(file + "/x", for: .workspace, as: caller) }
                #expect(through?.code == "path-not-found" && through?.hint?.contains("'\(fixture.path)/a'") == true)
            }
            let denied = try await refusal { try await view.open(fixture.home + "/x", for: .mount, as: .user) }
            #expect(denied?.kind == .denied && denied?.message.contains("uid 1234") == true)
            for path in ["relative", "", "./x"] {
                #expect(
                    try await refusal { try await view.open(path, for: .mount, as: .root) }?.code == "invalid-argument")
            }
        }
    }

    @Test func aegisAndTheKernelAreOutOfReach() async throws {
        let fixture = try FilesFixture()
        try fixture.folder("home/workspaces/w")
        try Files.makeLink(fixture.directory.path("alias"), to: "home")
        try fixture.folder("bound")
        try Mounts.mount(fixture.path, on: fixture.directory.path("bound"), type: "none", flags: 4096)
        defer { try? Mounts.unmount(fixture.directory.path("bound"), detach: true) }
        try Files.makeFIFO(fixture.directory.path("fifo"))
        let refused = [
            "/", "/proc", "/proc/self", "/sys", "/sys/kernel", "/dev", "/dev/shm", "/dev/null", fixture.home,
            "\(fixture.home)/workspaces/w", fixture.run, fixture.path, "\(fixture.path)/alias", "\(fixture.path)/bound",
            "\(fixture.path)/bound/home/workspaces",
        ]
        try await onLoop { loop in
            let view = try fixture.view(on: loop)
            for path in refused {
                let error = try await refusal { try await view.open(path, for: .mount, as: .root) }
                #expect(
                    error?.code == "path-refused" || (path == "/dev/null" && error?.code == "not-a-file"), "\(path)")
                #expect(error?.kind == .denied || path == "/dev/null")
            }
            let fifo = try await refusal {
                try await view.open(fixture.directory.path("fifo"), for: .mount, as: .root)
            }
            #expect(fifo?.code == "not-a-file")
            // What is beside is fine.
            try fixture.folder("homework")
            #expect(
                try await refusal { try await view.open(fixture.directory.path("homework"), for: .mount, as: .root) }
                    == nil)
        }
    }

    @Test func aHelperThatCannotHelpIsAClearError() async throws {
        let fixture = try FilesFixture()
        try await onLoop { loop in
            for (program, arguments) in [("/nonexistent", ["x"]), ("/bin/true", []), ("/bin/echo", ["no answer"])] {
                let view = UserView(
                    home: fixture.home, runDirectory: fixture.run, helper: (program, arguments), on: loop)
                let error = try await refusal { try await view.open("/tmp", for: .mount, as: .user) }
                #expect(error?.code == "open-helper-failed", "\(program)")
            }
        }
    }

    @Test func manyHelpersAtOnceLeaveNothingBehind() async throws {
        let fixture = try FilesFixture()
        let mine = try fixture.folder("mine", mode: 0o700, owner: 1234, group: 1234)
        try await onLoop { loop in
            let view = try fixture.view(on: loop)
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<20 { group.addTask { try await view.open(mine, for: .workspace, as: .user).realPath } }
                for try await path in group { #expect(path == mine) }
            }
        }
        let held = try Files.list("/proc/self/fd").filter {
            (try? Files.readLink("/proc/self/fd/\($0.name)"))?.hasPrefix(fixture.path) == true
        }
        #expect(held.isEmpty)
    }
}
