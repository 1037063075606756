import AegisCore
import Testing

@testable import aegis

@Suite struct CommandLineParserTests {
    @Test(
        arguments: [
            (["run", "--", "ls"], ["ls"]), (["run", "ls", "-l"], ["ls", "-l"]),
            (["run", "--", "--", "x"], ["--", "x"]),
            (["run", "-it", "--name", "web", "sh", "-c", "a b"], ["sh", "-c", "a b"]),
            (["run", "--", "--help"], ["--help"]),
            (["run", "--", "", "a"], ["", "a"]),
        ] as [([String], [String])])
    func theCommandIsWhatFollows(_ words: [String], _ command: [String]) throws {
        #expect(try parse(words).trailing == command)
    }

    @Test func bothSpellingsOfAValueWork() throws {
        let one = try parse(["run", "--name", "web", "--env", "A=1", "--env=B=2=3", "-eC=4", "-e", "D", "--", "x"])
        #expect(one["name"] == "web" && one.all("env") == ["A=1", "B=2=3", "C=4", "D"])
        let empty = try parse(["run", "--env=", "--", "x"])
        #expect(empty.all("env") == [""])
    }

    @Test func lettersStandTogether() throws {
        let invocation = try parse(["run", "-itd", "--", "x"])
        #expect(invocation.flags == ["interactive", "tty", "detach"])
        #expect(try parse(["run", "-itwdir", "--", "x"])["workdir"] == "dir")
    }

    @Test func optionsAndArgumentsMix() throws {
        let invocation = try parse(["exec", "-i", "web", "--env", "A=1", "-t", "psql", "-c", "x"])
        #expect(invocation.arguments == ["web"] && invocation.trailing == ["psql", "-c", "x"])
        #expect(invocation.flags == ["interactive", "tty"] && invocation.all("env") == ["A=1"])
        #expect(try parse(["exec", "web", "--", "-x"]).trailing == ["-x"])
    }

    @Test func globalOptionsStandAnywhereBeforeTheCommand() throws {
        for words in [
            ["--output", "json", "instance", "list"], ["instance", "--output=json", "list"],
            ["instance", "list", "-o", "json"],
        ] {
            let invocation = try parse(words)
            #expect(invocation.output == .json && invocation.path == ["instance", "list"])
        }
        #expect(try parse(["-q", "status"]).quiet)
    }

    @Test func aDashAloneAndNegativeNumbersAreValues() throws {
        #expect(try parse(["secret", "set", "K", "-"]).arguments == ["K", "-"])
        #expect(try parse(["run", "--cpus", "-1", "--", "x"])["cpus"] == "-1")
        #expect(try parse(["secret", "set", "K", "--", "--odd"]).arguments == ["K", "--odd"])
    }

    @Test(arguments: [["--help"], ["-h"], ["help"], []] as [[String]])
    func helpOfEverything(_ words: [String]) throws {
        guard case .help(let path) = try CommandLineParser(Commands.table).parse(words) else { Issue.record(); return }
        #expect(path == [])
    }

    @Test(
        arguments: [
            (["run", "--help"], ["run"]), (["help", "run"], ["run"]), (["instance", "--help"], ["instance"]),
            (["help", "instance", "start"], ["instance", "start"]),
            (["instance", "start", "--name", "x", "-h"], ["instance", "start"]),
            (["run", "-ith"], ["run"]),
        ] as [([String], [String])])
    func helpOfACommandOrGroup(_ words: [String], _ path: [String]) throws {
        guard case .help(let found) = try CommandLineParser(Commands.table).parse(words) else { Issue.record(); return }
        #expect(found == path)
    }

    @Test(arguments: ["--version", "-V"]) func versionAsAnOption(_ word: String) throws {
        guard case .version = try CommandLineParser(Commands.table).parse([word]) else { Issue.record(); return }
    }

