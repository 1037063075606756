import AegisCapabilities
import AegisCore
import AegisIO
import Synchronization

/// What one connection was admitted with: asked again as it goes, and counted down where its grant limits bytes.
final class EgressPermit: StreamMeter {
    let destination: Destination
    /// Whether bytes count.
    let isCounted: Bool
    private let uplink: Uplink
    private let state: Mutex<State>

    private struct State: ~Copyable {
        /// Nil once it is settled.
        var admission: Admission?
        /// Bytes that are reserved and have not been moved.
        var credit = 0
        var used: UInt64 = 0
        /// Why there is no more; told once.
        var end: Denial?
        var isTold = false
    }

    /// Takes over what the book has given.
    init(_ admission: consuming Admission, to destination: Destination, of uplink: Uplink) {
        self.destination = destination
        self.uplink = uplink
        isCounted = admission.limitsBytes()
        state = Mutex(State(admission: consume admission))
    }

    /// Asks again whether the grant still holds.
    ///
    /// - Throws: the refusal.
    func check() throws(Denial) {
        let result = state.withLock { state -> Result<Void, Denial> in
            do throws(Denial) { try state.admission?.check() } catch { return .failure(error) }
            return .success(())
        }
        try result.get()
    }

    /// Why the connection may not go on: its own grant does not hold any more, and no other one would allow it now. That its own is
    /// used up says nothing: it is this connection that has used it.
    func refusal() -> Denial? {
        do throws(Denial) { try check() } catch {
            let held = uplink.gate.grants.grants(of: uplink.holder)
            if case .deny(let denial) = evaluate(Request(.connect(destination)), with: held, at: .now()) {
                return denial
            }
        }
        return nil
    }

    /// The connection has ended: what it has moved counts, and nothing else.
    func settle() {
        state.withLock { state in
            guard let admission = state.admission.take() else { return }
            admission.settle(used: Amounts(bytes: state.used))
        }
    }

    // MARK: Bytes

    func take(_ wanted: Int) -> Int {
        state.withLock { state in
            if state.credit == 0 {
                do throws(Denial) { state.credit = Int(clamping: try state.admission?.reservePortion() ?? 0) } catch {
                    state.end = error
                }
            }
            let given = min(wanted, state.credit)
            state.credit -= given
            state.used += UInt64(given)
            return given
        }
    }

    func giveBack(_ count: Int) {
        state.withLock { state in
            state.credit += count
            state.used -= UInt64(count)
        }
    }

    func overrun() -> IOError {
        let end = state.withLock { state -> Denial? in
            guard !state.isTold else { return nil }
            state.isTold = true
            return state.end
        }
        if let end { uplink.report(NetworkDenial(cutting: uplink.instance, destination, end)) }
        return IOError(.closed, "the grant of the connection has no bytes left")
    }
}

extension NetworkDenial {
    /// What was allowed is cut off.
    fileprivate init(cutting instance: String, _ destination: Destination, _ denial: Denial) {
        self.init(instance, destination, denial)
        message = "the connection to '\(destination)' is cut off: \(denial.message)"
    }
}
