package import AegisCore
package import AegisSandboxTypes
internal import LinuxSys

/// Where memory that is pushed out goes on this host, and whether secrets may go there (decision D20).
package enum SwapSpace: Sendable, Equatable {
    /// There is none: only pages that a file backs can go.
    case none
    /// All of it is compressed memory, or encrypted.
    case safe
    /// These areas would hold the pages in the clear.
    case clear([String])

    /// What the host has now.
    package static func current() -> SwapSpace {
        let text = (try? Files.read("/proc/swaps", limit: 1 << 16)) ?? []
        return parse(String(decoding: text, as: UTF8.self)) { device in
            // A mapped device says in its uuid what made it.
            let name = (try? Files.readLink(device)).map { Files.split($0).name } ?? Files.split(device).name
            let uuid = (try? Files.read("/sys/block/\(name)/dm/uuid", limit: 256)) ?? []
            return String(decoding: uuid, as: UTF8.self).hasPrefix("CRYPT-")
        }
    }

    /// Reads `/proc/swaps`.
    ///
    /// - Parameters:
    ///   - text: the whole file.
    ///   - isEncrypted: whether a block device is.
    /// - Returns: what it says; a swap file counts as clear, whatever it lies on.
    package static func parse(_ text: String, isEncrypted: (String) -> Bool) -> SwapSpace {
        var bad: [String] = []
        var count = 0
        for line in text.split(separator: "\n").dropFirst() {
            let fields = line.split(whereSeparator: \.isWhitespace)
            guard fields.count >= 2 else { continue }
            count += 1
            let name = String(fields[0])
            let isZram = name.hasPrefix("/dev/zram") || name.hasPrefix("/zram")
            if !isZram, fields[1] != "partition" || !isEncrypted(name) { bad.append(name) }
        }
        return count == 0 ? .none : bad.isEmpty ? .safe : .clear(bad)
    }

    /// - Throws: `swap-not-encrypted` when pages would be written in the clear.
    package func checkSafe() throws(AegisError) {
        guard case .clear(let areas) = self else { return }
        throw .conflict(
            "swap-not-encrypted",
            "memory of an instance would be written in the clear to \(areas.joined(separator: ", "))",
            hint: "use zram or encrypted swap, or take that on with --reclaim=any")
    }

    /// What `aegis doctor` says about it.
    package var finding: DoctorCheck {
        switch self {
        case .none:
            DoctorCheck(
                "swap", "ok", "no swap: secrets in memory cannot reach a disk; paused instances keep their memory")
        case .safe:
            DoctorCheck(
                "swap", "ok", "all swap is zram or encrypted: --reclaim pushes the memory of paused instances there")
        case .clear(let areas):
            DoctorCheck(
                "swap", "warning",
                "memory of the daemon and of instances, secrets included, may reach \(areas.joined(separator: ", ")) in the clear",
                hint: "encrypt swap or use zram; --reclaim is refused until then, --reclaim=any is not")
        }
    }
}