    @Test(
        arguments: [
            (["rnu"], "unknown-command", "'aegis rnu' is not a command", "did you mean 'aegis run'?"),
            (
                ["instance", "lst"], "unknown-command", "'aegis instance lst' is not a command",
                "did you mean 'aegis instance list'?"
            ),
            (
                ["prune"], "unknown-command", "'aegis prune' is not a command",
                "did you mean 'aegis instance prune' or 'aegis image prune'?"
            ),
            (
                ["group", "create", "shop"], "unknown-command", "'aegis group create' is not a command",
                "a group is made by its first member, with --group NAME, and goes with its last"
            ),
            (["zzz"], "unknown-command", "'aegis zzz' is not a command", "see 'aegis --help'"),
            (["help", "zzz"], "unknown-command", "'aegis zzz' is not a command", "see 'aegis --help'"),
            (
                ["secret"], "missing-command", "'aegis secret' needs one of: set, list, delete",
                "see 'aegis secret --help'"
            ),
            (
                ["run", "--memroy", "1", "--", "x"], "unknown-option", "unknown option '--memroy' for aegis run",
                "did you mean '--memory'?"
            ),
            (["--memory", "run"], "unknown-option", "unknown option '--memory' for aegis", "see 'aegis --help'"),
            (
                ["run", "-z", "--", "x"], "unknown-option", "unknown option '-z' for aegis run",
                "see 'aegis run --help'"
            ),
            (
                ["run", "-iz", "--", "x"], "unknown-option", "unknown option '-z' in '-iz' for aegis run",
                "see 'aegis run --help'"
            ),
            (
                ["run", "--rm", "--", "x"], "unknown-option", "unknown option '--rm' for aegis run",
                "leave it out: 'aegis run' removes what it made, but with --detach 'aegis instance delete' does"
            ),
            (
                ["run", "-v", "a:b", "--", "x"], "unknown-option", "unknown option '-v' for aegis run",
                "a folder is given with --mount SRC:DST[:rw], or --workspace DIR for /workspace"
            ),
            (["run", "--name"], "invalid-argument", "option '--name' needs a value", "write --name NAME"),
            (["run", "--name", "--", "x"], "invalid-argument", "option '--name' needs a value", "write --name NAME"),
            (
                ["run", "--name", "--image", "base", "--", "x"], "invalid-argument", "option '--name' needs a value",
                "write --name NAME"
            ),
            (
                ["run", "--tty=yes", "--", "x"], "invalid-argument", "option '--tty' takes no value",
                "write --tty alone"
            ),
            (
                ["run", "--name", "a", "--name", "b", "--", "x"], "invalid-argument", "option '--name' was given twice",
                "give it once"
            ),
            (
                ["run", "python:3", "--", "ls"], "ambiguous-command",
                "'python:3' stands before '--', where only options of aegis run may",
                "an image is named with --image; to hand '--' on, begin with it: aegis run -- python:3 -- ..."
            ),
            (
                ["exec", "web"], "missing-command", "no command was given",
                "write it after '--', for example: aegis exec web -- ls -l /workspace"
            ),
            (["exec"], "invalid-argument", "aegis exec needs X", "usage: aegis exec [options] X -- CMD..."),
            (["instance", "info"], "invalid-argument", "aegis instance info needs X", "usage: aegis instance info X"),
            (
                ["instance", "info", "a", "b"], "invalid-argument", "unexpected argument 'b' for aegis instance info",
                "usage: aegis instance info X"
            ),
            (
                ["status", "--output", "jsn"], "invalid-argument", "'jsn' is not an output format",
                "did you mean 'json'?"
            ),
            (
                ["status", "--output", "xxxx"], "invalid-argument", "'xxxx' is not an output format",
                "use text, json or yaml"
            ),
        ] as [([String], String, String, String)])
    func mistakesAreNamed(_ words: [String], _ code: String, _ message: String, _ hint: String) {
        let error = #expect(throws: AegisError.self) { try CommandLineParser(Commands.table).parse(words) }
        #expect(error == AegisError(.usage, code, message, hint: hint))
        #expect(error?.kind.exitCode == 2)
    }

    @Test(
        arguments: [
            ("ps", "aegis instance list"), ("ls", "aegis instance list"), ("rm web", "aegis instance delete X"),
            ("remove web", "aegis instance delete X"), ("stop web", "aegis instance stop"),
            ("start web", "aegis instance start"), ("restart web", "aegis instance restart"),
            ("pause web", "aegis instance pause"), ("resume web", "aegis instance resume"),
            ("kill web", "aegis instance stop X"), ("inspect web", "aegis instance info X"),
            ("rmi x", "aegis image delete REF"), ("images", "aegis image list"), ("pull x", "aegis image pull REF"),
            ("top web", "aegis instance info X"), ("stats", "aegis instance list"),
            ("shell web", "aegis exec -it X -- sh"),
            ("ssh web", "aegis exec -it X -- sh"), ("wait web", "aegis attach X"),
            ("port web", "aegis instance info X"),
            ("volume create x", "--workspace NAME"), ("login x", "--authfile"), ("commit web", "docker, podman"),
            ("build .", "aegis image build base"), ("push x", "docker, podman"),
            ("instance ls", "aegis instance list"), ("instance rm x", "aegis instance delete"),
            ("instance remove x", "aegis instance delete"), ("image ls", "aegis image list"),
            ("image rm x", "aegis image delete"), ("secret ls", "aegis secret list"),
            ("secret remove x", "aegis secret delete"), ("kit ls", "aegis kit list"),
            ("kit rm x", "aegis kit uninstall"),
            ("kit delete x", "aegis kit uninstall"), ("instance logs x", "aegis logs"),
            ("instance exec x", "aegis exec"),
            ("instance kill x", "aegis instance stop"), ("run --entrypoint sh", "aegis exec"),
            ("run --hostname x", "--name"), ("run --net none", "'--network'"),
            ("run --restart always", "instance restart"),
            ("run --privileged", "no sandbox has rights"), ("run --env-file x", "--env K=V"),
            ("run --gpus all", "no devices"),
            ("instance start --privileged", "no sandbox has rights"), ("run -v a:b", "--mount SRC:DST"),
        ] as [(String, String)])
    func habitsOfOtherToolsAreAnswered(_ line: String, _ answer: String) {
        let words = line.split(separator: " ").map(String.init)
        let error = #expect(throws: AegisError.self) { try CommandLineParser(Commands.table).parse(words) }
        #expect(error?.kind == .usage && error?.hint?.contains(answer) == true, "\(line): \(error?.hint ?? "none")")
    }

