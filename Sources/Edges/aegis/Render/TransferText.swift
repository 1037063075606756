package import AegisTar

/// What copying did, as text.
package enum TransferText {
    /// `report.pdf -> out (3 files, 12.4 KiB)`, with what was left out.
    package static func report(_ report: TarReport, from source: String, to destination: String) -> String {
        let files = "\(report.files) \(report.files == 1 ? "file" : "files")"
        var text = "\(Plain.text(source)) -> \(Plain.text(destination)) (\(files), \(Plain.size(report.bytes)))\n"
        for refused in report.refused.prefix(10) {
            text += "  left out \(Plain.text(refused.path)): \(Plain.text(refused.reason))\n"
        }
        if report.refusedCount > 10 {
            text += "  left out \(report.refusedCount - min(10, report.refused.count)) more\n"
        }
        return text
    }
}
