import AegisCore
import AegisStore
import Foundation
import Glibc
import Testing

@testable import AegisSecrets

func text(_ secret: Secret<[UInt8]>) -> String { String(decoding: secret.reveal(), as: UTF8.self) }
func secret(_ text: String) -> Secret<[UInt8]> { Secret(Array(text.utf8)) }

@Suite struct SecretStoreTests {
    let scratch: Scratch
    let keyFile: String
    init() throws {
        scratch = try Scratch()
        keyFile = scratch.file("secrets.key")
    }

    private func openDatabase() throws -> Database {
        try Database.open(
            path: scratch.file("aegis.db"), applicationID: 0x4145_4749, migrations: [SecretStore.migration])
    }
    private func openStore() throws -> SecretStore { try SecretStore(database: try openDatabase(), keyFile: keyFile) }

    @Test func setGetListDelete() throws {
        let times = Clock([1000, 2000, 3000])
        let store = try SecretStore(database: try openDatabase(), keyFile: keyFile) { times.next() }
        #expect(try store.list().isEmpty && store.exists("A") == false)
        try store.set("B_KEY", to: secret("one"))
        try store.set("A_KEY", to: secret("two"))
        let again = try store.set("B_KEY", to: secret("three"))
        #expect(
            again
                == SecretInfo(
                    name: "B_KEY", created: Timestamp(milliseconds: 1000), updated: Timestamp(milliseconds: 3000)))
        #expect(try store.list().map(\.name) == ["A_KEY", "B_KEY"])
        #expect(try store.list()[1] == again)
        #expect(try text(store.value(of: "B_KEY")) == "three" && store.exists("A_KEY"))
        try store.delete("A_KEY")
        #expect(try store.list().map(\.name) == ["B_KEY"])
    }

    @Test(
        arguments: [Array(1...255), [10], [UInt8](repeating: 0xff, count: 64 << 10), Array("ünï\r\n".utf8)] as [[UInt8]]
    )
    func bytesComeBackAfterReopening(_ value: [UInt8]) throws {
        try openStore().set("V", to: Secret(value))
        #expect(try openStore().value(of: "V").reveal() == value)
    }

    /// Changes count at once.
    @Test func valuesAreMaskedInTexts() throws {
        let store = try openStore()
        func masked(_ text: String) -> String { String(decoding: store.masked(Array(text.utf8)), as: UTF8.self) }
        #expect(masked("one hunter2") == "one hunter2")
        try store.set("A", to: secret("hunter2"))
        #expect(masked("one hunter2, hunter3") == "one ***, hunter3")
        // No more than is wanted, and never a part of a value.
        let long = Array(String(repeating: "hunter2 is ", count: 5000).utf8)
        let part = store.masked(long, wanted: 10)
        #expect((10...5000).contains(part.count) && part.starts(with: "*** is *** is".utf8))
        #expect(!String(decoding: part, as: UTF8.self).contains("hun"))
        try store.set("A", to: secret("hunter3"))
        try store.set("B", to: secret("one "))
        #expect(masked("one hunter2, hunter3") == "***hunter2, ***")
        try store.delete("A")
        #expect(masked("one hunter2, hunter3") == "***hunter2, hunter3")
        // More than can be looked for at once: then nothing is shown.
        let large = Secret([UInt8](repeating: 0x41, count: SecretStore.valueLimit))
        for number in 0...SecretStore.maskLimit / SecretStore.valueLimit { try store.set("L\(number)", to: large) }
        #expect(masked("one") == "•••")
    }

    @Test func starMeansAllAndNamesComeOnceInOrder() throws {
        let store = try openStore()
        for name in ["C", "A", "B"] { try store.set(name, to: secret("value of \(name)")) }
        #expect(try store.resolve(["B", "A", "B"]).map(\.name) == ["B", "A"])
        #expect(try store.resolve(["*"]).map { text($0.value) } == ["value of A", "value of B", "value of C"])
        #expect(try store.resolve(["C", "*"]).map(\.name) == ["C", "A", "B"])
        #expect(try store.resolve([]).isEmpty)
    }

    @Test func whatAnInstanceHasStandsForWhatWasDeleted() throws {
        let store = try openStore()
        try store.set("KEPT", to: secret("today"))
        let earlier = [("KEPT", "before"), ("GONE", "first"), ("GONE", "last")].map {
            InjectedSecret(name: $0.0, value: secret($0.1))
        }
        #expect(try store.resolve(["KEPT", "GONE"], earlier: earlier).map { text($0.value) } == ["today", "last"])
        #expect(try store.resolve(["*"], earlier: earlier).map { text($0.value) } == ["today", "last"])
        #expect(throws: AegisError.self) { try store.resolve(["OTHER"], earlier: earlier) }
    }

    @Test func sealedValuesOpenForTheirOwnerOnly() throws {
        let store = try openStore()
        let values = [("A", "one"), ("A", "two"), ("ÜMLAUT", "value of u"), ("E", "")].map {
            InjectedSecret(name: $0.0, value: secret($0.1))
        }
        let sealed = store.seal(values, for: "i-1")
        let again = try #require(try openStore().unseal(sealed, for: "i-1"))
        #expect(
            again.map(\.name) == values.map(\.name) && again.map { text($0.value) } == values.map { text($0.value) })
        #expect(store.unseal(store.seal([], for: "i-1"), for: "i-1")?.isEmpty == true)
        #expect(store.unseal(sealed, for: "i-2") == nil && store.unseal([], for: "i-1") == nil)
        for index in sealed.indices {
            var broken = sealed
            broken[index] ^= 1
            #expect(store.unseal(broken, for: "i-1") == nil)
        }
        #expect(!String(decoding: sealed, as: UTF8.self).contains("value of u"))
    }

    @Test func aMissingSecretIsAnErrorThatNamesTheNearest() throws {
        let store = try openStore()
        try store.set("API_TOKEN", to: secret("x"))
        let expected = AegisError.notFound(
            "secret-not-found", "there is no secret 'API_TOKN'", hint: "did you mean 'API_TOKEN'?")
        #expect(throws: expected) { try store.resolve(["API_TOKN"]) }
        #expect(throws: expected) { try store.delete("API_TOKN") }
        #expect(throws: expected) { try store.value(of: "API_TOKN") }
        #expect(throws: AegisError.self) { try store.resolve(["*", "OTHER_NAME"]) }
    }

    @Test(arguments: ["", "1A", "A-B", "A B", "ä", "A=B", "*", "A\0", String(repeating: "A", count: 129)])
    func namesThatAreNoVariablesAreRefused(_ name: String) throws {
        let error = #expect(throws: AegisError.self) { try openStore().set(name, to: secret("x")) }
        #expect(error?.kind == .usage && error?.hint?.contains("environment variable") == true)
    }

    @Test(arguments: ["A", "_", "a9_", String(repeating: "A", count: 128)])
    func namesThatAreVariablesAreTaken(_ name: String) throws {
        let store = try openStore()
        try store.set(name, to: secret("x"))
        #expect(try store.exists(name))
    }

    @Test func valuesAreBounded() throws {
        let store = try openStore()
        let large = #expect(throws: AegisError.self) {
            try store.set("A", to: Secret([UInt8](repeating: 1, count: 65537)))
        }
        #expect(large?.code == "secret-too-large" && large?.kind == .tooLarge)
        #expect(throws: AegisError.self) { try store.set("A", to: Secret([])) }
        let zero = #expect(throws: AegisError.self) { try store.set("A", to: Secret([65, 0])) }
        #expect(zero?.message.contains("NUL") == true)
        #expect(try store.exists("A") == false)

        for index in 0..<17 { try store.set("BIG_\(index)", to: Secret([UInt8](repeating: 1, count: 64 << 10))) }
        #expect(try store.resolve((0..<15).map { "BIG_\($0)" }).count == 15)
        let all = #expect(throws: AegisError.self) { try store.resolve(["*"]) }
        #expect(all?.code == "secret-too-large" && all?.message.contains("together") == true)
    }

    // MARK: At rest

    @Test func valuesAreNeverOnDiskInTheClear() throws {
        let canary = "canary-5f1d0c2b9a7e"
        let database = try openDatabase()
        let store = try SecretStore(database: database, keyFile: keyFile)
        try store.set("CANARY", to: secret(canary))
        try store.set("CANARY", to: secret(canary + "-second"))
        try store.set("GONE", to: secret(canary + "-third"))
        try store.delete("GONE")
        try database.backup(to: scratch.file("copy.db"))
        var names: [String] = []
        for (name, bytes) in try scratch.picture() {
            names.append(name)
            #expect(bytes.range(of: Data(canary.utf8)) == nil, "\(name) holds the value")
        }
        #expect(Set(names) == ["aegis.db", "aegis.db-wal", "aegis.db-shm", "secrets.key", "copy.db"])
        let name = try #require(try scratch.picture()["aegis.db-wal"]?.range(of: Data("CANARY".utf8)))
        #expect(!name.isEmpty, "the scan would find what is there: the name is")
    }

    @Test func equalValuesDoNotLookEqual() throws {
        let database = try openDatabase()
        let store = try SecretStore(database: database, keyFile: keyFile)
        for name in ["A", "B"] { try store.set(name, to: secret("the same")) }
        let rows = try database.read { tx in
            try tx.all("SELECT sealed FROM secrets") { row throws(SQLiteError) in try row.get(0, as: [UInt8].self) }
        }
        #expect(rows.count == 2 && rows[0].dropFirst() != rows[1].dropFirst())
        #expect(Set(rows[0].dropFirst().prefix(24)) != Set(rows[1].dropFirst().prefix(24)), "nonces must differ")
    }

    @Test func everyChangedByteOfARowIsNoticed() throws {
        let database = try openDatabase()
        let store = try SecretStore(database: database, keyFile: keyFile)
        try store.set("A", to: secret("abc"))
        let sealed = try sealedRow(database, "A")
        for index in sealed.indices {
            var changed = sealed
            changed[index] ^= 1
            try replace(database, "A", changed)
            let error = #expect(throws: AegisError.self) { try store.value(of: "A") }
            #expect(error?.code == "secret-damaged" && error?.message.contains("'A'") == true)
        }
        for short in [[], Array(sealed.prefix(20)), sealed.dropLast()] {
            try replace(database, "A", Array(short))
            #expect(throws: AegisError.self) { try store.value(of: "A") }
        }
        try replace(database, "A", sealed)
        #expect(try text(store.value(of: "A")) == "abc")
    }

    @Test func aRowMovedToAnotherNameDoesNotOpen() throws {
        let database = try openDatabase()
        let store = try SecretStore(database: database, keyFile: keyFile)
        try store.set("A", to: secret("for a"))
        try store.set("B", to: secret("for b"))
        try replace(database, "B", try sealedRow(database, "A"))
        let error = #expect(throws: AegisError.self) { try store.resolve(["A", "B"]) }
        #expect(error?.code == "secret-damaged" && error?.message.contains("'B'") == true)
    }

    private func sealedRow(_ database: Database, _ name: String) throws -> [UInt8] {
        let row = try database.read { tx in
            try tx.first("SELECT sealed FROM secrets WHERE name = ?", name) { row throws(SQLiteError) in
                try row.get(0, as: [UInt8].self)
            }
        }
        return try #require(row)
    }
    private func replace(_ database: Database, _ name: String, _ sealed: [UInt8]) throws {
        try database.transaction(.saved) { tx in
            _ = try tx.run("UPDATE secrets SET sealed = ? WHERE name = ?", sealed, name)
        }
    }

    // MARK: The key file

    private func mode(_ path: String) throws -> Int? {
        try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
    }

    @Test func theKeyIsMadeOnceAndOnlyForItsOwner() throws {
        _ = try openStore()
        #expect(try mode(keyFile) == 0o600)
        let key = try #require(FileManager.default.contents(atPath: keyFile))
        #expect(key.count == 32 && Set(key).count > 8)
        _ = try openStore()
        #expect(FileManager.default.contents(atPath: keyFile) == key)
        #expect(try scratch.picture().keys.contains { $0.hasPrefix(".") } == false, "a temporary file was left")
    }

    private func refusal() throws -> AegisError? {
        let before = FileManager.default.contents(atPath: keyFile)
        let error = #expect(throws: AegisError.self) { try openStore() }
        #expect(FileManager.default.contents(atPath: keyFile) == before, "the key file was touched")
        return error
    }

    @Test func aMissingKeyIsNeverReplacedWhileSecretsExist() throws {
        let store = try openStore()
        try store.set("A", to: secret("x"))
        let key = try #require(FileManager.default.contents(atPath: keyFile))
        try FileManager.default.removeItem(atPath: keyFile)
        #expect(
            try refusal()
                == .failed(
                    "secret-key-missing", "the key file \(keyFile) is missing, and 1 secrets need it",
                    hint: "restore the file from a backup; nothing was changed"))
        #expect(FileManager.default.createFile(atPath: keyFile, contents: key, attributes: [.posixPermissions: 0o600]))
        #expect(try text(openStore().value(of: "A")) == "x")
        try store.delete("A")
        try FileManager.default.removeItem(atPath: keyFile)
        let fresh = try openStore()
        try fresh.set("B", to: secret("y"))
        #expect(try text(openStore().value(of: "B")) == "y")
    }

    @Test func anotherKeyIsToldFromADamagedRow() throws {
        try openStore().set("A", to: secret("x"))
        let other = Data((0..<32).map { UInt8($0) })
        try FileManager.default.removeItem(atPath: keyFile)
        #expect(
            FileManager.default.createFile(atPath: keyFile, contents: other, attributes: [.posixPermissions: 0o600]))
        #expect(try refusal()?.code == "secret-key-wrong")
    }

    @Test(arguments: [
        (0, "it has 0 bytes"), (31, "it has 31 bytes"), (33, "it has more than 32 bytes"), (4096, "more than 32"),
    ])
    func aKeyOfTheWrongSizeIsRefused(_ size: Int, _ why: String) throws {
        #expect(
            FileManager.default.createFile(
                atPath: keyFile, contents: Data(count: size), attributes: [.posixPermissions: 0o600]))
        let error = try refusal()
        #expect(error?.code == "secret-key-invalid" && error?.message.contains(why) == true)
    }

    @Test(arguments: [0o640, 0o604, 0o660, 0o602, 0o700, 0o4600])
    func aKeyThatOthersMayTouchIsRefused(_ bits: Int) throws {
        _ = try openStore()
        let changed = unsafe chmod(keyFile, mode_t(bits))
        try #require(changed == 0)
        let error = try refusal()
        #expect(
            error?.message.contains("its mode is 0\(String(bits, radix: 8))") == true
                && error?.hint?.contains("chmod 600") == true)
    }

    @Test(.enabled(if: geteuid() == 0, "giving files away needs root"))
    func aKeyOfSomebodyElseIsRefused() throws {
        _ = try openStore()
        let given = unsafe chown(keyFile, 1234, 1234)
        try #require(given == 0)
        #expect(try refusal()?.message.contains("it belongs to uid 1234, not to uid 0") == true)
    }

    @Test func linksFoldersAndPipesAreRefused() throws {
        try FileManager.default.createSymbolicLink(atPath: keyFile, withDestinationPath: scratch.file("elsewhere"))
        #expect(try refusal()?.message.contains("symbolic link") == true)
        try FileManager.default.removeItem(atPath: keyFile)
        try FileManager.default.createDirectory(atPath: keyFile, withIntermediateDirectories: false)
        #expect(try refusal()?.message.contains("not a regular file") == true)
        try FileManager.default.removeItem(atPath: keyFile)
        let made = unsafe mkfifo(keyFile, 0o600)
        try #require(made == 0)
        #expect(throws: AegisError.self) { try openStore() }
    }

    @Test func theKeyIsLockedAndOutOfCoreDumps() throws {
        let store = try openStore()
        let smaps = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
        let maps = String(decoding: try smaps.readToEnd() ?? Data(), as: UTF8.self)
        let flags = maps.split(separator: "\n").filter { $0.hasPrefix("VmFlags:") }.map {
            Set($0.split(separator: " "))
        }
        // "lo": locked; "dd": not in core dumps; without "wr": read-only.
        let locked = flags.contains { $0.isSuperset(of: ["lo", "dd", "rd"]) && !$0.contains("wr") }
        #expect(locked, "none of \(flags.count) mappings is locked, read-only and excluded from dumps")
        #expect(try store.list().isEmpty)
    }
}

/// A clock that tells given times one after the other.
final class Clock: @unchecked Sendable {
    // Unchecked: one test uses it from one thread.
    private var times: [Int64]
    init(_ times: [Int64]) { self.times = times }
    func next() -> Timestamp { Timestamp(milliseconds: times.removeFirst()) }
}
