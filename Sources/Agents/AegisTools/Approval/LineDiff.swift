/// What changes in a text, line by line, as `diff -u` shows it.
enum LineDiff {
    /// Lines around a change.
    private static let context = 3
    /// Lines of both texts that are compared with each other at once: some 16 MiB where all of them differ.
    private static let mostCompared = 2000
    /// Lines that are shown.
    private static let mostShown = 2000

    /// The difference of two texts.
    ///
    /// - Parameters:
    ///   - path: the file.
    ///   - old: what it was; nil where there was none.
    ///   - new: what it is to be.
    /// - Returns: the changed lines with some around them.
    static func text(path: String, from old: [UInt8]?, to new: [UInt8]) -> String {
        let head = old == nil ? "--- (no file)\n+++ \(path)\n" : "--- \(path)\n+++ \(path)\n"
        guard old != new else { return head + "(nothing changes)\n" }
        let (before, after) = (lines(old ?? []), lines(new))
        var start = 0
        while start < before.count, start < after.count, before[start] == after[start] { start += 1 }
        var tail = 0
        while tail < before.count - start, tail < after.count - start,
            before[before.count - 1 - tail] == after[after.count - 1 - tail]
        { tail += 1 }
        let edits = middle(before[start..<before.count - tail], after[start..<after.count - tail])
        let first = max(0, start - context)
        var all = before[first..<start].map { (Mark.same, $0) } + edits
        all += before[(before.count - tail)..<min(before.count, before.count - tail + context)].map { (Mark.same, $0) }
        return head + render(all, first: first)
    }

    enum Mark: String { case same = " ", removed = "-", added = "+" }

    private static func lines(_ bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var lines = bytes.split(separator: 0x0a, omittingEmptySubsequences: false)
        // A text ends with a newline; one that does not is another text.
        if lines.last?.isEmpty == true {
            lines.removeLast()
        } else {
            lines.append(ArraySlice("\\ no newline at the end".utf8))
        }
        return bytes.isEmpty ? [] : lines
    }

    /// The changed part as lines that stay, go and come.
    ///
    /// Comparing takes memory with the square of the lines that differ: a large part is divided at lines that both texts have once,
    /// and what is too large still is taken out and put in as a whole. So all of it takes time and memory with the length only.
    ///
    /// - Parameters:
    ///   - before: the part as it was.
    ///   - after: the part as it is to be.
    /// - Returns: both in one order; what goes stands before what comes.
    static func middle<Line: Hashable>(_ before: ArraySlice<Line>, _ after: ArraySlice<Line>) -> [(Mark, Line)] {
        if before.isEmpty || after.isEmpty || before.count + after.count <= mostCompared {
            return compared(before, after)
        }
        var out: [(Mark, Line)] = []
        var (i, j) = (before.startIndex, after.startIndex)
        for (old, new) in anchors(before, after) + [(before.endIndex, after.endIndex)] {
            let (gone, come) = (before[i..<old], after[j..<new])
            if gone.count + come.count <= mostCompared {
                out += compared(gone, come)
            } else {
                out += gone.map { (.removed, $0) } + come.map { (.added, $0) }
            }
            if old < before.endIndex { out.append((.same, before[old])) }
            (i, j) = (old + 1, new + 1)
        }
        return out
    }

    /// The places of lines that both texts have exactly once, as many as are in the same order in both.
    private static func anchors<Line: Hashable>(
        _ before: ArraySlice<Line>, _ after: ArraySlice<Line>
    ) -> [(Int, Int)] {
        // nil is a line that comes again.
        func places(_ lines: ArraySlice<Line>) -> [Line: Int?] {
            var places: [Line: Int?] = [:]
            for index in lines.indices {
                if places.updateValue(index, forKey: lines[index]) != nil { places[lines[index]] = .some(nil) }
            }
            return places
        }
        let (olds, news) = (places(before), places(after))
        let pairs = before.indices.compactMap { old -> (Int, Int)? in
            guard case .some(.some) = olds[before[old]], case .some(.some(let new)) = news[before[old]] else {
                return nil
            }
            return (old, new)
        }
        // The longest run of pairs that rises on both sides: `ends` has the lowest end of a run of each length.
        var ends: [Int] = []
        var earlier = [Int?](repeating: nil, count: pairs.count)
        for (index, pair) in pairs.enumerated() {
            var (low, high) = (0, ends.count)
            while low < high {
                let half = (low + high) / 2
                if pairs[ends[half]].1 < pair.1 { low = half + 1 } else { high = half }
            }
            if low > 0 { earlier[index] = ends[low - 1] }
            if low == ends.count { ends.append(index) } else { ends[low] = index }
        }
        var run: [(Int, Int)] = []
        var next = ends.last
        while let index = next {
            run.append(pairs[index])
            next = earlier[index]
        }
        return run.reversed()
    }

    private static func compared<Line: Hashable>(
        _ before: ArraySlice<Line>, _ after: ArraySlice<Line>
    ) -> [(Mark, Line)] {
        if before.isEmpty { return after.map { (.added, $0) } }
        if after.isEmpty { return before.map { (.removed, $0) } }
        var removed: Set<Int> = []
        var added: Set<Int> = []
        for change in Array(after).difference(from: Array(before)) {
            switch change {
            case .remove(let offset, _, _): removed.insert(offset)
            case .insert(let offset, _, _): added.insert(offset)
            }
        }
        var out: [(Mark, Line)] = []
        var (i, j) = (0, 0)
        while i < before.count || j < after.count {
            if removed.contains(i) {
                out.append((.removed, before[before.startIndex + i]))
                i += 1
            } else if added.contains(j) {
                out.append((.added, after[after.startIndex + j]))
                j += 1
            } else {
                out.append((.same, before[before.startIndex + i]))
                i += 1
                j += 1
            }
        }
        return out
    }

    /// Leaves out what stays and is far from any change, and the middle of what is too long: that is said first, so that no end of
    /// it can be taken for the end of all.
    private static func render(_ all: [(Mark, ArraySlice<UInt8>)], first: Int) -> String {
        var keep = [Bool](repeating: false, count: all.count)
        for index in all.indices where all[index].0 != .same {
            for near in max(0, index - context)...min(all.count - 1, index + context) { keep[near] = true }
        }
        let kept = keep.count { $0 }
        let hidden = kept > mostShown ? mostShown / 2..<kept - mostShown / 2 : 0..<0
        var out = ""
        if !hidden.isEmpty {
            out +=
                "(\(mostShown) of \(kept) lines are shown: the first and the last \(mostShown / 2); the call's arguments have the rest)\n"
        }
        var (line, number) = (first, 0)
        var isOpen = false
        for (index, (mark, text)) in all.enumerated() {
            if keep[index], hidden.contains(number) {
                if number == hidden.lowerBound { out += "(\(hidden.count) lines are not shown here)\n" }
                isOpen = false
                number += 1
            } else if keep[index] {
                if !isOpen { out += "@@ line \(line + 1) @@\n" }
                isOpen = true
                out += mark.rawValue + String(decoding: text, as: UTF8.self) + "\n"
                number += 1
            } else {
                isOpen = false
            }
            if mark != .added { line += 1 }
        }
        return out
    }
}
