package import AegisClient
package import AegisCore
package import AegisIO
package import AegisJSON

/// What commands work with.
package struct Context: Sendable {
    package let loop: EventLoop
    package let console: Console
    package let caller: Caller
    package let location: DaemonLocation
    /// The time that ages are counted from.
    package let now: @Sendable () -> Timestamp

    /// Makes a context from its parts.
    package init(
        loop: EventLoop, console: Console, caller: Caller,
        now: @escaping @Sendable () -> Timestamp = { Timestamp.now() }
    ) {
        self.loop = loop
        self.console = console
        self.caller = caller
        self.now = now
        location = DaemonLocation(
            aegisHome: caller.variable("AEGIS_HOME"), userHome: caller.variable("HOME"), user: caller.user,
            workingDirectory: caller.workingDirectory)
    }

    /// A client of this caller's daemon, connected.
    ///
    /// - Throws: `daemon-not-running`.
    package func client() async throws(AegisError) -> APIClient { try await APIClient.connect(location, on: loop) }

    /// Says what the words for a new sandbox may not have been meant to say.
    package func noteDoubts(_ invocation: Invocation) async {
        guard !invocation.quiet, let note = invocation["workspace"].flatMap(caller.workspaceNote) else { return }
        await console.say("aegis: \(Plain.text(note))\n")
    }

    /// Prints an API object as it came, or as `text` says.
    package func show(_ json: JSONValue, _ invocation: Invocation, text: () throws -> String) async throws {
        switch invocation.output {
        case .text: try await console.print(text())
        case .json: try await console.print(json.pretty + "\n")
        case .yaml: try await console.print(json.yaml)
        }
    }

    /// Prints a list of objects as they came: the array itself in JSON and YAML.
    package func showValues(
        _ items: [JSONValue], _ invocation: Invocation, quiet: (JSONValue) -> String, text: ([JSONValue]) -> String
    ) async throws {
        try await show(.array(items), invocation) {
            invocation.quiet ? items.map { Plain.text(quiet($0)) + "\n" }.joined() : text(items)
        }
    }

    /// Prints a list: the array itself in JSON and YAML.
    package func showList<Item: Decodable>(
        _ items: [JSONValue], of type: Item.Type, _ invocation: Invocation, quiet: (Item) -> String,
        text: ([Item]) -> String
    ) async throws {
        try await show(.array(items), invocation) {
            let decoded = try items.map { item throws(AegisError) in try item.decoded(type) }
            return invocation.quiet ? decoded.map { quiet($0) + "\n" }.joined() : text(decoded)
        }
    }
}

extension JSONValue {
    /// Reads a value of a type from an answer of the daemon.
    ///
    /// - Throws: `unreadable-answer`: the daemon is of another release.
    package func decoded<T: Decodable>(_ type: T.Type) throws(AegisError) -> T {
        do { return try decode(type) } catch {
            throw AegisError(
                .failed, "unreadable-answer", "the daemon's answer is not what this release expects: \(error)",
                hint: "compare 'aegis version' with 'aegis status'; restart the daemon after an upgrade")
        }
    }
}
