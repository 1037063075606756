internal import AegisCore

/// An exposed port of a particular instance: what a router needs to know to serve it.
package struct Exposure: Sendable, Equatable {
    /// The instance's id.
    package var instance: String
    package var name: String?
    /// The user whose instance it is.
    package var owner: UInt32
    /// What the instance exposes; `publicPort` is the one that it keeps, 0 until one was found.
    package var spec: ExposeSpec
    /// What the instance's kit wants of a router.
    package var routing: KitRouting?

    /// How long a held connection waits for a woken instance, at most.
    package static let defaultWakeLimit = Duration.seconds(30)
    package var wakeLimit: Duration
    /// The same for an instance that runs already; nil = what the router allows.
    package var runningLimit: Duration? { spec.wait?.duration }

    package init(instance: String, name: String?, owner: UInt32, spec: ExposeSpec) {
        self.instance = instance
        self.name = name
        self.owner = owner
        self.spec = spec
        wakeLimit = spec.wait?.duration ?? Self.defaultWakeLimit
    }

    package var guestPort: UInt16 { spec.guestPort }
    package var publicPort: UInt16 { spec.publicPort }
    package var address: String { spec.address.description }
    package var portProtocol: ExposeSpec.PortProtocol { spec.portProtocol }
    package var ui: Bool { spec.ui }
    package var wake: ExposeSpec.WakeRule { spec.wake }
    package var cooldown: Duration? { spec.cooldown?.duration }
    package var readiness: ExposeSpec.Readiness { spec.ready }
}
