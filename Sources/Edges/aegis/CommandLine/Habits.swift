/// What users of other tools type, and how it is said here. Tried before the nearest spelling, which knows only letters.
enum Habits {
    // MARK: Commands

    /// A word that a group of commands calls differently; the first that it has is meant.
    private static let synonyms: [String: [String]] = [
        "ls": ["list"], "ps": ["list"], "rm": ["delete", "uninstall"], "remove": ["delete", "uninstall"],
        "del": ["delete", "uninstall"], "delete": ["uninstall"], "rmi": ["delete"], "kill": ["stop"],
        "inspect": ["info"], "show": ["info"], "describe": ["info"], "unpause": ["resume"], "add": ["set", "install"],
        "create": ["set"], "put": ["set"], "get": ["info", "list"], "run": ["start"], "new": ["create"],
    ]

    /// Whole answers to the first word.
    private static let answers: [String: String] = [
        "ps": meant("instance list"), "ls": meant("instance list"), "list": meant("instance list"),
        "rm": meant("instance delete X"), "remove": meant("instance delete X"), "delete": meant("instance delete X"),
        "kill": meant("instance stop X"), "inspect": meant("instance info X"), "info": meant("instance info X"),
        "unpause": meant("instance resume X"), "rmi": meant("image delete REF"), "images": meant("image list"),
        "pull": meant("image pull REF"), "port": "the ports of an instance are shown by 'aegis instance info X'",
        "stats": watching,
        "shell": meant("exec -it X -- sh"), "ssh": meant("exec -it X -- sh"), "sh": meant("exec -it X -- sh"),
        "bash": meant("exec -it X -- sh"), "enter": meant("exec -it X -- sh"),
        "wait": "'aegis attach X' ends with the command of X, and with its exit code",
        "volume": volumes, "volumes": volumes, "network": networks, "networks": networks,
        "login": "a registry's credentials are those of docker or podman, or of --authfile FILE with 'aegis run'",
        "logout": "a registry's credentials are those of docker or podman, or of --authfile FILE with 'aegis run'",
        "build": "'aegis image build base' builds the base image; " + makers,
        "commit": "an instance cannot be made an image; keep files with --workspace NAME; " + makers,
        "push": "nothing is pushed to a registry; " + makers,
    ]

    private static let watching = """
        'aegis instance list' shows all states and 'aegis instance info X' one instance; \
        'aegis exec X -- top' shows the programs inside
        """
    private static let volumes = "files are kept with --workspace NAME, and given with --mount SRC:DST[:rw]"
    private static let networks = "did you mean 'aegis group list' or 'aegis instance network X'?"
    /// Answers to what a group of commands has not under any name.
    private static let lacks: [String: (words: Set<String>, answer: String)] = [
        "group": (
            ["create", "new", "add", "delete", "remove", "rm", "del", "prune"],
            "a group is made by its first member, with --group NAME, and goes with its last"
        )
    ]
    private static let makers = "other images are made by docker, podman or buildah and named with --image REF"

    private static func meant(_ words: String) -> String { "did you mean 'aegis \(words)'?" }

    /// The answer to a word that is no command.
    ///
    /// - Parameters:
    ///   - parent: the words of the group that it stands in; empty at the beginning.
    ///   - word: what was written.
    ///   - known: the words that the group has.
    /// - Returns: a hint, or nil when nobody is known to say that.
    static func command(_ parent: [String], _ word: String, known: [String]) -> String? {
        guard let group = parent.first else { return answers[word] }
        if let lack = lacks[group], lack.words.contains(word) { return lack.answer }
        return synonyms[word]?.first(where: known.contains).map { meant((parent + [$0]).joined(separator: " ")) }
    }

    /// The answer to an argument of a command that takes none here, and does elsewhere.
    static func arguments(of path: [String]) -> String? { path == ["top"] ? watching : nil }

    // MARK: Options

    /// The answer to an option that there is not, for commands that have the option `name`, or for all.
    static let options: [String: (name: String, hint: String)] = [
        "-v": ("mount", "a folder is given with --mount SRC:DST[:rw], or --workspace DIR for /workspace"),
        "--volume": ("mount", "a folder is given with --mount SRC:DST[:rw], or --workspace DIR for /workspace"),
        "--rm": (
            "detach", "leave it out: 'aegis run' removes what it made, but with --detach 'aegis instance delete' does"
        ),
        "--cwd": ("workdir", "did you mean '--workdir'?"),
        "--environment": ("env", "did you mean '--env'?"),
        "--env-file": (
            "env", "each variable is given with --env K=V, what is secret with 'aegis secret set' and --secret"
        ),
        "--readonly": ("mount", "mounts are read-only unless ':rw' is given"),
        "-c": ("", "write the command after '--', for example: -- sh -c 'echo hello'"),
        "--cpu": ("cpus", "did you mean '--cpus'?"),
        "-p": ("expose", "a port is served with --expose PUBLIC:GUEST"),
        "--publish": ("expose", "a port is served with --expose PUBLIC:GUEST"),
        "--port": ("expose", "a port is served with --expose PUBLIC:GUEST"),
        "-m": ("memory", "did you mean '--memory'?"),
        "--net": ("network", "did you mean '--network'?"),
        "--hostname": ("name", "the host name inside is the instance's name: --name"),
        "--entrypoint": (
            "image",
            "the image's own goes before the words after '--'; it cannot be replaced, 'aegis exec' does without it"
        ),
        "--restart": (
            "image",
            "nothing restarts by itself; a port wakes a stopped instance, 'aegis instance restart' restarts one"
        ),
        "--privileged": (
            "image", "no sandbox has rights on the host; what one may reach is given with --mount and --allow"
        ),
        "--gpus": ("image", "sandboxes get no devices of the host"),
        "--device": ("image", "sandboxes get no devices of the host"),
    ]
}
