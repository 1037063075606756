internal import Glibc

/// What the kernel is told about how memory will be used. It may not listen; nothing depends on it.
package enum MemoryAdvice {
    /// Asks for large pages: who walks through many megabytes spends a third of the time on looking up small ones.
    ///
    /// Best before the memory is touched. Where large pages are switched off nothing happens.
    ///
    /// - Parameters:
    ///   - start: the beginning of memory that is owned.
    ///   - length: in bytes.
    @safe package static func preferLargePages(_ start: UnsafeRawPointer, length: Int) {
        let page = 4096
        let address = UInt(bitPattern: start)
        let skipped = (page - Int(address % UInt(page))) % page
        let whole = (length - skipped) / page * page
        guard whole > 0 else { return }
        // SAFETY: whole pages inside memory that the caller owns; the advice changes no content.
        _ = unsafe madvise(UnsafeMutableRawPointer(mutating: start + skipped), whole, MADV_HUGEPAGE)
    }
}
