import AegisChannel
import AegisCore
import AegisIO
import AegisSandboxTypes
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisBackends

/// Folders of the host inside: whose files they are, and where they can and cannot appear.
@Suite(.serialized, .timeLimit(.minutes(15)))
struct MountTests {
    private static func folder(_ path: String, user: UInt32, group: UInt32, mode: UInt32) throws {
        try Files.makeDirectories(path, mode: 0o755)
        try Files.setOwner(path, user: user, group: group)
        try Files.setPermissions(path, mode)
    }

    private static func mount(
        _ path: String, _ target: String, _ ownership: BootMount.Ownership, readOnly: Bool = false,
        isDirectory: Bool = true
    ) throws -> BootMount {
        let flags: OpenFlags = isDirectory ? [.pathOnly, .directory] : .pathOnly
        return BootMount(
            source: SharedDescriptor(try FileDescriptor.open(path, flags)), target: target, readOnly: readOnly,
            isDirectory: isDirectory, ownership: ownership)
    }

    @Test(arguments: Runtime.allCases)
    func aUsersFolderBelongsToItsOwnerOnTheHostAndToRootInside(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let path = world.home.path("work")
            try Self.folder(path, user: 1234, group: 4321, mode: 0o700)
            try Files.writeAtomically(path + "/input", Array("data".utf8))
            try Files.setOwner(path + "/input", user: 1234, group: 4321)
            let owner = BootMount.Ownership.host(uid: 1234, gid: 4321, insideUID: 0, insideGID: 0, others: true)
            let sandbox = try await world.boot(mounts: [try Self.mount(path, "/workspace", owner)])
            let talk = try await Conversation(sandbox)
            let result = try await talk.run(
                "cd /workspace; cat input; mkdir sub; echo made > sub/file; ln -s sub link; chmod 777 . ; "
                    + "python3 -c 'import os; print([os.stat(p).st_uid for p in (\".\", \"input\", \"sub/file\")])'")
            #expect(result.stdout == "data[0, 0, 0]\n", "\(result)")
            for name in ["sub", "sub/file", "link"] {
                let status = try Files.status("\(path)/\(name)", followLinks: false)
                #expect(status.user == 1234 && status.group == 4321, "\(name) \(status)")
            }
            // Another user inside works too; on the host it is one of the node's reserved ids.
            let other = try await talk.run("echo o > /workspace/other && cat /workspace/other", user: "1000:1000")
            #expect(other.stdout == "o\n", "\(other)")
            #expect(try Files.status(path + "/other").user == world.idPool.reservedBase + 1001 - 1)
            let chown = try await talk.run("chown 33:33 /workspace/input && chown 0:0 /workspace/other && echo ok")
            #expect(chown.stdout == "ok\n", "\(chown)")
            #expect(try Files.status(path + "/other").user == 1234)
            #expect(try Files.status(path + "/input").user == world.idPool.reservedBase + 33)
        }
    }

    @Test(arguments: Runtime.allCases)
    func ourFilesFollowTheImagesLinksInsideOnlyAndStayAsTheSandboxLeavesThem(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            // Not below /tmp, which is in memory inside.
            let outside = "/var/tmp/aegis-links-\(try Random.hex(bytes: 8))"
            try Files.makeDirectories(outside)
            defer { try? Files.removeTree(outside) }
            let top = world.home.path("top")
            // The link is the image's: inside it leads to a folder of the image, outside it would lead to ours.
            try Files.makeDirectories(top + outside, mode: 0o755)
            try Files.makeLink(top + "/etc", to: outside)
            try Files.writeAtomically("\(top)\(outside)/hosts", Array("of the image\n".utf8), mode: 0o644)
            var spec = try world.spec()
            spec.layers.insert(top, at: 0)
            var sandbox = try await world.boot(spec)
            var talk = try await Conversation(sandbox)
            let first = try await talk.run("cat /etc/hosts /etc/hostname; echo mine > /etc/hosts; rm /etc/hostname")
            #expect(first.stdout == "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost\nbox\n", "\(first)")
            #expect(try Files.list(outside).isEmpty)
            await sandbox.kill()
            await sandbox.release()
            sandbox = try await world.boot(spec)
            talk = try await Conversation(sandbox)
            let second = try await talk.run("cat /etc/hosts /etc/hostname")
            #expect(second.stdout == "mine\nbox\n", "\(second)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aMountTakesThePlaceOfOurFileAndMustFitTheImages(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let (folder, file) = (world.home.path("folder"), world.home.path("file"))
            try Self.folder(folder, user: 0, group: 0, mode: 0o755)
            try Files.writeAtomically(file, Array("theirs\n".utf8), mode: 0o644)
            let sandbox = try await world.boot(mounts: [
                try Self.mount(file, "/etc/hosts", .managed, readOnly: true, isDirectory: false),
                try Self.mount(folder, "/etc/hostname", .managed),
            ])
            let talk = try await Conversation(sandbox)
            let read = try await talk.run("cat /etc/hosts; test -d /etc/hostname && echo folder")
            #expect(read.stdout == "theirs\nfolder\n", "\(read)")
            for (target, isFile) in [("/etc/passwd", true), ("/root", false)] {
                let mount = try Self.mount(isFile ? folder : file, target, .managed, isDirectory: isFile)
                let error = await #expect(throws: AegisError.self) { _ = try await world.boot(mounts: [mount]) }
                #expect(error?.code == "mount-mismatch" && error?.kind == .usage, "\(error as Any)")
                #expect(error?.message.contains(target) == true)
            }
        }
    }

    @Test(arguments: Runtime.allCases)
    func aUsersFolderCanBelongToAnotherUserInside(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let path = world.home.path("work")
            try Self.folder(path, user: 1234, group: 4321, mode: 0o700)
            let owner = BootMount.Ownership.host(uid: 1234, gid: 4321, insideUID: 1000, insideGID: 1000, others: true)
            let sandbox = try await world.boot(mounts: [try Self.mount(path, "/workspace", owner)])
            let talk = try await Conversation(sandbox)
            let mine = try await talk.run("echo u > /workspace/user && cat /workspace/user", user: "1000:1000")
            #expect(mine.stdout == "u\n", "\(mine)")
            #expect(try Files.status(path + "/user").user == 1234)
            #expect(try await talk.run("echo r > /workspace/root").code == 0)
            #expect(try Files.status(path + "/root").user == world.idPool.reservedBase)
        }
    }

    @Test(arguments: Runtime.allCases)
    func aManagedFolderIsMappedIdByIdAndSharedByTwo(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let path = world.home.path("volume")
            try Self.folder(path, user: 0, group: 0, mode: 0o755)
            let first = try await world.boot(mounts: [try Self.mount(path, "/workspace", .managed)])
            let second = try await world.boot(mounts: [try Self.mount(path, "/workspace", .managed)])
            let one = try await Conversation(first)
            let two = try await Conversation(second)
            #expect(try await one.run("echo 1 > /workspace/f; chown 7:8 /workspace/f").code == 0)
            let seen = try await two.run(
                "cat /workspace/f; python3 -c 'import os; print(os.stat(\"/workspace/f\").st_uid)'")
            #expect(seen.stdout == "1\n7\n", "\(seen)")
            #expect(try Files.status(path + "/f").user == 7)
            // Written by the neighbour, changed here, seen there: no cache stands between them.
            #expect(try await two.run("echo 22 > /workspace/f").code == 0)
            #expect(try await one.run("cat /workspace/f").stdout == "22\n")
            try Files.writeAtomically(path + "/host", Array("h\n".utf8), mode: 0o644)
            #expect(try await one.run("cat /workspace/host").stdout == "h\n")
        }
    }

    @Test(arguments: Runtime.allCases)
    func readOnlyFoldersAndSingleFilesStayAsTheyAre(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let path = world.home.path("data")
            try Self.folder(path, user: 1234, group: 1234, mode: 0o755)
            try Files.writeAtomically(path + "/f", Array("fixed".utf8), mode: 0o644)
            let owner = BootMount.Ownership.host(uid: 1234, gid: 1234, insideUID: 0, insideGID: 0, others: true)
            let sandbox = try await world.boot(mounts: [
                try Self.mount(path, "/deep/new/data", owner, readOnly: true),
                try Self.mount(path + "/f", "/etc/conf/f", owner, readOnly: true, isDirectory: false),
            ])
            let talk = try await Conversation(sandbox)
            let result = try await talk.run(
                "cat /deep/new/data/f /etc/conf/f; for t in /deep/new/data/x /deep/new/data/f /etc/conf/f; do (echo x > $t) 2>/dev/null && echo wrote $t; done; rm -rf /deep/new/data/f 2>/dev/null; mount -o remount,rw /deep/new/data 2>/dev/null; cat /deep/new/data/f"
            )
            #expect(result.stdout == "fixedfixedfixed", "\(result)")
        }
    }

    @Test(arguments: Runtime.allCases)
    func aHostileImageCannotMoveAMountOutOfTheRoot(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let outside = world.home.path("outside")
            try Files.makeDirectories(outside, mode: 0o755)
            let image = world.home.path("image")
            try Files.makeLink(image + "/evil", to: "../../../../../../../..\(outside)")
            try Files.makeLink(image + "/absolute", to: outside)
            try Files.makeLink(image + "/.aegis", to: outside)
            let path = world.home.path("data")
            try Self.folder(path, user: 0, group: 0, mode: 0o755)
            try Files.writeAtomically(path + "/mark", Array("m".utf8), mode: 0o644)
            let spec = try world.spec(mounts: [
                try Self.mount(path, "/evil/a/b", .managed), try Self.mount(path, "/absolute/c", .managed),
                try Self.mount(path, "/../../up/../d", .managed),
            ])
            // Either a clear refusal, or all of it inside: never a file outside.
            do {
                let sandbox = try await world.boot(spec)
                let result = try await Conversation(sandbox).run("cat /evil/a/b/mark /absolute/c/mark /d/mark")
                #expect(result.stdout == "mmm", "\(result)")
            } catch let error as AegisError {
                #expect(error.code == "boot-failed")
            }
            #expect(try Files.list(outside).isEmpty)
        }
    }

    @Test(arguments: Runtime.allCases)
    func aFolderWhoseIdsCannotBeMappedIsNamed(_ runtime: Runtime) async throws {
        try await inWorld(runtime) { world in
            let spec = try world.spec(mounts: [try Self.mount("/sys/kernel", "/workspace", .managed)])
            let error = await #expect(throws: AegisError.self) { _ = try await world.boot(spec) }
            #expect(error?.code == "not-idmappable")
            #expect(error?.message.contains("sysfs") == true, "\(String(describing: error))")
            #expect(error?.message.contains("/workspace") == true, "\(String(describing: error))")
            #expect(world.leftovers.allSatisfy { $0.contains("/cgroup/") }, "\(world.leftovers)")
        }
    }
}
