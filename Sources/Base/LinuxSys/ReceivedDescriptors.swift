internal import Glibc
internal import Synchronization

/// Descriptors that came over a socket, in the order they were sent; those that nobody takes close themselves.
package final class ReceivedDescriptors: Sendable {
    private let numbers: Mutex<[Int32]>
    /// How many came.
    package let count: Int

    init(owning numbers: ArraySlice<Int32>) {
        count = numbers.count
        self.numbers = Mutex(Array(numbers))
    }

    deinit {
        numbers.withLock { for number in $0 where number >= 0 { _ = Glibc.close(number) } }
    }

    /// Takes one; nil when the index is out of range or it was taken before.
    package func take(_ index: Int) -> FileDescriptor? {
        let number = numbers.withLock { numbers -> Int32 in
            guard numbers.indices.contains(index) else { return -1 }
            defer { numbers[index] = -1 }
            return numbers[index]
        }
        return number >= 0 ? FileDescriptor(owning: number) : nil
    }
}
