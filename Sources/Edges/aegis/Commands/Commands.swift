/// The one list of commands: parsing, help, completion and docs/cli.md come from it.
package enum Commands {
    /// What parses these words: the whole table, or for the commands that are started most those alone, because making the
    /// whole one takes longer than all else that this program does before it asks the daemon.
    package static func table(for words: [String]) -> CommandTable {
        switch words.first {
        case "run": CommandTable([CommandTable.Section("Run", [RunCommand.command])], groups: [:])
        case "exec": CommandTable([CommandTable.Section("Run", [ExecCommand.command])], groups: [:])
        default: table
        }
    }

    /// All commands of this release.
    package static let table: CommandTable = CommandTable(
        [
            CommandTable.Section(
                "Run",
                [
                    RunCommand.command, ExecCommand.command, AttachCommand.command, LogsCommand.command,
                    EventsCommand.command, CopyCommand.command,
                ]),
            CommandTable.Section(
                "Instances",
                [InstanceCreate.command, InstanceStart.command, InstanceList.command, InstanceShow.command]
                    + InstanceActions.commands + [
                        InstanceExpose.command, InstanceUnexpose.command, InstanceIdle.command,
                        InstanceKeepalive.command, InstanceNetwork.command,
                    ] + [InstanceDelete.command, InstancePrune.command]),
            CommandTable.Section(
                "Images, secrets and workspaces",
                [
                    ImagePull.command, ImageBuild.command, ImageList.command, ImageDelete.command, ImagePrune.command,
                    SecretSet.command, SecretList.command, SecretDelete.command,
                    WorkspaceList.command, WorkspaceDelete.command,
                ]),
            CommandTable.Section("Network groups", [GroupList.command, GroupShow.command]),
            CommandTable.Section(
                "Kits", [KitInstall.command, KitList.command, KitShow.command, KitUninstall.command]),
            CommandTable.Section(
                "Agents",
                [TopCommand.command] + GoalCommands.commands + AgentManifests.commands + AgentProcesses.commands
                    + ToolCommands.commands + MCPCommands.commands + ApprovalCommands.commands
                    + SkillCommands.commands + MemoryCommands.commands),
            CommandTable.Section(
                "The ledger", [AuditTail.command, AuditVerify.command, AuditHead.command, AuditExport.command]),
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
            "secret": "values that only sandboxes see", "kit": "instances described once, to be made again and again",
            "goal": "what agents are to reach", "agent": "agents, which hold only what they were granted",
            "tool": "what agents can be let do", "mcp": "other programs whose tools agents can be let use",
            "skill": "instructions that agents read when a task fits", "memory": "what agents remember",
            "approval": "what agents may not do unasked",
            "workspace": "named workspaces, which outlive instances",
            "group": "instances that reach each other by name", "config": "the daemon's configuration",
            "audit": "what was decided and done, provably",
            "debug": "what passes inside, for those who look for a fault",
        ])
}
