internal import AegisCore
internal import AegisJSON

/// A part of a long list: no more than one answer should hold, and where the next part begins.
struct ListPart {
    var items: [JSONValue] = []
    /// What the next part is asked for with; nil when this is the last.
    var next: String?

    /// How many bytes the items of a part come to; the last one may be beyond that.
    static let size = 4 << 20

    /// Takes items from where the part before ended.
    ///
    /// - Parameters:
    ///   - all: the whole list, oldest first.
    ///   - cursor: the `next` of the part before; nil begins.
    ///   - place: what an item is called, and since when it is in the list: it is gone on behind that where the item has gone.
    ///   - shown: the item as the answer has it.
    /// - Throws: `invalid-argument` for a cursor that nobody was given.
    init<Item>(
        of all: [Item], after cursor: String?, place: (Item) -> (id: String, since: Timestamp),
        shown: (Item) throws -> JSONValue
    ) throws {
        var rest = all[...]
        if let cursor {
            guard let dot = cursor.firstIndex(of: "."), let time = Int64(cursor[..<dot]) else {
                throw AegisError.usage(
                    "'\(cursor.prefix(100))' is no place in a list", hint: "give the 'next' of the part before it")
            }
            let id = cursor[cursor.index(after: dot)...]
            let index = all.firstIndex { place($0).id == id }
            // Of the same moment there may be others behind it: an item may come twice, and none is left out.
            rest =
                all[(index.map { $0 + 1 } ?? all.firstIndex { place($0).since.milliseconds >= time } ?? all.count)...]
        }
        var bytes = 0
        while let item = rest.first, bytes < Self.size {
            let json = try shown(item)
            bytes += json.compact.count
            items.append(json)
            rest.removeFirst()
            guard !rest.isEmpty, bytes >= Self.size else { continue }
            let (id, since) = place(item)
            next = "\(since.milliseconds).\(id)"
        }
    }

    /// As REST has it.
    var page: JSONValue { json("items") }

    /// As JSON-RPC has it, where each list has a name of its own.
    func json(_ name: String) -> JSONValue {
        .object([.init(name, .array(items)), .init("next", next.map { .string($0) } ?? .null)])
    }
}
