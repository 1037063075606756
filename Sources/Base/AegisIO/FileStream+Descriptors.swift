package import LinuxSys

extension FileStream {
    /// Sends copies of descriptors over a Unix socket, with bytes for the receiver to find them by.
    ///
    /// - Parameters:
    ///   - descriptors: 1 to 64; they stay open here.
    ///   - bytes: at least one; the descriptors travel with the first.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package func sendDescriptors(_ descriptors: [Int32], with bytes: [UInt8]) async throws(IOError) {
        precondition(!bytes.isEmpty, "descriptors travel with at least one byte")
        guard watched.beginWriting() else { throw .system(.busy, "writing from two tasks at once") }
        var sent = 0
        while sent == 0 {
            do throws(IOError) {
                if Task.isCancelled { throw .cancelled }
                sent = try await sendStep(descriptors, bytes)
            } catch {
                watched.endWriting()
                throw error
            }
        }
        watched.endWriting()
        try await write(bytes[sent...])
    }

    private func sendStep(_ descriptors: [Int32], _ bytes: [UInt8]) async throws(IOError) -> Int {
        do throws(WatchedDescriptor.Failure) {
            let sent = try watched.perform { descriptor throws(Errno) in
                try descriptor.send(bytes[...], descriptors: descriptors)
            }
            if let sent { return sent }
        } catch { throw error.error("sending descriptors") }
        try await wait(.write, for: "writing")
        return 0
    }

    /// Waits for bytes, and takes the descriptors that came with them.
    ///
    /// - Parameters:
    ///   - buffer: where the bytes are appended.
    ///   - limit: the most descriptors to accept, up to 64; a message with more fails with `EMSGSIZE`.
    /// - Returns: how many bytes came (0 at the end) and the descriptors, in the order they were sent.
    /// - Throws: `IOError` of kind `.system`, `.closed`, `.cancelled` or `.timeout`.
    package func receiveDescriptors(into buffer: inout ByteBuffer, atMost limit: Int) async throws(IOError)
        -> (count: Int, descriptors: ReceivedDescriptors)
    {
        while true {
            if Task.isCancelled { throw .cancelled }
            var received: ReceivedDescriptors?
            let count: Int?
            do throws(WatchedDescriptor.Failure) {
                count = try watched.perform { descriptor throws(Errno) in
                    try unsafe buffer.fill(atMost: 4096) { room throws(Errno) in
                        let result = try unsafe descriptor.receive(into: room, descriptorLimit: limit)
                        received = result.descriptors
                        return result.count
                    }
                }
            } catch { throw error.error("receiving descriptors") }
            if let count, let received { return (count, received) }
            try await wait(.read, for: "reading")
        }
    }
}
