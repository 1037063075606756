/// Bounds that hold for every sandbox, whichever backend runs it and whatever image it starts from.
package enum SandboxBounds {
    /// User and group ids of one sandbox: 0 to 65,535. A file of any other owner could not be reached inside.
    package static let ids: UInt32 = 65_536
    /// Read-only layers that are mounted below one writable layer.
    ///
    /// Overlayfs takes 500, but each layer costs the daemon and the keeper descriptors, of which a process may usually have
    /// 1,024; other tools that run images stop at about this number too. The keeper refuses more as well.
    package static let layers = 128
    /// Layers that an image may have: one more may be needed that restores attributes of directories.
    package static let imageLayers = layers - 1
}
