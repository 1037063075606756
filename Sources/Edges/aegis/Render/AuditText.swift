internal import AegisCore
package import AegisJSON

/// Records of the ledger and checks of it as text.
package enum AuditText {
    /// One record, a line.
    package static func record(_ json: JSONValue) -> String {
        if let gap = json["gap"]?.unsigned { return "... \(gap) records were dropped before they could be read\n" }
        var parts = [
            json["time"]?.text ?? "", json["seq"]?.unsigned.map { "\($0)" } ?? "", json["kind"]?.text ?? "",
        ]
        for name in ["agent", "parent", "trace"] {
            if let text = json[name]?.text { parts.append(name == "agent" ? text : "\(name)=\(text)") }
        }
        if let step = json["step"]?.integer { parts.append("step=\(step)") }
        for field in json["fields"]?.fields ?? [] where field.value != .null && field.value != .array([]) {
            parts.append("\(field.name)=\(short(field.value))")
        }
        return Plain.text(parts.joined(separator: "  ")) + "\n"
    }

    private static func short(_ value: JSONValue) -> String {
        let text = value.text ?? String(decoding: value.compact, as: UTF8.self)
        return text.count > 120 ? text.prefix(119) + "…" : text
    }

    /// What `aegis audit head` prints.
    package static func head(_ json: JSONValue) -> String {
        var fields = Fields()
        fields.add("Head", json["head"]?.text)
        fields.add("Key", json["key"]?.text)
        fields.add("Ledger", json["path"]?.text)
        fields.add("Refused", json["obstacle"]?.text)
        return fields.text
    }

    /// What `aegis audit export` prints.
    package static func copy(_ json: JSONValue) -> String {
        var fields = Fields()
        fields.add("Copied to", json["path"]?.text)
        fields.add(
            "Segments", "\(json["segments"]?.integer ?? 0), and seals of \(json["seals"]?.integer ?? 0) earlier ones")
        fields.add("Head", json["head"]?.text)
        return fields.text
    }

    /// What `aegis audit verify` prints.
    package static func check(_ json: JSONValue) -> String {
        let records = json["records"]?.unsigned ?? 0
        let dropped = json["dropped_segments"]?.integer ?? 0
        var text: String
        switch json["status"]?.text {
        case "intact": text = "intact: \(records) records are as they were written\n"
        case "incomplete": text = "incomplete: \(records) records are sound, but not all is here\n"
        default: text = "BROKEN: the ledger is not as it was written\n"
        }
        for fault in json["faults"]?.elements ?? [] {
            let line = fault["line"]?.integer.map { ":\($0)" } ?? ""
            text +=
                "  \(fault["kind"]?.text ?? "")  \(fault["file"]?.text ?? "")\(line)  \(fault["message"]?.text ?? "")\n"
        }
        let shown = json["faults"]?.elements?.count ?? 0
        if let all = json["fault_count"]?.integer, all > shown { text += "  and \(all - Int64(shown)) more faults\n" }
        for gap in json["gaps"]?.elements ?? [] { text += "  missing: \(gap.text ?? "")\n" }
        if dropped > 0 { text += "  \(dropped) old segments were dropped in time; their seals are here\n" }
        for note in json["notes"]?.elements ?? [] { text += "  note: \(note.text ?? "")\n" }
        if let head = json["head"]?.text {
            text += "  head \(head), signed up to record \(json["signed_to"]?.unsigned ?? 0)\n"
        }
        // Names of files are what somebody else may have chosen.
        return text.split(separator: "\n").map { Plain.text(String($0)) + "\n" }.joined()
    }
}
