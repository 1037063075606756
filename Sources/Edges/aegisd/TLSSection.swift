internal import AegisConfig
internal import AegisCore
internal import AegisTLS
internal import LinuxSys

/// `tls`: whom the daemon trusts beside the authorities of the system, wherever it is a client of somebody.
struct TLSSection: ConfigSection {
    static let key = "tls"
    /// A file with certificates of authorities (PEM).
    var authorityFile: String?
    /// What it holds.
    var authorities: [UInt8]?

    init(from reader: ConfigReader) {
        var read: [UInt8]?
        authorityFile = reader.readIfPresent("ca_file") { path in
            do throws(Problem) {
                read = try Self.load(path)
                return nil
            } catch { return error.text }
        }
        authorities = read
    }

    private struct Problem: Error { var text: String }

    private static func load(_ path: String) throws(Problem) -> [UInt8] {
        guard path.hasPrefix("/") else { throw Problem(text: "must be the absolute path of a file") }
        let bytes: [UInt8]
        do { bytes = try Files.read(path, limit: 1 << 20) } catch {
            throw Problem(text: "cannot be read: \(error)")
        }
        guard let count = CertificateText.count(in: bytes) else {
            throw Problem(text: "holds a certificate that cannot be read")
        }
        guard count > 0 else {
            throw Problem(text: "holds no certificate: it must have one at least, as PEM (-----BEGIN CERTIFICATE-----)")
        }
        return bytes
    }
}
