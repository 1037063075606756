package import AegisCore
internal import AegisImages
package import AegisSandboxTypes

/// How many sandboxes of an image shall be kept ready, as `instances.warm` and `aegis up --warm` say it.
package struct WarmWish: Sendable, Equatable {
    /// The image as the user wrote it.
    package var image: String
    /// The backend; nil is the node's own choice.
    package var isolation: String?
    /// What differs from the node's limits: `cpus`, `memory`, `disk` and `pids` only.
    package var limits = Limits()
    /// At least 0.
    package var count: Int
    /// The most that one image may have: what is kept ready is there to be taken, not to be stored.
    package static let most = 64

    /// Reads `IMAGE[@ISOLATION][+LIMIT=VALUE]...`.
    ///
    /// - Parameters:
    ///   - key: the image, with a backend behind an `@` if it is to be a certain one; a digest (`@sha256:…`) is the image's.
    ///     Limits follow, each behind a `+`, which no name of an image has.
    ///   - count: how many.
    ///   - isolations: the backends that there are.
    /// - Throws: `invalid-argument` for what is no image, an unknown backend, limit or value, or a number out of range.
    package init(_ key: String, count: Int, isolations: [String]) throws(AegisError) {
        guard (0...Self.most).contains(count) else {
            throw .usage("\(count) warm sandboxes of '\(key)' are out of range", hint: "give 0 to \(Self.most)")
        }
        self.count = count
        let rest = try Self.takeLimits(key, into: &limits)
        let at = rest.lastIndex(of: "@")
        if let at, !rest[at...].contains(":") {
            let name = String(rest[rest.index(after: at)...])
            guard isolations.contains(name) else {
                throw .usage(
                    "'\(name)' of '\(key)' is not an isolation",
                    hint: nearest(name, in: isolations).map { "did you mean '\($0)'?" }
                        ?? "use one of \(isolations.joined(separator: ", "))")
            }
            image = String(rest[..<at])
            isolation = name == "auto" ? nil : name
        } else {
            image = rest
        }
        guard !image.isEmpty else { throw .usage("a warm sandbox needs an image", hint: "write \(Self.form)") }
        do throws(AegisError) { _ = try ImageReference(parsing: image) } catch {
            // Limits that are written in another way are taken for a part of the name.
            throw image.contains { "+=,".contains($0) } ? .usage(error.message, hint: "write \(Self.form)") : error
        }
    }

    private static let form =
        "IMAGE, IMAGE@ISOLATION or IMAGE@ISOLATION+LIMIT=VALUE, as in base@runc+memory=512Mi+cpus=1"

    // MARK: Limits

    /// Those that one sandbox can have ahead: the others are of a command.
    private static let names = ["cpus", "memory", "disk", "pids"]

    /// Reads the limits at the end of a key.
    ///
    /// - Returns: what is before them.
    private static func takeLimits(_ key: String, into limits: inout Limits) throws(AegisError) -> String {
        var rest = Substring(key)
        var seen: Set<String> = []
        while let plus = rest.lastIndex(of: "+") {
            let words = rest[rest.index(after: plus)...].split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            // The path of a local image may have such a character of its own.
            guard words.count == 2 else { break }
            let (name, value) = (String(words[0]), String(words[1]))
            guard names.contains(name) else {
                throw .usage(
                    "'\(name)' of '\(key)' is not a limit of a warm sandbox",
                    hint: (nearest(name, in: names) ?? names.first { !name.isEmpty && $0.hasPrefix(name) })
                        .map { "did you mean '\($0)'?" } ?? "use \(names.joined(separator: ", "))")
            }
            guard seen.insert(name).inserted else {
                throw .usage("'\(key)' has two limits '\(name)'", hint: "give each once")
            }
            try set(name, value, of: key, in: &limits)
            rest = rest[..<plus]
        }
        do throws(AegisError) { try limits.validate() } catch {
            throw .usage("'\(key)': \(error.message)", hint: error.hint)
        }
        return String(rest)
    }

    private static func set(
        _ name: String, _ value: String, of key: String, in limits: inout Limits
    ) throws(AegisError) {
        switch name {
        case "cpus":
            // Double reads hexadecimal, inf and nan as well.
            guard value.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2e }), let cpus = Double(value) else {
                throw .usage(
                    "'\(value)' of '\(key)' is not a number of processors", hint: "write +cpus=2 or +cpus=0.5")
            }
            limits.cpus = cpus
        case "pids":
            guard let pids = Int(value) else {
                throw .usage("'\(value)' of '\(key)' is not a number of processes", hint: "write +pids=256")
            }
            limits.pids = pids
        default:
            guard let size = try? ByteSize(parsing: value) else {
                throw .usage(
                    "'\(value)' of '\(key)' is not a size",
                    hint: "write a whole number with a unit, as in +\(name)=512Mi; limits come last, each behind a +")
            }
            if name == "memory" { limits.memory = size } else { limits.disk = size }
        }
    }
}
