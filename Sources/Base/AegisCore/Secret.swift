/// A value that must not be shown: every description of it is `•••`.
package struct Secret<Value: Sendable>: Sendable, CustomStringConvertible, CustomDebugStringConvertible,
    CustomReflectable
{
    private let value: Value
    /// Wraps a value.
    package init(_ value: Value) { self.value = value }
    /// The value itself; every call is a place where it may leak.
    package func reveal() -> Value { value }
    package var description: String { "•••" }
    package var debugDescription: String { "•••" }
    package var customMirror: Mirror { Mirror(self, children: [] as [Mirror.Child]) }
}
