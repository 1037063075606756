internal import CLinux
internal import Glibc

extension FileDescriptor {
    /// Takes room on the disk for a range of this file, beyond its end too, without making it longer. Shortening the file
    /// gives it back.
    ///
    /// - Throws: `ENOSPC`, or `EOPNOTSUPP` on a file system that cannot.
    package borrowing func reserve(from offset: UInt64, count: UInt64) throws(Errno) {
        try check(al_reserve(raw, offset, count))
    }
}
