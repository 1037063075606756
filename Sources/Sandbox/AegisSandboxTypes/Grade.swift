package import AegisCore

/// How strong the isolation of an instance is, weakest first.
package enum Grade: String, Sendable, Codable, CaseIterable, Comparable {
    /// Kernel namespaces of the host's kernel.
    case namespaces
    /// A virtual machine without hardware support.
    case emulatedVM = "emulated-vm"
    /// A kernel in user space between the workload and the host's kernel.
    case userKernel = "user-kernel"
    /// A virtual machine with hardware support.
    case hardwareVM = "hardware-vm"

    private var rank: Int { Grade.allCases.firstIndex(of: self) ?? 0 }
    package static func < (a: Grade, b: Grade) -> Bool { a.rank < b.rank }

    /// Reads a grade as users write it.
    ///
    /// - Throws: `invalid-argument` that names the nearest grade.
    package init(parsing text: String) throws(AegisError) {
        let known = Grade.allCases.map(\.rawValue)
        guard let grade = Grade(rawValue: text) else {
            throw .usage(
                "'\(text)' is not an isolation grade",
                hint: nearest(text, in: known).map { "did you mean '\($0)'?" }
                    ?? "grades, strongest first: \(known.reversed().joined(separator: ", "))")
        }
        self = grade
    }
}

/// What a grade stands on (decision D37).
package struct GradeDetail: Sendable, Codable, Equatable {
    package var runtime: String
    package var version: String
    package var platform: String?
    package var networkStack: String
    package var kernel: String
    package var userNamespace: Bool
    package var cgroup: String
    package var seccomp: String
    package var warnings: [String]
    /// Why each stronger backend was not chosen.
    package var notChosen: [String: String]

    package init(
        runtime: String, version: String, platform: String? = nil, networkStack: String, kernel: String,
        userNamespace: Bool,
        cgroup: String, seccomp: String, warnings: [String] = [], notChosen: [String: String] = [:]
    ) {
        self.runtime = runtime
        self.version = version
        self.platform = platform
        self.networkStack = networkStack
        self.kernel = kernel
        self.userNamespace = userNamespace
        self.cgroup = cgroup
        self.seccomp = seccomp
        self.warnings = warnings
        self.notChosen = notChosen
    }

    private enum CodingKeys: String, CodingKey {
        case runtime, version, platform, kernel, cgroup, seccomp, warnings
        case networkStack = "network_stack"
        case userNamespace = "user_namespace"
        case notChosen = "not_chosen"
    }
}
