import AegisCore
import AegisFiles
import AegisTestSupport
import LinuxSys
import Testing

@Suite struct WorkspaceStoreTests {
    private let id = "i-0123456789abcdef"

    @Test(
        arguments: [
            (nil, WorkspaceReference.automatic), ("claw", .named("claw")), ("/data/x", .path("/data/x")),
        ])
    func referencesAreTold(text: String?, wanted: WorkspaceReference) throws {
        #expect(try WorkspaceReference(parsing: text) == wanted)
    }

    @Test(arguments: ["./x", ".", "..", "a/b", "Caps", "i-0123456789abcdef", "", "-x", ".records"])
    func otherReferencesAreRefused(text: String) {
        let error = #expect(throws: AegisError.self) { try WorkspaceReference(parsing: text) }
        #expect(error?.kind == .usage)
    }

    @Test func aNamedWorkspaceStaysAndIsShared() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        let (first, info) = try await store.open(named: "claw", owner: 1234)
        #expect(first.realPath == "\(fixture.home)/workspaces/claw" && !info.isAutomatic && info.owner == 1234)
        #expect(first.status.permissions == 0o755 && first.status.user == 0)
        try first.openForUse().writeAtomically("kept", Array("x".utf8))
        // A second instance, after a restart of the daemon.
        let again = try WorkspaceStore(home: fixture.home)
        let (second, same) = try await again.open(named: "claw", owner: 1234)
        #expect(second.status.isSameFile(as: first.status) && same.createdAt == info.createdAt)
        #expect(same.owner == 1234 && same.usedAt >= info.usedAt)
        #expect(Files.exists("\(second.realPath)/kept"))
    }

    @Test func itIsGivenToTheFirstUserInsideAndStaysTheirs() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        let (one, two) = (FileIdentity(user: 1000, group: 50), FileIdentity(user: 33, group: 33))
        let (_, before) = try await store.open(named: "claw", owner: 7)
        #expect(before.givenTo == nil)
        let (opened, given) = try await store.open(named: "claw", owner: 7, givingTo: one)
        #expect(given.givenTo == one && opened.status.user == 1000 && opened.status.group == 50)
        // Whatever somebody inside makes of the folder later.
        try Files.setOwner(opened.realPath, user: 99, group: 99)
        let (later, same) = try await WorkspaceStore(home: fixture.home).open(named: "claw", owner: 7, givingTo: two)
        #expect(same.givenTo == one && later.status.user == 99 && same.owner == 7)
        let (auto, info) = try await store.openAutomatic(instance: id, owner: 7, givingTo: two)
        #expect(info.givenTo == two && auto.status.user == 33 && auto.status.permissions == 0o755)
        // What holds files is whose they are.
        let (old, _) = try await store.open(named: "old", owner: 7)
        try old.openForUse().writeAtomically("file", Array("x".utf8))
        let (kept, root) = try await store.open(named: "old", owner: 7, givingTo: one)
        #expect(root.givenTo == FileIdentity(user: 0, group: 0) && kept.status.user == 0)
    }

    @Test func onlyTheOwnerAndRootReachIt() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        _ = try await store.open(named: "mine", owner: 1234)
        _ = try await store.open(named: "roots", owner: 0)
        await #expect(throws: AegisError.self) { try await store.open(named: "mine", owner: 99) }
        await #expect(throws: AegisError.self) { try await store.remove(named: "mine", as: 99) { [] } }
        #expect(try await store.open(named: "mine", owner: 0).1.owner == 1234)
        #expect(try await store.list(as: 1234).map(\.name) == ["mine"])
        #expect(try await store.list(as: 0).map(\.name) == ["mine", "roots"])
        #expect(try await store.list(as: 99).isEmpty)
        // Without its record nobody but root may have it.
        try Files.removeFile("\(fixture.home)/workspaces/.records/mine")
        await #expect(throws: AegisError.self) { try await store.open(named: "mine", owner: 1234) }
    }

    @Test func anAutomaticOneGoesWithItsInstanceAndNothingElseDoes() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        let (opened, info) = try await store.openAutomatic(instance: id, owner: 1234)
        #expect(info.isAutomatic && info.name == id && opened.realPath.hasSuffix("/workspaces/\(id)"))
        _ = try await store.open(named: "claw", owner: 1234)
        let user = try fixture.folder("users")
        // The kind survives a restart: it is in the name.
        let again = try WorkspaceStore(home: fixture.home)
        #expect(try await again.list(as: 0).map(\.isAutomatic) == [false, true])
        try await again.removeAutomatic(instance: id)
        try await again.removeAutomatic(instance: id)
        try await again.removeAutomatic(instance: "claw")
        try await again.removeAutomatic(instance: user)
        try await again.removeAutomatic(instance: "../../users")
        #expect(try await again.list(as: 0).map(\.name) == ["claw"] && Files.exists(user))
        #expect(try Files.list("\(fixture.home)/workspaces/.records").map(\.name) == ["claw"])
    }

    @Test func removalIsRefusedWhileUsedAndDeepTreesGo() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        let (opened, _) = try await store.open(named: "deep", owner: 0)
        var here = try opened.openForUse()
        for _ in 0..<3000 {
            try here.makeDirectory("d")
            here = try here.open("d", [.readOnly, .directory])
        }
        try Files.makeLink("\(opened.realPath)/out", to: fixture.path)
        let error = try await refusalOf { try await store.remove(named: "deep", as: 0) { ["i-1", "web"] } }
        #expect(error?.code == "workspace-in-use" && error?.message.contains("i-1, web") == true)
        #expect(try await store.sizes(of: ["deep", "none"]).mapValues(\.isWhole) == ["deep": true])
        try await store.remove(named: "deep", as: 0) {
            // Nobody begins to use what is being deleted, and nobody else deletes it.
            let error = try? await refusalOf { _ = try await store.open(named: "deep", owner: 0) }
            #expect(error?.code == "workspace-not-found" && error?.message.contains("being deleted") == true)
            let again = try? await refusalOf { try await store.remove(named: "deep", as: 0) { [] } }
            #expect(again?.code == "workspace-not-found")
            return []
        }
        #expect(try await store.list(as: 0).isEmpty && Files.list("\(fixture.home)/workspaces/.trash").isEmpty)
        #expect(Files.exists(fixture.home))
        #expect(
            try await refusalOf { try await store.remove(named: "deep", as: 0) { [] } }?.code
                == "workspace-not-found")
    }

    @Test func whatACrashLeftInTheTrashGoesAtTheNextStart() async throws {
        let fixture = try FilesFixture()
        _ = try WorkspaceStore(home: fixture.home)
        try fixture.folder("home/workspaces/.trash/old-1/inner")
        _ = try WorkspaceStore(home: fixture.home)
        #expect(try Files.list("\(fixture.home)/workspaces/.trash").isEmpty)
    }

    @Test func manyAtOnceMakeOne() async throws {
        let fixture = try FilesFixture()
        let store = try WorkspaceStore(home: fixture.home)
        let inodes = try await withThrowingTaskGroup(of: UInt64.self) { group in
            for _ in 0..<16 { group.addTask { try await store.open(named: "one", owner: 7).0.status.inode } }
            return try await group.reduce(into: Set<UInt64>()) { $0.insert($1) }
        }
        #expect(inodes.count == 1)
    }

    private func refusalOf(_ body: () async throws -> Void) async throws -> AegisError? {
        do {
            try await body()
            return nil
        } catch let error as AegisError { return error }
    }
}
