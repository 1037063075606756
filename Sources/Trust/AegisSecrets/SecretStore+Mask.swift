internal import AegisCore
internal import Synchronization

extension SecretStore {
    /// The most bytes of all values together for which there is a mask: it takes about 15 times as much.
    static let maskLimit = 4 << 20
    /// What stands for a text in which no secret can be looked for.
    private static let unreadable = Array("•••".utf8)

    /// Masks the value of every secret that is stored now in a text that is kept or shown.
    ///
    /// - Parameters:
    ///   - bytes: the text.
    ///   - wanted: how much of the result is of use.
    /// - Returns: the same with a mark for each value, so many bytes of it at least; nothing of it where the values cannot be read.
    package func masked(_ bytes: [UInt8], wanted: Int = .max) -> [UInt8] {
        guard let mask = currentMask() else { return Self.unreadable }
        guard !mask.isEmpty else { return bytes }
        var stream = SecretMaskStream(mask)
        var output: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty, output.count < wanted {
            stream.write(rest.prefix(4096), into: &output)
            rest = rest.dropFirst(4096)
        }
        if rest.isEmpty { stream.finish(into: &output) }
        return output
    }

    private func currentMask() -> SecretMask? {
        let (kept, generation) = masks.current
        if let kept { return kept }
        guard let names = try? list().map(\.name) else { return nil }
        var (values, total): ([Secret<[UInt8]>], Int) = ([], 0)
        for name in names {
            // One that is gone since, or does not open, is nobody's secret any more.
            guard let value = try? value(of: name) else { continue }
            total += value.reveal().count
            guard total <= Self.maskLimit else { return nil }
            values.append(value)
        }
        let mask = SecretMask(values)
        masks.keep(mask, of: generation)
        return mask
    }
}

/// The mask of the values as they are; made when it is asked for, and again after a change.
final class MaskCache: Sendable {
    private struct State {
        var mask: SecretMask?
        /// How often something has changed.
        var generation: UInt64 = 0
    }
    private let state = Mutex(State())

    var current: (mask: SecretMask?, generation: UInt64) { state.withLock { ($0.mask, $0.generation) } }

    /// Keeps a mask unless something has changed since its values were read.
    func keep(_ mask: SecretMask, of generation: UInt64) {
        state.withLock { if $0.generation == generation { $0.mask = mask } }
    }

    func clear() {
        state.withLock { state in
            state.mask = nil
            state.generation += 1
        }
    }
}
