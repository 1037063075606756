package import AegisFiles
internal import AegisSandboxTypes
internal import LinuxSys

/// Files of an instance that are reached on the host, without the instance (decision D51).
extension Instance {
    /// The workspace and the mounts, as `aegis cp` sees them, running or stopped.
    ///
    /// What belongs to a user's folder is touched with the rights of the instance's owner; what Aegis keeps has the ids that
    /// it has inside, and new files there belong to the user that the command runs as.
    ///
    /// - Throws: as a start does, when a folder is not there or not the owner's to use any more.
    package func hostTrees() async throws -> [HostTree] {
        let stored = self.stored
        // Root before the first start, when the image is not known.
        let inside = (user: stored.insideUser ?? 0, group: stored.insideGroup ?? 0)
        let identity =
            stored.info.owner == CurrentProcess.effectiveUser
            ? nil : FileIdentity(user: stored.info.owner, group: stored.ownerGroup)
        return try await HostPlaces(services: services, stored: stored).open().map { place in
            // On the disk its user has the ids of whom it was given to.
            let given = place.givenTo.map { (user: $0.user, group: $0.group) }
            return HostTree(
                target: place.target, root: place.opened, readOnly: place.readOnly,
                owner: place.owner ?? given ?? inside, identity: place.owner == nil ? nil : identity)
        }
    }
}
