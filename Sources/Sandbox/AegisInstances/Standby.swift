/// Where the sandbox stands that an instance has for its next start, as a pure machine.
///
/// Sandboxes of an instance share its id, and with it control group, folders and writable layer: there must never be two of
/// them. So a start asks here before it boots anything, and whatever is there is taken, or gone, before it goes on. Nothing
/// here waits: whoever gets `wait` waits for the task that makes or ends the sandbox, and asks again.
struct Standby: Sendable, Equatable {
    enum Stage: Sendable, Equatable { case none, making, ready, ending }

    /// What a start does about it.
    enum Take: Sendable, Equatable {
        /// There is none: boot.
        case nothing
        /// It is the start's from now on.
        case taken
        /// Ask again when the task has ended.
        case wait
    }

    /// What whoever wants it gone does about it.
    enum Drop: Sendable, Equatable {
        case nothing
        /// Begin to end it.
        case end
        /// Cut its making off, then ask again when the task has ended.
        case cancel
        /// Ask again when the task has ended.
        case wait
    }

    private(set) var stage = Stage.none
    /// Counts what was made: what is said late, of one that is gone, concerns no other.
    private(set) var number: UInt64 = 0
    /// Whether a start waits for the one that is being made: what would only make it better is left out.
    private(set) var isAwaited = false
    /// Whether the one that is being made must go as soon as it is there.
    private(set) var isDoomed = false

    /// - Returns: the number of the one that may be made now; nil when there is one in whatever stage.
    mutating func begin() -> UInt64? {
        guard stage == .none else { return nil }
        (stage, isAwaited, isDoomed) = (.making, false, false)
        number += 1
        return number
    }

    /// It is made.
    ///
    /// - Returns: whether it is kept; else its maker ends it, and says so by `ended`.
    mutating func made(_ number: UInt64) -> Bool {
        guard number == self.number, stage == .making else { return false }
        stage = isDoomed ? .ending : .ready
        return stage == .ready
    }

    /// Nothing came of it, and nothing is left of it.
    mutating func failed(_ number: UInt64) {
        if number == self.number, stage == .making { stage = .none }
    }

    /// A start of the instance needs a sandbox, or none beside its own.
    mutating func take() -> Take {
        switch stage {
        case .none: return .nothing
        case .ready:
            stage = .none
            return .taken
        case .making:
            isAwaited = true
            return .wait
        case .ending: return .wait
        }
    }

    /// It must go.
    mutating func drop() -> Drop {
        switch stage {
        case .none: return .nothing
        case .ready:
            stage = .ending
            return .end
        case .making:
            guard !isDoomed else { return .wait }
            isDoomed = true
            return .cancel
        case .ending: return .wait
        }
    }

    /// It has ended by itself while it waited.
    ///
    /// - Returns: whether what is left of it is to be removed; `ended` follows then.
    mutating func died(_ number: UInt64) -> Bool {
        guard number == self.number, stage == .ready else { return false }
        stage = .ending
        return true
    }

    /// Nothing is left of it.
    mutating func ended(_ number: UInt64) {
        if number == self.number, stage == .ending { stage = .none }
    }
}