    @Test func anImageBehindAnUnknownOptionIsExplainedToo() {
        let error = #expect(throws: AegisError.self) {
            try CommandLineParser(Commands.table).parse(["run", "-it", "--rm", "ubuntu", "bash"])
        }
        let value = #expect(throws: AegisError.self) {
            try CommandLineParser(Commands.table).parse(["run", "--volume", "a:b", "--", "x"])
        }
        #expect(value?.hint?.contains("--image") == false)
        #expect(error?.hint?.hasSuffix("; an image is named with --image: aegis run --image ubuntu -- bash") == true)
    }

    /// What an answer tells to write is there.
    @Test func habitsAreAnsweredWithWhatThereIs() {
        for (_, option) in Habits.options where !option.name.isEmpty {
            #expect(Commands.table.commands.contains { $0.options.contains { $0.name == option.name } }, "\(option)")
        }
    }

    @Test(
        arguments: [
            (["instance", "stop", ""], "X is empty"), (["instance", "stop", "web", ""], "X is empty"),
            (["exec", "", "--", "x"], "X is empty"), (["logs", ""], "X is empty"), (["attach", ""], "X is empty"),
            (["instance", "start", ""], "X is empty"), (["secret", "delete", ""], "NAME is empty"),
            (["secret", "set", "", "v"], "NAME is empty"), (["image", "delete", ""], "REF is empty"),
            (["kit", "info", ""], "NAME[@VERSION] is empty"), (["kit", "install", ""], "PATH is empty"),
            (["cp", "", "."], "SOURCE is empty"),
            (["instance", "info", ".."], "'..' is a folder's name, and cannot be X"),
            (["exec", ".", "--", "x"], "'.' is a folder's name, and cannot be X"),
            (["secret", "set", "..", "v"], "'..' is a folder's name, and cannot be NAME"),
        ] as [([String], String)])
    func namesThatAreNoneAreRefused(_ words: [String], _ message: String) {
        let error = #expect(throws: AegisError.self) { try CommandLineParser(Commands.table).parse(words) }
        #expect(error?.kind == .usage && error?.message == message && error?.hint?.contains("usage: aegis") == true)
    }

    @Test func whereAnEmptyWordMeansSomethingItMayStand() throws {
        #expect(try parse(["secret", "set", "K", ""]).arguments == ["K", ""])
        #expect(try parse(["cp", ".", "web:/x"]).arguments == [".", "web:/x"])
        #expect(try parse(["kit", "install", "."]).arguments == ["."])
    }

    @Test func namesInTheTableAreUniqueAndEverythingIsExplained() {
        let table = Commands.table
        #expect(Set(table.commands.map(\.path)).count == table.commands.count)
        for command in table.visible {
            #expect(Set(command.allOptions.map(\.name)).count == command.allOptions.count, "\(command.title)")
            let letters = command.allOptions.compactMap(\.short)
            #expect(Set(letters).count == letters.count, "\(command.title)")
            #expect(!command.examples.isEmpty && !command.summary.isEmpty, "\(command.title)")
            #expect(command.path.count == 1 || table.groups[command.path[0]] != nil, "\(command.title)")
        }
    }

    @Test func everyExampleParses() throws {
        for command in Commands.table.visible {
            for example in command.examples where example.line.hasPrefix("aegis ") {
                let line = example.line.prefix { !"|<#$&".contains($0) }
                // Odd pieces between quotes are one word.
                var words = line.split(separator: "'", omittingEmptySubsequences: false).enumerated()
                    .flatMap { index, part in
                        index % 2 == 1 ? [String(part)] : part.split(separator: " ").map(String.init)
                    }
                words.removeFirst()
                if line.count < example.line.count, example.line.contains("$(") { words.append("X") }
                #expect(throws: Never.self, "\(example.line)") { try CommandLineParser(Commands.table).parse(words) }
            }
        }
    }
}
