import AegisChannelEmbedded
import CHarness

/// `aegis-harness`: PID 1 of a sandbox. `aegis-harness keep`: the keeper of one, on the host.
@main
enum Main {
    static func main() {
        ah_tune_memory()
        let arguments = unsafe ah_argument(1).map { unsafe bytes(at: $0) } ?? []
        if arguments == bytes("--version") {
            let line = buildText + bytes(" (protocol ") + bytes(Int(Channel.version)) + bytes(")\n")
            _ = unsafe ah_write_all(1, line, line.count)
        } else if arguments == bytes("keep") {
            Keeper().run()
        } else if arguments.isEmpty {
            let odd = ah_prepare_harness()
            var quirks: UInt8 = 0
            if odd & Int(AH_ODD_AUTOMOUNT) != 0 { quirks |= Hello.refusesNoAutomount }
            if odd & Int(AH_ODD_CLONE3) != 0 { quirks |= Hello.forbidsClone3 }
            Harness(quirks: quirks).run()
        } else {
            log(bytes("usage: aegis-harness [keep | --version]"))
            ah_exit(2)
        }
    }
}
