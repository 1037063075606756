internal import CLinux
internal import Glibc

/// A user whose rights on files a thread of a privileged process can take for a while.
///
/// Only the calling thread changes (file-system ids and groups), and only for the length of a closure that cannot suspend.
/// Root's rights over files are gone meanwhile, and so are the process's groups.
package struct FileIdentity: Sendable, Equatable {
    package var user: UInt32
    package var group: UInt32

    /// An identity without further groups.
    package init(user: UInt32, group: UInt32) {
        self.user = user
        self.group = group
    }

    /// Runs a closure with the rights of the user.
    ///
    /// - Throws: `EPERM` when this process may not change ids; then the closure does not run.
    package func perform<T>(_ body: () -> T) throws(Errno) -> T {
        var groups = [gid_t](repeating: 0, count: 1024)
        var count = groups.count
        try check(unsafe al_files_as(user, group, &groups, &count))
        let result = body()
        guard unsafe al_files_as_self(groups, count) == 0 else {
            preconditionFailure("a thread cannot get its own ids back, which it had: it must not go on with others")
        }
        return result
    }
}
