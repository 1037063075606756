internal import AegisCore
internal import AegisIO
internal import AegisImages
internal import AegisSandboxTypes
internal import FoundationEssentials
internal import LinuxSys
internal import Synchronization

/// The kits of a node: `AEGIS_HOME/kits/NAME/VERSION/`, with the kit's own files in `files/` and what is known of them in
/// `kit.json`. A version is there whole or not at all, and never changes.
final class KitStore: Sendable {
    /// A version that is installed.
    struct Installed: Sendable {
        var record: KitRecord
        /// Nil: it is broken, for this reason.
        var manifest: Result<KitManifest, AegisError>
        /// Of its files, beneath `AEGIS_HOME`.
        var root: String
        var name: String { record.name }
        var version: KitVersion
        var reference: String { "\(name)@\(version)" }
    }

    /// What is known of a version.
    struct KitRecord: Codable, Sendable {
        var format = 1
        var name: String
        var version: String
        var digest: String
        var size: UInt64
        var installedAt: Timestamp
    }

    let home: String
    private var place: String { "\(home)/kits" }
    /// Installing and removing take turns; both are short here.
    private let turn = Mutex(())
    private static let recordName = "kit.json"
    private static let filesName = "files"
    private static let newPrefix = ".new-"
    private static let oldPrefix = ".old-"

    /// Opens the store and removes what a crash left half made. Blocks on the disk.
    init(home: String) throws(AegisError) {
        self.home = home
        do throws(Errno) {
            try Files.makeDirectories(place, mode: 0o700)
            for entry in try Files.list(place) where entry.name.hasPrefix(".") {
                try Files.removeTree("\(place)/\(entry.name)")
            }
        } catch { throw Self.unusable(error) }
    }

    private static func unusable(_ error: Errno) -> AegisError {
        error == .noSpace
            ? .failed("disk-full", "no space left for the kit")
            : .failed("kits-unusable", "the kits in AEGIS_HOME cannot be used: \(error)")
    }

    // MARK: Looking

    /// Every version of every kit, by name, the highest version first. Blocks on the disk.
    func all() throws(AegisError) -> [Installed] {
        var all: [Installed] = []
        do throws(Errno) {
            for name in try Files.list(place) where name.type == .directory && !name.name.hasPrefix(".") {
                for entry in try Files.list("\(place)/\(name.name)") {
                    guard let version = KitVersion(entry.name) else { continue }
                    all.append(read(name.name, version))
                }
            }
        } catch { throw Self.unusable(error) }
        return all.sorted { ($0.name, $1.version) < ($1.name, $0.version) }
    }

    /// The version that a reference means.
    ///
    /// - Throws: `kit-not-found` naming the nearest kit or the versions that there are.
    func find(_ reference: KitReference) throws(AegisError) -> Installed {
        let all = try all()
        let versions = all.filter { $0.name == reference.name }
        guard let highest = versions.first else {
            throw .notFound(
                "kit-not-found", "no kit '\(reference.name)' is installed",
                hint: nearest(reference.name, in: Set(all.map(\.name)).sorted()).map { "did you mean '\($0)'?" }
                    ?? "see 'aegis kit list'; install one with 'aegis kit install PATH'")
        }
        guard let wanted = reference.version else { return highest }
        guard let found = versions.first(where: { $0.version == wanted }) else {
            throw .notFound(
                "kit-not-found", "kit '\(reference.name)' is not installed in version \(wanted)",
                hint: "installed: \(versions.map(\.version.description).joined(separator: ", "))")
        }
        return found
    }

    private func read(_ name: String, _ version: KitVersion) -> Installed {
        let folder = "\(place)/\(name)/\(version)"
        let files = "\(folder)/\(Self.filesName)"
        let bytes = try? Files.read("\(folder)/\(Self.recordName)", limit: 64 << 10)
        let known = bytes.flatMap { try? JSONDecoder().decode(KitRecord.self, from: Data($0)) }
        let record =
            known
            ?? KitRecord(
                name: name, version: version.description, digest: "", size: 0, installedAt: Timestamp(milliseconds: 0))
        return Installed(
            record: record,
            manifest: known == nil
                ? .failure(.failed("kit-broken", "what is known of kit \(name)@\(version) cannot be read"))
                : Self.manifest(files),
            root: "kits/\(name)/\(version)/\(Self.filesName)", version: version)
    }

