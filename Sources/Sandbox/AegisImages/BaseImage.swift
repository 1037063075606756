import AegisCore
import AegisIO
import FoundationEssentials
import LinuxSys

/// What the base image is made of, read from the host: its distribution, its package sources and how it reaches them.
struct BaseRecipe: Sendable, Equatable {
    /// The distribution's code name.
    var suite: String
    /// Package sources of that suite, in deb822 form.
    var sources: String
    /// Settings of `apt` for reaching them.
    var aptOptions: String

    /// The packages beyond the minimal system.
    static let packages = ["ca-certificates", "python3", "python-is-python3"]

    /// Reads the recipe from the texts of the host.
    ///
    /// - Parameters:
    ///   - release: `/etc/os-release`.
    ///   - files: the files of apt's sources, by name.
    ///   - aptConfig: what `apt-config dump` prints.
    /// - Throws: `base-build-failed` when the host has no sources of its own distribution.
    init(release: String, sources files: [(name: String, text: String)], aptConfig: String) throws(AegisError) {
        let values = release.split(separator: "\n").filter { $0.hasPrefix("VERSION_CODENAME=") }
        let suite = values.first.map { $0.dropFirst(17).filter { $0 != "\"" } } ?? ""
        guard !suite.isEmpty, suite.utf8.allSatisfy({ (97...122).contains($0) || $0 == 45 }) else {
            throw .failed(
                "base-build-failed", "/etc/os-release names no distribution",
                hint: "the base image is built from a Debian-like host; use --image REF")
        }
        var stanzas: [String] = []
        for file in files {
            stanzas += file.name.hasSuffix(".sources") ? Self.stanzas(file.text, suite) : Self.lines(file.text, suite)
        }
        guard !stanzas.isEmpty else {
            throw .failed(
                "base-build-failed", "apt has no package source for '\(suite)'",
                hint: "the base image is built from the host's own sources; use --image REF")
        }
        self.suite = suite
        self.sources = stanzas.joined(separator: "\n\n") + "\n"
        aptOptions = aptConfig.split(separator: "\n").filter { line in
            ["Acquire::http", "Acquire::https", "Acquire::ftp", "Acquire::Retries", "Acquire::ForceIPv"].contains {
                line.hasPrefix($0)
            }
                && !line.hasSuffix("\"\";")
        }.joined(separator: "\n")
    }

    /// The stanzas of a deb822 file that are for a suite or its updates.
    private static func stanzas(_ text: String, _ suite: String) -> [String] {
        var stanzas: [[Substring]] = [[]]
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) where !line.hasPrefix("#") {
            if line.allSatisfy(\.isWhitespace) { stanzas.append([]) } else { stanzas[stanzas.count - 1].append(line) }
        }
        return stanzas.compactMap { lines in
            func field(_ name: String) -> [Substring] {
                lines.first { $0.lowercased().hasPrefix(name + ":") }?.dropFirst(name.count + 1).split(separator: " ")
                    ?? []
            }
            let suites = field("suites")
            guard !suites.isEmpty, suites.allSatisfy({ isOf($0, suite) }), field("types").contains("deb"),
                field("components").contains("main"), !field("enabled").contains("no")
            else { return nil }
            return lines.map { $0.lowercased().hasPrefix("types:") ? "Types: deb" : $0 }.joined(separator: "\n")
        }
    }

    /// The one-line entries of a list that are for a suite or its updates, as stanzas.
    private static func lines(_ text: String, _ suite: String) -> [String] {
        text.split(separator: "\n").compactMap { line in
            var words = line.split(whereSeparator: \.isWhitespace)
            guard words.first == "deb", words.count >= 4 else { return nil }
            words.removeFirst()
            var keys: [String] = []
            if words[0].hasPrefix("[") {
                while let option = words.first {
                    words.removeFirst()
                    let plain = option.filter { $0 != "[" && $0 != "]" }
                    if plain.hasPrefix("signed-by=") { keys.append("Signed-By: \(plain.dropFirst(10))") }
                    if option.hasSuffix("]") { break }
                }
            }
            guard words.count >= 3, isOf(words[1], suite), words.dropFirst(2).contains("main") else {
                return nil
            }
            let parts = [
                "Types: deb", "URIs: \(words[0])", "Suites: \(words[1])",
                "Components: \(words.dropFirst(2).joined(separator: " "))",
            ]
            return (parts + keys).joined(separator: "\n")
        }
    }

    private static func isOf(_ suite: Substring, _ name: String) -> Bool {
        suite == name || [name + "-updates", name + "-security", name + "/updates"].contains(String(suite))
    }

    /// A shell script that builds the tree, takes out what differs from one build to the next, and writes it as a tar stream.
    ///
    /// Its first argument is the directory to make, the others are the build's command. Files that the build itself made
    /// get the time of the newest file that a package brought, which depends on the packages only.
    static func script(started: Int64) -> String {
        """
        #!/bin/sh
        set -eu
        tree=$1
        shift
        "$@" "$tree" "$AEGIS_SOURCES" >&2
        cd "$tree"
        find usr/share/doc -depth ! -type d ! -name copyright -delete
        find usr/share/doc -depth -type d -empty -delete
        rm -rf dev/* var/lib/apt/lists/* var/cache/* var/log/* var/tmp/* tmp/* run/* usr/share/man/* usr/share/info/* \\
            usr/share/lintian usr/share/locale/*
        rm -f etc/machine-id var/lib/dbus/machine-id etc/hostname etc/resolv.conf etc/*- var/lib/dpkg/*-old etc/.pwd.lock
        # What says how the host reaches its mirrors stays outside: proxies, and who one is to them.
        mkdir -p etc/apt/apt.conf.d
        printf 'APT::Install-Recommends "false";\\n' > etc/apt/apt.conf.d/99mmdebstrap
        for list in etc/apt/sources.list etc/apt/sources.list.d/*; do
            [ ! -f "$list" ] || sed -i 's,\\(://\\)[^/[:space:]]*@,\\1,g' "$list"
        done
        mkdir -p var/cache/apt/archives/partial var/lib/apt/lists/partial var/log/apt
        sed -i 's/^\\([^:]*:[^:]*\\):[0-9]*:/\\1:19000:/' etc/shadow
        newest=$(find . ! -newermt @\(started) -printf '%T@\\n' | sort -n | tail -n 1 | cut -d. -f1)
        find . -newermt @\(started) -exec touch -h -d "@${newest:-0}" {} +
        exec tar --create --sort=name --numeric-owner --format=posix --xattrs --xattrs-include='security.*' \\
            --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime .

        """
    }
}
