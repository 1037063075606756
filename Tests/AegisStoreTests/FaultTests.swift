import AegisCore
import AegisStore
import Foundation
import Glibc
import Testing

@Suite struct FaultTests {
    let scratch: Scratch
    init() throws { scratch = try Scratch() }

    @Test(arguments: [0, 1, 7, 60])
    func savedTransactionsSurviveKill9AndTheOpenOneDoesNot(_ committed: Int) async throws {
        let path = scratch.file("aegis.db")
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String, committed = committed as Int] in
            let database = try openNotes(path)
            for index in 0..<committed { try database.add("note \(index)") }
            try database.transaction(.saved) { tx in
                for index in 0..<5000 { try tx.run("INSERT INTO notes(body) VALUES (?)", "open \(index)") }
                kill(getpid(), SIGKILL)
            }
        }
        #expect(try openNotes(path).count() == committed)
    }

    @Test func killedWhileMigratingLeavesTheVersionBefore() async throws {
        let path = scratch.file("aegis.db")
        await #expect(processExitsWith: .signal(SIGKILL)) { [path = path as String] in
            let bad = Migration("test: more") { tx throws(SQLiteError) in
                try tx.run("CREATE TABLE half(a)")
                kill(getpid(), SIGKILL)
            }
            _ = try Database.open(path: path, applicationID: ours, migrations: [notes, bad])
        }
        let fixed = Migration("test: more", sql: "CREATE TABLE half(a)")
        let database = try Database.open(path: path, applicationID: ours, migrations: [notes, fixed])
        #expect(try database.count() == 0)
    }

    @Test func aFileSizeLimitIsToldAsDiskFullAndKeepsWhatWasAcknowledged() async throws {
        let path = scratch.file("aegis.db")
        await #expect(processExitsWith: .success) { [path = path as String] in
            let database = try openNotes(path)
            try database.add("kept", .synced)
            _ = signal(SIGXFSZ, SIG_IGN)
            var limit = rlimit(rlim_cur: 300_000, rlim_max: 300_000)
            let limited = unsafe setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit)
            try #require(limited == 0)
            let error = #expect(throws: AegisError.self) { try fill(database) }
            #expect(error?.code == "disk-full" && error?.message == "no space left to write the database \(path)")
            #expect(try database.count() >= 1)
        }
        #expect(try openNotes(path).count() >= 1)
    }

    @Test(.enabled(if: geteuid() == 0, "mounting a small file system needs root"))
    func aFullDiskIsToldAndOverOnceThereIsRoom() throws {
        let folder = scratch.file("small")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        let mounted = unsafe mount("tmpfs", folder, "tmpfs", 0, "size=1m")
        try #require(mounted == 0)
        defer { _ = unsafe umount2(folder, Int32(MNT_DETACH)) }
        do {
            let database = try openNotes("\(folder)/aegis.db")
            try database.add("kept", .synced)
            let ballast = "\(folder)/ballast"
            #expect(FileManager.default.createFile(atPath: ballast, contents: Data(count: 400_000)))
            let error = #expect(throws: AegisError.self) { try fill(database) }
            #expect(error?.code == "disk-full" && error?.hint?.contains("free space") == true)
            let kept = try database.count()
            #expect(kept >= 1)

            let copy = #expect(throws: AegisError.self) { try database.backup(to: "\(folder)/copy.db") }
            #expect(copy?.code == "disk-full")
            #expect(!FileManager.default.fileExists(atPath: "\(folder)/copy.db"), "a half backup was left behind")

            try FileManager.default.removeItem(atPath: ballast)
            try database.add("again")
            #expect(try database.count() == kept + 1)
        }
    }

    @Test func backupIsOneConsistentFileTakenWhileOthersWrite() throws {
        let database = try openNotes(scratch.file("aegis.db"))
        for index in 0..<100 { try database.add("note \(index)") }
        let target = scratch.file("copy.db")
        try database.transaction(.saved) { tx in
            try tx.run("INSERT INTO notes(body) VALUES ('not yet committed')")
            try database.backup(to: target)
        }
        let names = try scratch.picture().keys.filter { $0.hasPrefix("copy") }
        #expect(names == ["copy.db"])
        let copy = try openNotes(target)
        #expect(try copy.count() == 100)
        #expect(try database.count() == 101)
        copy.close()

        let before = try Data(contentsOf: URL(fileURLWithPath: target))
        let error = #expect(throws: AegisError.self) { try database.backup(to: target) }
        #expect(error?.code == "file-exists")
        #expect(try Data(contentsOf: URL(fileURLWithPath: target)) == before)
    }
}

/// Writes until it fails; every round is committed on its own.
private func fill(_ database: Database) throws {
    for round in 0..<1000 {
        try database.transaction(.saved) { tx in
            _ = try tx.run(
                "INSERT INTO notes(id, raw) VALUES (?, ?)", 1000 + round, [UInt8](repeating: 7, count: 20_000))
        }
    }
}
