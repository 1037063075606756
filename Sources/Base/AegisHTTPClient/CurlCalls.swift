internal import CCurl

/// The functions that curl calls; each finds its object behind the pointer that it was given.
enum CurlCalls {
    // SAFETY: written once, before anybody can read it, and never freed.
    nonisolated(unsafe) static let table: UnsafePointer<al_curl_events> = {
        let table = UnsafeMutablePointer<al_curl_events>.allocate(capacity: 1)
        unsafe table.initialize(
            to: al_curl_events(
                watch: { client, descriptor, directions in
                    unsafe CurlCalls.engine(client)?.watch(descriptor, directions: directions)
                },
                timer: { client, milliseconds in unsafe CurlCalls.engine(client)?.setTimer(milliseconds) },
                line: { transfer, bytes, count in
                    guard let transfer = unsafe CurlCalls.transfer(transfer) else { return Int32(AL_CURL_STOP) }
                    return unsafe transfer.line(Array(UnsafeBufferPointer(start: bytes, count: count)))
                },
                body: { transfer, bytes, count in
                    guard let transfer = unsafe CurlCalls.transfer(transfer) else { return Int32(AL_CURL_STOP) }
                    return unsafe transfer.body(UnsafeBufferPointer(start: bytes, count: count))
                },
                admits: { transfer, address, port, isOpen in
                    guard let transfer = unsafe CurlCalls.transfer(transfer), let address = unsafe address else {
                        return 0
                    }
                    let text = unsafe String(cString: address)
                    return transfer.admits(text, UInt16(truncatingIfNeeded: port), isOpen: isOpen != 0) ? 1 : 0
                }))
        return unsafe UnsafePointer(table)
    }()

    // SAFETY: an engine frees its client, and a transfer its handle, before it goes itself.
    private static func engine(_ raw: UnsafeMutableRawPointer?) -> CurlEngine? {
        unsafe raw.map { unsafe Unmanaged<CurlEngine>.fromOpaque($0).takeUnretainedValue() }
    }
    static func transfer(_ raw: UnsafeMutableRawPointer?) -> CurlTransfer? {
        unsafe raw.map { unsafe Unmanaged<CurlTransfer>.fromOpaque($0).takeUnretainedValue() }
    }

    /// 0 once the library is ready for use in this process.
    static let started: Int32 = al_curl_start()
}
