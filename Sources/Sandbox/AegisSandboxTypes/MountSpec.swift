package import AegisCore

/// A folder or file of the host that an instance sees, `SRC:DST[:rw]`; read-only unless `rw` is given.
package struct MountSpec: Sendable, Codable, Equatable {
    /// An absolute path on the host.
    package var source: String
    /// An absolute path inside.
    package var target: String
    package var readOnly: Bool

    package init(source: String, target: String, readOnly: Bool = true) {
        self.source = source
        self.target = target
        self.readOnly = readOnly
    }

    /// Reads the CLI's form; a relative source is left for the caller to make absolute.
    ///
    /// - Throws: `invalid-argument` with the right form.
    package init(parsing text: String) throws(AegisError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let form = "write SRC:DST for read-only or SRC:DST:rw, for example ./data:/data"
        guard parts.count == 2 || parts.count == 3, !parts[0].isEmpty else {
            throw .usage("'\(text)' is not a mount", hint: form)
        }
        guard parts[1].hasPrefix("/") else {
            throw .usage("mount target '\(parts[1])' is not an absolute path", hint: form)
        }
        source = parts[0]
        target = parts[1]
        switch parts.count == 3 ? parts[2] : "ro" {
        case "ro": readOnly = true
        case "rw": readOnly = false
        default: throw .usage("'\(parts[2])' is not a mount option", hint: "use rw or ro; \(form)")
        }
    }

    package enum CodingKeys: String, CodingKey, CaseIterable {
        case source, target
        case readOnly = "read_only"
    }

    package init(from decoder: any Decoder) throws {
        try decoder.refuseUnknownKeys(CodingKeys.self)
        let c = try decoder.container(keyedBy: CodingKeys.self)
        source = try c.decode(String.self, forKey: .source)
        target = try c.decode(String.self, forKey: .target)
        readOnly = try c.decodeIfPresent(Bool.self, forKey: .readOnly) ?? true
    }

    /// Refuses targets that would hide what the sandbox itself needs.
    ///
    /// - Throws: `invalid-argument` naming the target.
    package func validateTarget() throws(AegisError) {
        let components = target.split(separator: "/", omittingEmptySubsequences: true)
        guard !components.isEmpty, !components.contains(".."), !components.contains(".") else {
            throw .usage("mount target '\(target)' is not a plain absolute path", hint: "for example /data")
        }
        guard !["proc", "sys", "dev", ".aegis"].contains(components[0]) else {
            throw .usage(
                "mount target '\(target)' belongs to the sandbox",
                hint: "choose a path outside /proc, /sys, /dev and /.aegis")
        }
    }
}
