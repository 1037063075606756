package import AegisCore

/// Where programs inside an instance reach Aegis: a port of the instance's own loopback, or nowhere (decision D21).
package enum GuestAPISetting: Sendable, Equatable, Codable, CustomStringConvertible {
    case off
    /// 1 to 65535.
    case port(UInt16)

    /// What holds when nobody says anything.
    package static let standard = GuestAPISetting.port(7777)

    /// The port; nil when there is none.
    package var port: UInt16? {
        switch self {
        case .off: nil
        case .port(let port): port
        }
    }

    /// Reads `off`, or a port.
    ///
    /// - Throws: `invalid-argument` for anything else.
    package init(parsing text: String) throws(AegisError) {
        if text == "off" {
            self = .off
        } else if let port = UInt16(text), port > 0 {
            self = .port(port)
        } else {
            throw .usage("'\(text)' is no port for the guest API", hint: "write a port from 1 to 65535, or off")
        }
    }

    package init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        if let port = try? value.decode(Int.self) {
            try self.init(parsing: String(port))
        } else {
            try self.init(parsing: try value.decode(String.self))
        }
    }

    package func encode(to encoder: any Encoder) throws {
        var value = encoder.singleValueContainer()
        switch self {
        case .off: try value.encode("off")
        case .port(let port): try value.encode(port)
        }
    }

    package var description: String {
        switch self {
        case .off: "off"
        case .port(let port): "\(port)"
        }
    }
}
