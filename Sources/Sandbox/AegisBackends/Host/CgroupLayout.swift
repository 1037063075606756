/// Where this machine's control groups are, read from `/proc/self/mountinfo`.
package struct CgroupLayout: Sendable, Equatable {
    /// Which interface manages a resource.
    package enum Version: Sendable { case v1, v2 }

    /// The folder of each version 1 controller (`memory`, `cpu`, `pids`, ..., `name=systemd`).
    package var v1: [String: String]
    /// The folder of the unified hierarchy, if it is mounted.
    package var unified: String?
    /// Controllers that the unified hierarchy manages.
    package var unifiedControllers: Set<String>

    package init(v1: [String: String], unified: String?, unifiedControllers: Set<String>) {
        self.v1 = v1
        self.unified = unified
        self.unifiedControllers = unifiedControllers
    }

    /// Reads mount table and controller list.
    ///
    /// - Parameters:
    ///   - mountinfo: the text of `/proc/self/mountinfo`.
    ///   - controllers: reads `cgroup.controllers` of the unified hierarchy at a folder.
    package init(mountinfo: String, controllers: (String) -> String?) {
        self.init(v1: [:], unified: nil, unifiedControllers: [])
        for entry in MountTable(parsing: mountinfo).entries {
            switch entry.type {
            case "cgroup":
                for option in entry.superOptions where option != "rw" && option != "ro" && v1[option] == nil {
                    v1[option] = entry.target
                }
            case "cgroup2" where unified == nil: unified = entry.target
            default: break
            }
        }
        if let unified { unifiedControllers = Set((controllers(unified) ?? "").split(separator: " ").map(String.init)) }
    }

    /// Who manages a controller; nil if nobody does.
    package func version(of controller: String) -> Version? {
        if unifiedControllers.contains(controller) { return .v2 }
        return v1[controller] == nil ? nil : .v1
    }

    /// How people call it: `v2`, `v1`, or `v1 (hybrid)` when both are mounted.
    package var description: String {
        if version(of: "memory") == .v2 { return "v2" }
        return unified == nil ? "v1" : "v1 (hybrid)"
    }

    /// All different hierarchies.
    package var roots: [String] { Array(Set(v1.values)).sorted() + (unified.map { [$0] } ?? []) }
}
