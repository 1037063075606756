import AegisIO
import AegisTestSupport
import LinuxSys
import Testing

@testable import AegisImages

/// The script that makes the base image's tree, with a builder that leaves what mmdebstrap does.
struct BaseScriptTests {
    @Test func credentialsOfTheHostStayOutside() async throws {
        try await onLoop { loop in
            let folder = try TemporaryDirectory()
            defer { withExtendedLifetime(folder) {} }
            let recipe = try BaseRecipe(
                release: "VERSION_CODENAME=trixie\n",
                sources: [("sources.list", "deb http://me:p@ss@mirror.example/debian trixie main\n")],
                aptConfig: "Acquire::http::Proxy \"http://user:pass@proxy.example:3128\";\n")
            #expect(recipe.sources.contains("p@ss") && recipe.aptOptions.contains("user:pass"))
            let builder = """
                #!/bin/sh
                set -e
                for d in usr/share/doc etc/apt/apt.conf.d etc/apt/sources.list.d var/lib dev tmp; do mkdir -p "$1/$d"; done
                echo 'root:*:19000:0:99999:7:::' > "$1/etc/shadow"
                cp '\(folder.path("apt.conf"))' "$1/etc/apt/apt.conf.d/99mmdebstrap"
                cp "$2" "$1/etc/apt/sources.list.d/0000host.sources"
                echo 'deb http://other:word@old.example/debian trixie main' > "$1/etc/apt/sources.list"
                """
            try Files.writeAtomically(folder.path("apt.conf"), Array(recipe.aptOptions.utf8))
            try Files.writeAtomically(folder.path("host.sources"), Array(recipe.sources.utf8))
            try await writeProgram(folder.path("builder"), builder, on: loop)
            try await writeProgram(folder.path("build"), BaseRecipe.script(started: 1), on: loop)
            let line =
                "AEGIS_SOURCES='\(folder.path("host.sources"))' '\(folder.path("build"))' '\(folder.path("tree"))'"
            try await command(["sh", "-c", "\(line) '\(folder.path("builder"))' > '\(folder.path("tar"))'"], on: loop)
            let stream = String(decoding: try Files.read(folder.path("tar"), limit: 1 << 20), as: UTF8.self)
            for secret in ["user:pass", "p@ss", "ss@", "word@", "me:", "proxy.example"] {
                #expect(!stream.contains(secret), "\(secret)")
            }
            #expect(stream.contains("URIs: http://mirror.example/debian"))
            #expect(stream.contains("deb http://old.example/debian trixie main"))
            #expect(stream.contains("APT::Install-Recommends \"false\";\n"))
        }
    }
}
