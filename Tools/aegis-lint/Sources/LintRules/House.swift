import Foundation

/// The targets with their floors and declared edges, as `swift package dump-package` tells them.
package struct House: Sendable {
    /// From the ground up. A target imports floors below its own, and on its own floor what is declared.
    package static let floors = ["Base", "Trust", "Sandbox", "Agents", "Edges"]

    /// One target of the package.
    package struct Target: Sendable {
        package let name: String
        package let path: String
        package let dependencies: [String]
        package init(name: String, path: String, dependencies: [String]) {
            self.name = name
            self.path = path
            self.dependencies = dependencies
        }
        /// The floor's number, or nil when the folder names none (tests).
        package var floor: Int? {
            let parts = path.split(separator: "/")
            guard parts.count >= 2, parts[0] == "Sources" else { return nil }
            return House.floors.firstIndex(of: String(parts[1]))
        }
    }

    package let targets: [String: Target]

    package init(_ targets: [Target]) {
        self.targets = Dictionary(targets.map { ($0.name, $0) }) { first, _ in first }
    }

    /// Reads the output of `swift package dump-package`.
    package init(dump: Data) throws {
        struct Package: Decodable {
            struct Target: Decodable {
                let name: String
                let path: String?
                let dependencies: [Dependency]
            }
            /// `{"byName": ["X", null]}` or `{"target": ["X", null]}`.
            struct Dependency: Decodable {
                let byName: [String?]?
                let target: [String?]?
            }
            let targets: [Target]
        }
        let package = try JSONDecoder().decode(Package.self, from: dump)
        self.init(
            package.targets.map { target in
                Target(
                    name: target.name, path: target.path ?? "Sources/\(target.name)",
                    dependencies: target.dependencies.compactMap { ($0.byName ?? $0.target)?.first ?? nil })
            })
    }

    /// The target that owns a file; the longest path wins.
    package func owner(of path: String) -> Target? {
        targets.values.filter { path.hasPrefix($0.path + "/") }.max { $0.path.count < $1.path.count }
    }

    /// Edges of the manifest that lead upwards.
    package func upwardEdges() -> [Finding] {
        targets.values.flatMap { target in
            target.dependencies.compactMap { name -> Finding? in
                guard let from = target.floor, let to = targets[name]?.floor, to > from else { return nil }
                return Finding(
                    path: "Package.swift", line: 1, column: 1, severity: .error, rule: "floors",
                    message:
                        "\(target.name) (\(Self.floors[from])) depends on \(name), a floor above (\(Self.floors[to]))")
            }
        }.sorted { $0.message < $1.message }
    }
}
