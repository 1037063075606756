package import LinuxSys

/// A text of the kernel, whole.
///
/// Foundation takes a short read for the end of a file: of a file below `/proc` it gives the first page only.
///
/// - Throws: the error of the system call; `EFBIG` above 16 MiB.
package func kernelText(_ path: String) throws(Errno) -> String {
    String(decoding: try Files.read(path, limit: 16 << 20), as: UTF8.self)
}
