/// The one list of commands: parsing, help, completion and docs/cli.md come from it.
package enum Commands {
    /// All commands of this release.
    package static let table: CommandTable = CommandTable(
        [
            CommandTable.Section(
                "Run",
                [
                    RunCommand.command, ExecCommand.command, AttachCommand.command, LogsCommand.command,
                    CopyCommand.command,
                ]),
            CommandTable.Section(
                "Instances",
                [InstanceCreate.command, InstanceStart.command, InstanceList.command, InstanceShow.command]
                    + InstanceActions.commands + [InstanceDelete.command, InstancePrune.command]),
            CommandTable.Section(
                "Images and secrets",
                [
                    ImagePull.command, ImageBuild.command, ImageList.command, ImageDelete.command, ImagePrune.command,
                    SecretSet.command, SecretList.command, SecretDelete.command,
                ]),
            CommandTable.Section(
                "The daemon",
                [
                    UpCommand.command, DownCommand.command, StatusCommand.command, DoctorCommand.command,
                    ConfigShow.command, BackupCommand.command, RestoreCommand.command, DaemonCommand.command,
                    DebugChannel.command,
                ]),
            CommandTable.Section(
                "This program", [VersionCommand.command, CompletionCommand.command, CompletionCommand.answer]),
        ],
        groups: [
            "instance": "instances with a life of their own", "image": "what instances are made of",
            "secret": "values that only sandboxes see", "config": "the daemon's configuration",
            "debug": "what passes inside, for those who look for a fault",
        ])
}
