internal import AegisConfig
internal import AegisCore

/// The daemon's command line.
struct DaemonOptions: Sendable {
    /// `--config`, else `$AEGIS_CONFIG`, else the file in the home.
    var config: String?
    /// Take any free port where the configured one is busy.
    var anyPorts = false
    /// Print the configuration that would be used, and end.
    var showsConfiguration = false
    /// Write a backup to this file, or bring one back, and end; the passphrase comes on standard input.
    var backup: String?
    var restore: String?
    /// Put what is in the home aside for the backup.
    var forced = false
    /// Flags that set keys of the configuration.
    var settings: [(flag: String, path: String, value: String)] = []

    private static let keys = [
        "--bind": "network.bind", "--port": "network.port", "--router-port": "network.router_port",
        "--min-isolation": "runtime.min_isolation",
        "--isolation": "runtime.default_isolation", "--warm": "instances.warm",
    ]
    private static let others = [
        "--config", "--ports", "--show-config", "--backup", "--restore", "--force", "--help", "--version",
    ]
    private static let help = """
        aegisd: the daemon of Aegis. It runs in the foreground; 'aegis up' starts it in the background.

        usage: aegisd [--config FILE] [--ports auto] [--bind ADDRESS] [--port N] [--isolation B] [--min-isolation GRADE]
              [--warm [IMAGE[@B][+LIMIT=VALUE]=]N]

          --config FILE          configuration; default $AEGIS_CONFIG, else aegis-config.yaml in AEGIS_HOME
          --ports auto           take free ports where the configured ones are busy
          --bind ADDRESS         address of the HTTP API (default 127.0.0.1)
          --port N               port of the HTTP API (default 8080; 0 = any free one)
          --router-port N        port of the router for exposed ports (default 8099; 0 = any free one)
          --isolation B          backend for instances that name none (default auto)
          --min-isolation GRADE  refuse to start instances below this grade
          --warm [IMAGE[@B][+LIMIT=VALUE]=]N,...
                                 sandboxes to keep ready (of 'base' when no image is named)
          --show-config          print the configuration that would be used, as JSON, and end
          --backup FILE          write a backup, sealed to the passphrase on standard input, and end
          --restore FILE         bring a backup back and end; --force puts aside what is in the home
          --version, --help

        example: AEGIS_HOME=/srv/aegis aegisd --ports auto
        """

    /// Reads the arguments; nil when they asked for text that was printed.
    ///
    /// - Throws: `invalid-argument` naming the nearest flag.
    init?(arguments: [String]) throws(AegisError) {
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            func value() throws(AegisError) -> String {
                if parts.count == 2 { return parts[1] }
                guard let next = rest.popFirst() else {
                    throw .usage("\(argument) needs a value", hint: "see aegisd --help")
                }
                return next
            }
            switch parts[0] {
            case "--help", "-h":
                print(Self.help)
                return nil
            case "--version":
                print("aegisd \(Build.version)")
                return nil
            case "--config": config = try value()
            case "--show-config": showsConfiguration = true
            case "--backup": backup = try value()
            case "--restore": restore = try value()
            case "--force": forced = true
            case "--ports":
                let mode = try value()
                guard mode == "auto" else {
                    throw .usage("'\(mode)' is not a way to choose ports", hint: "write --ports auto")
                }
                anyPorts = true
            case let flag:
                guard let path = Self.keys[flag] else {
                    let near = nearest(
                        flag,
                        in: Array(Self.keys.keys) + Self.others)
                    throw .usage(
                        "unknown flag '\(flag)'", hint: near.map { "did you mean \($0)?" } ?? "see aegisd --help")
                }
                settings.append((flag, path, try value()))
            }
        }
    }
}
