internal import Glibc

extension CurrentProcess {
    /// The words of the command line as the kernel handed them over, the program's name first: `CommandLine.arguments` silently
    /// replaces what is not UTF-8.
    package static var arguments: [[UInt8]] {
        let count = Int(CommandLine.argc)
        // SAFETY: argc pointers to C strings that live as long as the process, and nobody here writes to them.
        let words = unsafe UnsafeBufferPointer(start: CommandLine.unsafeArgv, count: count)
        return unsafe words.map { word in unsafe bytes(of: word) }
    }

    /// The bytes of a variable of the environment, UTF-8 or not; nil when it is not set.
    package static func environmentBytes(_ name: String) -> [UInt8]? {
        guard let value = unsafe getenv(name) else { return nil }
        return unsafe bytes(of: value)
    }

    private static func bytes(of text: UnsafeMutablePointer<CChar>?) -> [UInt8] {
        guard let text = unsafe text else { return [] }
        // SAFETY: a C string, read up to its zero byte.
        return unsafe UnsafeBufferPointer(start: text, count: strlen(text)).map { UInt8(bitPattern: $0) }
    }
}
