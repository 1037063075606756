internal import CLinux
internal import Glibc

/// Network namespaces, and sockets in those of others.
package enum NetworkNamespace {
    /// A namespace that has nothing but its own loopback: whoever enters it reaches nobody. It goes with the descriptor and with
    /// those who have entered it. Needs root.
    package static func makeClosed() throws(Errno) -> FileDescriptor {
        try FileDescriptor(checking: al_closed_network())
    }

    /// A TCP socket (non-blocking, close-on-exec) that lives in the namespace of this descriptor, wherever it is used.
    ///
    /// Blocks for about 20 microseconds.
    package static func streamSocket(in namespace: borrowing FileDescriptor, ipv6: Bool) throws(Errno) -> FileDescriptor
    {
        try FileDescriptor(checking: al_socket_in_namespace(namespace.raw, ipv6 ? AF_INET6 : AF_INET))
    }

    /// The IPv4 addresses of a namespace, but for loopback's; at most 16.
    package static func ownAddresses(in namespace: borrowing FileDescriptor) throws(Errno) -> [String] {
        let socket = try streamSocket(in: namespace, ipv6: false)
        var found = [UInt32](repeating: 0, count: 16)
        let count = unsafe al_socket_own_addresses(socket.raw, &found, Int32(found.count))
        guard count >= 0 else { throw .current }
        // The first byte in memory is the first of the address.
        return found.prefix(Int(count)).map { address in
            let bytes = UInt32(bigEndian: address)
            return [24, 16, 8, 0].map { "\(bytes >> $0 & 255)" }.joined(separator: ".")
        }
    }
}

extension SystemThread {
    /// Lets the calling thread stand still; never on a loop's thread.
    package static func pause(microseconds: UInt32) { usleep(microseconds) }
}

extension Mounts {
    /// Mounts a regular file through a loop device that frees itself when its last mount has gone, in whatever namespace that is;
    /// until then the file is mounted through the same one.
    package static func mountFile(
        _ file: String, on target: String, type: String, flags: UInt64 = 0, data: String = ""
    ) throws(Errno) { try check(unsafe al_mount_file(file, target, type, flags, data)) }
}

extension FileDescriptor {
    /// The name of the file system that holds this file, as people write it; a hexadecimal number for rare ones.
    package borrowing func fileSystemName() throws(Errno) -> String {
        var type: UInt64 = 0
        try check(unsafe al_file_system_type(raw, &type))
        let names: [UInt64: String] = [
            0xEF53: "ext4", 0x9123_683E: "btrfs", 0x5846_5342: "xfs", 0x0102_1994: "tmpfs", 0x794C_7630: "overlay",
            0x6969: "nfs", 0xFF53_4D42: "cifs", 0xFE53_4D42: "smb", 0x6573_5546: "fuse", 0x0102_1997: "9p",
            0x2FC1_2FC1: "zfs", 0x4D44: "vfat", 0x2011_BAB0: "exfat", 0x7366_746E: "ntfs3", 0xF2F5_2010: "f2fs",
            0x6A65_6A63: "virtiofs", 0x9FA0: "proc", 0x6265_6572: "sysfs", 0x7371_7368: "squashfs",
            0xE0F5_E1E2: "erofs",
        ]
        return names[type] ?? "0x" + String(type, radix: 16)
    }
}

/// A mounted memory file system (`tmpfs`) whose size can be changed, in whatever namespace it is mounted; it lives at least as long
/// as this.
package final class MemoryRoom: Sendable {
    private let descriptor: FileDescriptor

    /// Takes hold of the file system that is mounted at a place. Needs root.
    ///
    /// - Parameter place: the root of the mount; nobody may look up its name for the caller who does not trust who made it.
    /// - Throws: the kernel's refusal; before Linux 5.4 always.
    package init(at place: borrowing FileDescriptor) throws(Errno) {
        descriptor = try FileDescriptor(checking: al_memory_room(place.raw))
    }

    /// Changes how many bytes it may hold, as if it had been mounted so.
    ///
    /// - Throws: `EINVAL` when more is in it.
    package func resize(to bytes: UInt64) throws(Errno) { try check(al_memory_room_resize(descriptor.raw, bytes)) }
}

/// Space limits of btrfs: a folder that is a subvolume, counted and limited on its own.
package enum Btrfs {
    /// Makes a subvolume in a folder.
    package static func makeSubvolume(_ name: String, in folder: borrowing FileDescriptor) throws(Errno) {
        try check(unsafe al_btrfs_make_subvolume(folder.raw, name))
    }
    /// Removes a subvolume with everything in it; the space comes back a little later.
    package static func removeSubvolume(_ name: String, in folder: borrowing FileDescriptor) throws(Errno) {
        try check(unsafe al_btrfs_remove_subvolume(folder.raw, name))
    }
    /// The number of the subvolume that a file lies in.
    package static func subvolumeID(of file: borrowing FileDescriptor) throws(Errno) -> UInt64 {
        var id: UInt64 = 0
        try check(unsafe al_btrfs_subvolume_id(file.raw, &id))
        return id
    }
    /// Starts to count space per subvolume. Idempotent.
    package static func enableQuota(on file: borrowing FileDescriptor) throws(Errno) {
        try check(al_btrfs_enable_quota(file.raw))
    }
    /// Limits what a subvolume may hold, in bytes.
    package static func limit(_ subvolume: UInt64, to bytes: UInt64, on file: borrowing FileDescriptor) throws(Errno) {
        try check(al_btrfs_limit(file.raw, subvolume, bytes))
    }
    /// Forgets the counter of a removed subvolume; `EBUSY` while its files are still being removed.
    package static func forget(_ subvolume: UInt64, on file: borrowing FileDescriptor) throws(Errno) {
        try check(al_btrfs_forget(file.raw, subvolume))
    }
}
