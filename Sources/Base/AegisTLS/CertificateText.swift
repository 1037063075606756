internal import COpenSSL

/// Certificates in PEM, as somebody has written them down.
package enum CertificateText {
    /// How many there are in a text; other blocks in it, such as keys, are passed over.
    ///
    /// - Returns: nil when one of them cannot be read.
    package static func count(in pem: [UInt8]) -> Int? {
        let count = unsafe pem.withUnsafeBytes { bytes in
            unsafe al_tls_count_certificates(bytes.assumingMemoryBound(to: CChar.self).baseAddress, bytes.count)
        }
        return count < 0 ? nil : Int(count)
    }
}
