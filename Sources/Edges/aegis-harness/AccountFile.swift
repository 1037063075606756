import AegisChannelEmbedded
import CHarness

/// A file that names users or groups, read again only when it has changed: in gVisor a read takes four system calls,
/// and each of them is dear.
struct AccountFile {
    private var text: [UInt8] = []
    private var stamp: ah_stamp?

    /// The file's bytes, as far as it is a file and not too long; not looked at again where `isKnown` says that nothing has run
    /// that could have changed it since it was read.
    mutating func contents(_ path: StaticString, isKnown: Bool = false) -> [UInt8] {
        if isKnown && stamp != nil { return text }
        let name = terminated(bytes(path))
        var now = ah_stamp()
        guard unsafe ah_file_stamp(name, &now) == 0 else {
            self = AccountFile()
            return []
        }
        if let stamp, stamp.device == now.device, stamp.inode == now.inode, stamp.size == now.size,
            stamp.changed == now.changed, stamp.touched == now.touched
        {
            return text
        }
        text = []
        for limit in [4096, Accounts.fileLimit] {
            var room = [UInt8](repeating: 0, count: limit)
            let count = unsafe ah_read_file(name, &room, limit)
            if count >= 0 {
                text = Array(room[..<count])
                break
            }
        }
        // Kept only while it is small: the harness has to stay so.
        stamp = text.count <= 16 << 10 ? now : nil
        defer { if stamp == nil { text = [] } }
        return text
    }
}
