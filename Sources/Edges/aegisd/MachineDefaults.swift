internal import AegisBackends
internal import AegisCore
internal import AegisSandboxTypes

/// What holds where the configuration says nothing and no constant can, because it depends on the machine (decision D38).
struct MachineDefaults: Sendable {
    /// Limits of instances that name none.
    let limits: Limits
    /// What sandboxes that are kept ready may use together, and what must stay free beside them.
    let warmMemory: ByteSize
    let warmReserve: ByteSize
    let diskReserve = DiskReserve()

    /// The defaults of a machine with so many bytes of RAM.
    init(totalMemory: UInt64) {
        limits = Limits(memory: ByteSize(min(2 << 30, totalMemory / 2)), pids: 1024)
        warmMemory = ByteSize(max(64 << 20, totalMemory / 8))
        warmReserve = ByteSize(min(1 << 30, totalMemory / 10))
    }

    /// Adds what holds for the keys that nothing set, so that a report names every key.
    func complete(_ values: [ConfigurationReport.Value], home: String) -> [ConfigurationReport.Value] {
        let standard = [
            ("instances.limits.cpus", "all"), ("instances.limits.disk", "none"),
            ("instances.limits.memory", Self.text(limits.memory)),
            ("instances.limits.pids", limits.pids.map { "\($0)" } ?? "none"),
            ("instances.warm_memory", Self.text(warmMemory)), ("instances.warm_reserve", Self.text(warmReserve)),
            (
                "instances.disk_reserve",
                "\(Int(diskReserve.share * 100))% of the disk, at most \(ByteSize(diskReserve.most))"
            ),
        ].map { ConfigurationReport.Value(key: $0.0, value: $0.1, origin: "default") }
        let token = ConfigurationReport.Value(key: "network.token", value: "•••", origin: "\(home)/token")
        let set = Set(values.map(\.key))
        return (values + (standard + [token]).filter { !set.contains($0.key) }).sorted { $0.key < $1.key }
    }

    /// In whole mebibytes: a share of the machine is no round number of bytes.
    private static func text(_ size: ByteSize?) -> String {
        size.map { "\(ByteSize(($0.bytes >> 20) << 20))" } ?? "none"
    }
}

extension ConfigurationReport {
    /// The same with the ports that are listened on, where those are not the ones that were asked for.
    ///
    /// - Parameter addresses: `HOST:PORT` by what listens there: `api`, `router`.
    /// - Returns: the report of a running daemon.
    func listening(on addresses: [String: String]) -> ConfigurationReport {
        let places = ["network.port": "api", "network.router_port": "router"]
        return ConfigurationReport(
            values: values.map { value in
                guard let address = places[value.key].flatMap({ addresses[$0] }),
                    let port = address.split(separator: ":").last.map(String.init), port != value.value
                else { return value }
                let why = value.value == "0" ? "\(value.origin): 0" : "--ports auto: \(value.value) is taken"
                return Value(key: value.key, value: port, origin: why)
            })
    }
}
