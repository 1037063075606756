package import AegisCore

/// What an image says about how it wants to be run.
package struct ImageConfig: Sendable, Equatable {
    package var entrypoint: [String] = []
    package var command: [String] = []
    /// `NAME=VALUE`, in the image's order.
    package var environment: [String] = []
    /// `USER` as written, empty for root.
    package var user = ""
    /// `WORKDIR`, empty when not set.
    package var workingDirectory = ""
    /// `PORT/PROTOCOL`, sorted.
    package var exposedPorts: [String] = []
    /// A signal name or number, nil for SIGTERM.
    package var stopSignal: String?
    package var volumes: [String] = []
    package var labels: [String: String] = [:]
    package var architecture: String
    package var operatingSystem: String
    package var variant: String?

    /// Makes the configuration of an image that says nothing but where it runs.
    package init(architecture: String, operatingSystem: String) {
        self.architecture = architecture
        self.operatingSystem = operatingSystem
    }

    /// The command to run, the way docker does it: ENTRYPOINT, then the user's words or else CMD.
    ///
    /// - Parameters:
    ///   - userCommand: what the user wrote after the options; empty when nothing.
    ///   - entrypoint: replaces the image's ENTRYPOINT; the image's CMD then no longer applies.
    /// - Returns: the program and its arguments.
    /// - Throws: `missing-command` when neither user nor image names one.
    package func commandLine(userCommand: [String], entrypoint: [String]? = nil) throws(AegisError) -> [String] {
        let tail = !userCommand.isEmpty ? userCommand : entrypoint == nil ? command : []
        let line = (entrypoint ?? self.entrypoint) + tail
        guard let program = line.first, !program.isEmpty else {
            throw AegisError(
                .usage, "missing-command", "the image names no command and none was given",
                hint: "add one: -- COMMAND [ARGUMENT...]")
        }
        return line
    }

    /// The image's variables under those of the layers above it: later ones win, places in the order are kept.
    package func environment(overriddenBy more: [String]...) -> [String] {
        var order: [String] = []
        var values: [Substring: String] = [:]
        for entry in [environment] + more {
            for variable in entry where variable.first != "=" {
                let name = variable.prefix { $0 != "=" }
                guard !name.isEmpty else { continue }
                if values[name] == nil { order.append(String(name)) }
                values[name] = name.endIndex == variable.endIndex ? variable + "=" : variable
            }
        }
        return order.compactMap { values[Substring($0)] }
    }

    /// What the image sets a variable to; nil when it does not.
    package func value(of name: String) -> String? {
        let entry = environment.last {
            $0.utf8.starts(with: name.utf8) && $0.utf8.dropFirst(name.utf8.count).first == 61
        }
        return entry.map { String($0.dropFirst(name.count + 1)) }
    }

    /// Who the command runs as: `user` of the caller if given, else the image's USER, else root.
    package func user(overriddenBy chosen: String? = nil) throws(AegisError) -> ImageUser {
        try ImageUser(parsing: chosen.flatMap { $0.isEmpty ? nil : $0 } ?? user)
    }
}

/// A user as images and `--user` write it: `name`, `uid`, `name:group`, `uid:gid` and mixtures. Looked up inside.
package struct ImageUser: Sendable, Equatable, CustomStringConvertible {
    /// A user's name or number.
    package let user: String
    /// A group's name or number, or nil for the user's own.
    package let group: String?

    /// Reads the text; an empty one is root.
    ///
    /// - Throws: `invalid-argument` for more than one colon, an empty part or characters that no name has.
    package init(parsing text: String) throws(AegisError) {
        guard !text.isEmpty else {
            (user, group) = ("0", nil)
            return
        }
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        let valid = parts.allSatisfy { part in
            !part.isEmpty && part.utf8.count <= 256 && !part.utf8.contains { $0 <= 32 || $0 == 127 || $0 == 47 }
                && (part.utf8.allSatisfy { (48...57).contains($0) } ? UInt32(part) != nil : true)
        }
        guard parts.count <= 2, valid else {
            throw .usage("'\(text)' is not a user", hint: "write a name or number, with an optional :GROUP")
        }
        user = String(parts[0])
        group = parts.count == 2 ? String(parts[1]) : nil
    }

    /// The number, when the user is written as one.
    package var uid: UInt32? { UInt32(user) }
    package var description: String { group.map { "\(user):\($0)" } ?? user }
}
