/// Flow control of one direction of one stream: a sender never has more than the window's bytes under way.
///
/// Both ends begin with a full window. The receiver gives back what its consumer has taken, in portions of half a
/// window, so that a window frame goes out at most every 128 KiB.
package enum CreditWindow {
    /// Bytes of a full window: 256 KiB.
    package static let size = 256 << 10

    /// The sender's side.
    package struct Sender: Sendable, Equatable {
        /// Bytes that may be sent now.
        package private(set) var available: Int
        /// The full window in bytes.
        package let capacity: Int

        /// A full window.
        package init(capacity: Int = CreditWindow.size) {
            self.capacity = capacity
            available = capacity
        }

        /// Takes credit for up to that many bytes and tells for how many there was some.
        package mutating func take(atMost count: Int) -> Int {
            let taken = min(max(count, 0), available)
            available -= taken
            return taken
        }

        /// Adds what a window frame grants.
        ///
        /// - Throws: when the receiver grants more than it can have consumed.
        package mutating func grant(_ bytes: UInt32) throws(StreamFrameError) {
            guard bytes > 0, Int(bytes) <= capacity - available else {
                throw StreamFrameError(.malformed, "\(bytes) bytes of credit are more than were taken")
            }
            available += Int(bytes)
        }
    }

    /// The receiver's side.
    package struct Receiver: Sendable, Equatable {
        /// Bytes that the sender may still send.
        package private(set) var open: Int
        /// Bytes consumed that the sender does not know of yet.
        package private(set) var owed = 0
        /// The full window in bytes.
        package let capacity: Int

        /// A full window.
        package init(capacity: Int = CreditWindow.size) {
            self.capacity = capacity
            open = capacity
        }

        /// Bytes received that nobody has consumed.
        package var buffered: Int { capacity - open - owed }

        /// Counts bytes that came.
        ///
        /// - Throws: when they are more than the sender was allowed to send.
        package mutating func received(_ count: Int) throws(StreamFrameError) {
            guard count >= 0, count <= open else {
                throw StreamFrameError(.malformed, "\(count) bytes were sent with credit for \(open)")
            }
            open -= count
        }

        /// Counts bytes that the consumer has taken.
        ///
        /// - Returns: the credit to grant now, or nil while it is less than half a window.
        package mutating func consumed(_ count: Int) -> UInt32? {
            precondition(count >= 0 && count <= buffered, "only received bytes can be consumed")
            owed += count
            guard owed >= max(1, capacity / 2) else { return nil }
            defer { owed = 0 }
            open += owed
            return UInt32(truncatingIfNeeded: owed)
        }
    }
}