    private static func manifest(_ files: String) -> Result<KitManifest, AegisError> {
        do throws(AegisError) { return .success(try KitTree(files).manifest()) } catch { return .failure(error) }
    }

    /// Checks that the files are those that were installed. Blocks on the disk.
    ///
    /// - Throws: `kit-broken`.
    func verify(_ kit: Installed) throws(AegisError) {
        _ = try kit.manifest.get()
        guard try KitTree("\(home)/\(kit.root)").survey().digest == kit.record.digest else {
            throw .failed(
                "kit-broken", "the files of kit \(kit.reference) are not those that were installed",
                hint: "uninstall it and install it again")
        }
    }

    // MARK: Changing

    /// A new folder to fill, and what removes it unless it was put in its place.
    func staging() throws(AegisError) -> String {
        do throws(Errno) {
            let path = "\(place)/\(Self.newPrefix)\(try Random.hex(bytes: 8))"
            try Files.makeDirectories("\(path)/\(Self.filesName)", mode: 0o755)
            return path
        } catch { throw Self.unusable(error) }
    }

    /// The folder of a staging that is to be filled.
    func files(in staging: String) -> String { "\(staging)/\(Self.filesName)" }

    /// Gives up a staging.
    func discard(_ staging: String) { try? Files.removeTree(staging) }

    /// Puts a filled staging in its place; synced when this returns. Blocks on the disk.
    ///
    /// - Returns: the version, and whether it is new: the same files of the same version are there once.
    /// - Throws: `kit-exists` for other files of an installed version; what is wrong with the manifest.
    func place(_ staging: String) throws(AegisError) -> (kit: Installed, isNew: Bool) {
        let tree = KitTree(files(in: staging))
        try tree.unwrap()
        let manifest = try tree.manifest()
        let survey = try tree.survey()
        return try turn.withLock { _ throws(AegisError) in
            let target = "\(place)/\(manifest.name)/\(manifest.version)"
            if Files.exists(target) {
                let old = read(manifest.name, manifest.version)
                guard old.record.digest == survey.digest else {
                    throw .conflict(
                        "kit-exists", "kit \(old.reference) is installed with other files",
                        hint: "a version never changes: raise metadata.version, or uninstall that one first")
                }
                discard(staging)
                return (old, false)
            }
            let record = KitRecord(
                name: manifest.name, version: manifest.version.description, digest: survey.digest, size: survey.bytes,
                installedAt: .now())
            do {
                let bytes = Array(try JSONEncoder().encode(record))
                try Files.writeAtomically("\(staging)/\(Self.recordName)", bytes, mode: 0o644, synced: true)
                try Files.setPermissions(staging, 0o755)
                try Files.makeDirectories("\(place)/\(manifest.name)", mode: 0o755)
                try Files.rename(staging, to: target)
                try FileDescriptor.open("\(place)/\(manifest.name)", [.readOnly, .directory]).sync()
            } catch {
                throw (error as? Errno).map(Self.unusable)
                    ?? .failed("kits-unusable", "the kit cannot be kept: \(error)")
            }
            return (read(manifest.name, manifest.version), true)
        }
    }

    /// Removes a version. Blocks on the disk.
    func remove(_ kit: Installed) throws(AegisError) {
        do throws(Errno) {
            let aside = "\(place)/\(Self.oldPrefix)\(try Random.hex(bytes: 8))"
            let folder = "\(place)/\(kit.name)"
            try turn.withLock { _ throws(Errno) in
                try Files.rename("\(folder)/\(kit.version)", to: aside)
                if try Files.list(folder).isEmpty { try Files.removeTree(folder) }
            }
            try Files.removeTree(aside)
        } catch { throw Self.unusable(error) }
    }
}
