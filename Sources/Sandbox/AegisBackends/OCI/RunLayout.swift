/// The names inside a sandbox's run directory.
struct RunLayout: Sendable, Equatable {
    /// `/run/aegis/<node>/<id>`; the bundle too.
    let directory: String

    /// The bundle folder that the runtime is given.
    var bundle: String { directory }
    var keeperSocket: String { directory + "/keep.sock" }
    var keeperLog: String { directory + "/keep.log" }
    var config: String { directory + "/config.json" }
    /// The runtime's own state; belongs to the sandbox's root where the runtime runs as it.
    var state: String { directory + "/rt" }
    var pidFile: String { state + "/pid" }
    /// The merged root file system.
    var root: String { directory + "/root" }
    /// The writable layer, with its ids mapped.
    var writable: String { directory + "/w" }
    var harness: String { directory + "/harness" }
    /// The image's layer `index`, top first.
    func layer(_ index: Int) -> String { directory + "/l\(index)" }
    /// The boot's mount `index`.
    func mount(_ index: Int) -> String { directory + "/m\(index)" }
}
