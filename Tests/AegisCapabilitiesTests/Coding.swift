import Foundation

/// Values as a store would keep them.
func encoded(_ value: some Encodable) throws -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    return Array(try encoder.encode(value))
}
func decoded<T: Decodable>(_ bytes: [UInt8]) throws -> T { try JSONDecoder().decode(T.self, from: Data(bytes)) }

/// The lines of the fenced blocks of a kind in a page of docs/.
func examples(_ kind: String, in page: String) throws -> [[String]] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()
    let text = try String(contentsOf: folder.appendingPathComponent("docs/\(page)"), encoding: .utf8)
    var blocks: [[String]] = []
    var current: [String]?
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
        if line.hasPrefix("```") {
            if let block = current { blocks.append(block) }
            current = line == "```\(kind)" ? [] : nil
        } else if !line.isEmpty {
            current?.append(line)
        }
    }
    return blocks
}
