import Foundation
import LinuxSys

/// The built programs where everybody may run them.
///
/// Tests run them as users who may not even enter the home of root, where the tree may lie.
enum ReachablePrograms {
    private static let names = ["aegis", "aegisd", "aegis-harness", "aegis-shim"]

    /// Where the programs of a folder can be run by anybody.
    ///
    /// - Parameter folder: where they were built.
    /// - Returns: the folder itself, or one with copies of them.
    static func place(of folder: String) -> String {
        guard !isOpen(folder) else { return folder }
        let cache = ProcessInfo.processInfo.environment["AEGIS_TEST_CACHE"] ?? "/var/tmp/aegis-test-cache"
        let hash = folder.utf8.reduce(into: UInt64(14_695_981_039_346_656_037)) {
            $0 = ($0 ^ UInt64($1)) &* 1_099_511_628_211
        }
        // Beside the cache, which is a home of Aegis and so nobody else's to enter.
        let place = "\(cache)-programs-\(String(hash, radix: 16))"
        do {
            try FileManager.default.createDirectory(
                atPath: place, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
            for name in names { try copy("\(folder)/\(name)", to: "\(place)/\(name)") }
            guard isOpen(place) else { throw CocoaError(.fileReadNoPermission) }
        } catch {
            print("the programs in \(folder) cannot be run by other users, nor be copied to \(place): \(error)")
            return folder
        }
        return place
    }

    /// Whether everybody may enter a folder and all above it.
    private static func isOpen(_ folder: String) -> Bool {
        var path = URL(fileURLWithPath: folder).resolvingSymlinksInPath().path
        while path != "/" {
            let mode = (try? FileManager.default.attributesOfItem(atPath: path)[.posixPermissions]) as? Int
            guard let mode, mode & 0o001 != 0 else { return false }
            path = (path as NSString).deletingLastPathComponent
        }
        return true
    }

    /// Replaces a program in one step: an earlier one may still run.
    private static func copy(_ source: String, to target: String) throws {
        let part = "\(target).\(ProcessInfo.processInfo.processIdentifier)"
        try? FileManager.default.removeItem(atPath: part)
        try FileManager.default.copyItem(atPath: source, toPath: part)
        guard unsafe rename(part, target) == 0 else { throw CocoaError(.fileWriteUnknown) }
    }
}
