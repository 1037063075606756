internal import AegisClient
internal import AegisCore
internal import AegisJSON
internal import AegisSandboxTypes
internal import AegisWire

/// `aegis kit install`
enum KitInstall {
    static let command = Command(
        "kit install", "install a kit from a folder or an archive",
        details: """
            A folder, or a .tar, .tar.gz or .tar.zst, with kit.yaml at its top. It is checked whole before anything is kept, and a
            version that is installed never changes: the same files again are fine, others need a higher version.
            """,
        arguments: [Argument("PATH", completion: .files)],
        examples: [
            Example("a folder", "aegis kit install kits/static-web"),
            Example("an archive", "aegis kit install postgres-1.0.0.tar.gz"),
        ]
    ) { invocation, context in
        let body: JSONValue = ["path": .string(context.caller.absolute(invocation.arguments[0]))]
        let answer = try await context.client().call(.post, APIClient.Route("kits"), body: body)
        let info = try answer.decoded(KitInfo.self)
        let reference = "\(info.name)@\(info.version)"
        try await context.show(answer, invocation) {
            Plain.text(invocation.quiet ? reference : "\(reference) installed (\(info.digest))") + "\n"
        }
        return 0
    }
}

/// `aegis kit list`
enum KitList {
    static let command = Command(
        "kit list", "list the kits that are installed",
        examples: [Example("names only", "aegis kit list --quiet")]
    ) { invocation, context in
        let items = try await context.client().list(APIClient.Route("kits"))
        try await context.showList(items, of: KitInfo.self, invocation, quiet: { "\($0.name)@\($0.version)" }) {
            KitText.list($0)
        }
        return 0
    }
}

/// `aegis kit info`
enum KitShow {
    static let command = Command(
        "kit info", "show what a kit does, needs and may reach",
        details:
            "Without a version it is the highest that is installed. Its files are compared with what was installed.",
        arguments: [Argument("NAME[@VERSION]", completion: .kits)],
        examples: [
            Example("before it is used", "aegis kit info postgres"),
            Example("the manifest as JSON", "aegis kit info postgres@1.0.0 --output json"),
        ]
    ) { invocation, context in
        let answer = try await context.client().call(.get, APIClient.Route("kits", invocation.arguments[0]))
        try await context.show(answer, invocation) {
            let info = try answer.decoded(KitInfo.self)
            return invocation.quiet ? Plain.text("\(info.name)@\(info.version)") + "\n" : KitText.info(info)
        }
        return 0
    }
}

/// `aegis kit uninstall`
enum KitUninstall {
    static let command = Command(
        "kit uninstall", "remove kits that no instance uses",
        arguments: [Argument("NAME[@VERSION]", .many, completion: .kits)],
        examples: [Example("one version", "aegis kit uninstall postgres@1.0.0")]
    ) { invocation, context in
        try await InstanceActions.eachInstance(invocation, context, "uninstalled") { client, kit throws(AegisError) in
            try await client.call(.delete, APIClient.Route("kits", kit))
        }
    }
}
