internal import AegisCore
internal import AegisIO
package import AegisSandboxTypes
internal import Synchronization

/// What an operator should know of the servers: what each can reach, and whether it answers.
extension MCPPlane {
    /// How long a server may take to start and to say what its tools are before it is said that it does not answer.
    private static var patience: Duration { .seconds(10) }

    /// Asks every server for its tools, all at once, and tells what comes of it. Those that are stopped are started for that, and stop
    /// again when nobody uses them.
    ///
    /// - Returns: a finding for each: a warning for what is wider than a sandbox, and for who does not answer.
    package func findings() async -> [DoctorCheck] {
        let sections = links.withLock { $0.map(\.link.section) }
        return await withTaskGroup(of: (Int, DoctorCheck).self) { group in
            for (place, section) in sections.enumerated() {
                group.addTask { (place, await self.finding(section)) }
            }
            var found = [DoctorCheck?](repeating: nil, count: sections.count)
            for await (place, check) in group { found[place] = check }
            return found.compactMap(\.self)
        }
    }

    private func finding(_ section: MCPServerSection) async -> DoctorCheck {
        let (reach, silence) = (MCPReach(section), await problem(of: section.name))
        // What could not be read is quoted.
        let said = section.url.flatMap { silence?.message.replacing($0, with: MCPReach.shown($0)) } ?? silence?.message
        return DoctorCheck(
            "mcp \(section.name)", silence == nil && reach.hint == nil ? "ok" : "warning",
            "\(reach.text); \(said ?? "it answers")",
            hint: silence.map { $0.hint ?? "see 'aegis mcp list --output yaml'" } ?? reach.hint)
    }

    /// Why a server does not say what its tools are; nil when it does.
    private func problem(of name: String) async -> AegisError? {
        do {
            try await withDeadline(Self.patience, clock: clock) { try await self.refresh(name) }
            return nil
        } catch let error as AegisError {
            return error
        } catch let error as IOError where error.kind == .timeout {
            return MCPFault.unavailable(name, "it has not answered within \(Self.patience)")
        } catch {
            let isBrokenOff = error is CancellationError || (error as? IOError)?.kind == .cancelled
            return MCPFault.unavailable(name, isBrokenOff ? "nobody waited for its answer" : "\(error)")
        }
    }
}

/// What a server can reach by what its entry says.
struct MCPReach: Sendable, Hashable {
    /// In a clause.
    let text: String
    /// What to do about it; nil where it is no wider than a sandbox.
    let hint: String?

    init(_ section: MCPServerSection) {
        if let url = section.url {
            let isClear = url.hasPrefix("http://") && !Self.isHere(url)
            let keys = section.headers.isEmpty ? "" : ", with \(section.headers.map(\.name).joined(separator: ", "))"
            text =
                "at \(Self.shown(url))\(keys): what agents tell its tools goes there"
                + (isClear ? ", for everybody on the way to read" : "")
            hint = isClear ? "use an https address" : nil
            return
        }
        let sandbox = section.sandbox
        let places = sandbox.mounts.isEmpty ? "none of the host's folders" : sandbox.mounts.joined(separator: ", ")
        let secrets = sandbox.secrets.isEmpty ? "" : "; secrets \(sandbox.secrets.joined(separator: ", "))"
        guard sandbox.isHost else {
            text = "in an instance with \(places) and \(Self.network(sandbox))\(secrets)"
            hint = nil
            return
        }
        let network =
            sandbox.networkMode == "host"
            ? "the host's network: all that this machine reaches, what listens on 127.0.0.1 among it"
            : "no network but a loopback of its own"
        text =
            "at the host as '\(sandbox.user ?? "")' and not in a sandbox, with its programs, \(places), and \(network)\(secrets)"
        hint = "leave 'host: true' out, and it runs in an instance"
    }

    private static func network(_ sandbox: MCPSandbox) -> String {
        let hosts =
            sandbox.networkMode == "allow"
            ? "a network that reaches \(sandbox.networkAllow.isEmpty ? "no host" : sandbox.networkAllow.joined(separator: ", "))"
            : "no network"
        return hosts + (sandbox.networkGroup.map { ", but the members of the group '\($0)'" } ?? "")
    }

    /// An address without what may be a key in it: reports are passed on to others.
    static func shown(_ url: String) -> String {
        guard let scheme = url.firstRange(of: "://") else { return "•••" }
        let rest = url[scheme.upperBound...]
        let host = rest.prefix { !"/?#".contains($0) }
        let place = host.lastIndex(of: "@").map { "•••\(host[$0...])" } ?? String(host)
        let tail = rest[host.endIndex...]
        let cut = tail.firstIndex { "?#".contains($0) }.map { tail[..<$0] + "\(tail[$0])•••" } ?? tail
        return "\(url[..<scheme.upperBound])\(place)\(cut)"
    }

    /// Whether an address without encryption leads to this machine.
    private static func isHere(_ url: String) -> Bool {
        let place = url.dropFirst("http://".count).prefix { !"/?#".contains($0) }
        if place == "[::1]" || place.hasPrefix("[::1]:") { return true }
        let host = place.prefix { $0 != ":" }
        return host == "localhost" || (host.hasPrefix("127.") && host.allSatisfy { $0 == "." || $0.isNumber })
    }
}
