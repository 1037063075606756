package import AegisSandboxTypes

/// What makes one OCI runtime different from another, for the one driver that serves them all.
package struct OCIRuntime: Sendable, Equatable {
    /// How a runtime is built, which decides how it must be started.
    package enum Kind: Sendable, Equatable {
        /// Uses the host's kernel; joins the keeper's namespaces by path and manages cgroups (runc, crun).
        case namespaces
        /// A kernel in user space that is started inside the keeper's namespaces (runsc, decision D3).
        case userKernel
    }

    /// The backend's name, as `--isolation` takes it.
    package var name: String
    package var kind: Kind
    /// Absolute path of the program, or a name that is looked up in `searchPath`.
    package var program: String
    /// The Debian package that brings it.
    package var package: String

    package init(name: String, kind: Kind, program: String, package: String) {
        self.name = name
        self.kind = kind
        self.program = program
        self.package = package
    }

    package static let runc = OCIRuntime(name: "runc", kind: .namespaces, program: "runc", package: "runc")
    package static let crun = OCIRuntime(name: "crun", kind: .namespaces, program: "crun", package: "crun")
    package static let runsc = OCIRuntime(name: "runsc", kind: .userKernel, program: "runsc", package: "runsc")

    /// Where programs are looked for: the daemon's own PATH may be anything.
    static let searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    /// The grade that a proven sandbox of this kind has.
    package var grade: Grade {
        switch kind {
        case .namespaces: .namespaces
        case .userKernel: .userKernel
        }
    }
}

/// What was found out about an installed runtime by asking it, not by running a sandbox.
package struct RuntimeFacts: Sendable, Equatable {
    /// Absolute path.
    package var path: String
    /// What `--version` says, without the program's name.
    package var version: String
    /// When this version was made (milliseconds since 1970): from the version where it carries a date, else the file's.
    package var builtAt: Int64
    /// Platforms that runsc was built with, best first; empty for others.
    package var platforms: [String]
    /// Flags of runsc that exist in some versions only.
    package var hasOverlayFlag: Bool
    package var hasSeccompFlag: Bool

    package init(
        path: String, version: String, builtAt: Int64, platforms: [String] = [], hasOverlayFlag: Bool = false,
        hasSeccompFlag: Bool = false
    ) {
        self.path = path
        self.version = version
        self.builtAt = builtAt
        self.platforms = platforms
        self.hasOverlayFlag = hasOverlayFlag
        self.hasSeccompFlag = hasSeccompFlag
    }
}

extension OCIRuntime {
    /// The limits of the control group for those of a sandbox.
    ///
    /// gVisor's own threads count too (measured: 43 when idle, then up to 5.5 for each process inside), and it ends when it
    /// gets no more: there the group has room for that many processes, and gVisor itself refuses more of them inside
    /// (`OCIConfig.processes`).
    func hostLimits(_ limits: ResolvedLimits) -> ResolvedLimits {
        guard kind == .userKernel else { return limits }
        var host = limits
        host.pids = limits.pids * 6 + 128
        return host
    }

    /// Processes and threads that the control group allows while the runtime starts, if it needs more than the limit: runc's
    /// own first process in there is a Go program with up to a dozen threads. Nothing of the workload runs by then.
    func startingPids(_ limit: Int) -> Int { max(limit, 64) }

    /// The runtime's command line for one sandbox.
    ///
    /// - Parameters:
    ///   - facts: what is installed.
    ///   - platform: how runsc catches system calls; nil for other runtimes.
    ///   - layout: the sandbox's run directory.
    ///   - id: the container's name.
    /// - Returns: argv, the program's path first.
    func arguments(facts: RuntimeFacts, platform: String?, layout: RunLayout, id: String) -> [String] {
        switch kind {
        case .namespaces:
            [
                facts.path, "--root", layout.state, "run", "--detach", "--bundle", layout.bundle, "--pid-file",
                layout.pidFile, id,
            ]
        case .userKernel:
            [facts.path, "--root", layout.state, "--network=host", "--ignore-cgroups"]
                + (platform.map { ["--platform=\($0)"] } ?? [])
                // The root file system is ours alone; what is mounted may change on the host at any time.
                + ["--file-access=exclusive"]
                // Newer versions keep what is written to the root in a file of their own, lost at the next start.
                + (facts.hasOverlayFlag ? ["--overlay2=none"] : [])
                + (facts.hasSeccompFlag ? ["--oci-seccomp"] : [])
                + ["run", "-detach", "-bundle", layout.bundle, "-pid-file", layout.pidFile, id]
        }
    }

    /// Reads the version out of what `--version` printed: `runc version 1.1.5+ds1`, `runsc version 0.0~20221219.0`.
    static func version(from output: String) -> String? {
        guard let line = output.split(separator: "\n").first else { return nil }
        let words = line.split(separator: " ")
        guard let at = words.firstIndex(of: "version"), at + 1 < words.count else { return nil }
        return String(words[at + 1])
    }

    /// The date that versions of runsc carry (`0.0~20221219.0`, `release-20240115.0`), as milliseconds since 1970.
    static func date(inVersion version: String) -> Int64? {
        let runs = version.split { !$0.isASCII || !$0.isNumber }
        guard let run = runs.first(where: { $0.count == 8 && $0.hasPrefix("20") }), let number = Int(run) else {
            return nil
        }
        let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100)
        guard (1...12).contains(month), (1...31).contains(day) else { return nil }
        // Days since 1970 of the proleptic Gregorian calendar, years counted from March.
        let shifted = month <= 2 ? year - 1 : year
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        let days = shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
        return Int64(days) * 86_400_000
    }

    /// The platforms that `runsc flags` names, best first. `kvm` is left out: /dev/kvm belongs to a user that the
    /// sandbox's user namespace does not map, so nothing inside can open it.
    static func platforms(fromHelp help: String) -> [String] {
        let lines = help.split(separator: "\n", omittingEmptySubsequences: false)
        guard let at = lines.firstIndex(where: { $0.contains("-platform ") }), at + 1 < lines.count else { return [] }
        return ["systrap", "ptrace"].filter { lines[at + 1].contains($0) }
    }
}
