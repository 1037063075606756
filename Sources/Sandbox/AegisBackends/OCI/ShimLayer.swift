import AegisCore
import LinuxSys
import Synchronization

/// A layer with a library for kernels that refuse AT_NO_AUTOMOUNT, and with the list by which glibc's loader takes it.
///
/// It lies below the layers of the image: what the image, or the sandbox, has in the same places counts more, no file is
/// added to the writable layer, and nothing is mounted over. Loaders of other C libraries do not read the list.
package final class ShimLayer: Sendable {
    /// The library as it is installed, `aegis-shim`.
    let program: String
    private let folder: String
    private let known = Mutex<(key: String, layer: String)?>(nil)

    /// Where it lies inside.
    static let library = ".aegis/shim.so"
    /// The list, and what it says. The harness leaves this file out of copies (`CopyOut`). Without a line's end behind the name the
    /// loader only reads its map of the file; else it writes into it, which in gVisor is one more fault at each start of a program.
    static let list = "etc/ld.so.preload"
    static let listText = "/\(library)"

    /// Describes a layer; nothing is touched.
    ///
    /// - Parameters:
    ///   - program: the installed library.
    ///   - folder: keeps the layers, one for each version of the library.
    package init(program: String, folder: String) {
        self.program = program
        self.folder = folder
    }

    /// The layer's folder, made when it is not there.
    ///
    /// - Returns: nil when the library is not installed.
    /// - Throws: `boot-failed` when the layer cannot be written.
    func layer() throws(AegisError) -> String? {
        guard let status = try? Files.status(program), status.type == .regular else { return nil }
        let key = "\(status.modified)-\(status.size)"
        // Held while files are written, once: who boots at the same time needs the same layer.
        return try known.withLock { known throws(AegisError) in
            if let known, known.key == key { return known.layer }
            let layer = "\(folder)/\(key)"
            do throws(Errno) {
                let bytes = try Files.read(program, limit: 1 << 20)
                if !Self.isWhole(layer, bytes) { try Self.make(layer, bytes) }
            } catch {
                throw .failed("boot-failed", "cannot make \(layer): \(error)")
            }
            known = (key, layer)
            return layer
        }
    }

    private static func isWhole(_ layer: String, _ bytes: [UInt8]) -> Bool {
        (try? Files.read("\(layer)/\(library)", limit: bytes.count + 1)) == bytes
            && (try? Files.read("\(layer)/\(list)", limit: 4096)) == Array(listText.utf8)
    }

    /// Makes the layer elsewhere and puts it in its place: nobody sees half of one, and one in use is not written to.
    private static func make(_ layer: String, _ bytes: [UInt8]) throws(Errno) {
        let (folder, name) = Files.split(layer)
        let fresh = "\(folder)/.\(name)-\(try Random.hex(bytes: 4))"
        do throws(Errno) {
            try Files.makeDirectories(fresh, mode: 0o755)
            for (path, content) in [(library, bytes), (list, Array(listText.utf8))] {
                try Files.makeDirectories(Files.split("\(fresh)/\(path)").directory, mode: 0o755)
                try Files.writeAtomically("\(fresh)/\(path)", content, mode: 0o644, synced: true)
            }
            for path in [fresh] + [library, list].map({ Files.split("\(fresh)/\($0)").directory }) {
                try Files.setPermissions(path, 0o755)
            }
            // One that is damaged goes.
            try Files.rename(fresh, to: layer, Files.exists(layer) ? .exchange : .noReplace)
        } catch {
            try? Files.removeTree(fresh)
            throw error
        }
        try? Files.removeTree(fresh)
    }
}
